"""Agreement of the seeds of one method."""

from __future__ import annotations

import itertools

import fakes
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from dhrd_bench.results.schema import TaskInfo
from dhrd_bench.stats.agreement import agreements
from dhrd_bench.stats.design import ABSENT, Grid, TaskGrid
from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.validate_further import run


def grid(predictions, clusters=None, classes=3):
    """Return one method's predictions ``(S, n)`` as a grid of one task."""
    answers = np.asarray(predictions)
    each = np.arange(answers.shape[1])
    info = TaskInfo(labels=[str(k) for k in range(classes)], metrics=["accuracy"])
    seeds = tuple(range(len(answers)))
    task = TaskGrid(
        "t", info, seeds, np.zeros(len(each), dtype=int), answers[None], each if clusters is None else clusters, each
    )
    return Grid(("m",), (task,))


def random_answers(seeds, rows=80):
    rng = np.random.default_rng(seeds)
    shared = rng.integers(-1, 3, rows)
    return np.where(rng.random((seeds, rows)) < 0.6, shared, rng.integers(-1, 3, (seeds, rows)))


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_agreement_and_kappa_are_those_of_others(seeds):
    answers = random_answers(seeds)
    found = agreements(grid(answers), 200, 0)[1]
    pairs = [np.mean(a == b) for a, b in itertools.combinations(answers, 2)]
    assert found.agreement.value == pytest.approx(100 * np.mean(pairs))
    assert found.kappa.value == pytest.approx(fleiss_kappa(aggregate_raters(answers.T + 1)[0]))
    cohen = np.mean([cohen_kappa_score(a, b) for a, b in itertools.combinations(answers, 2)])
    assert found.kappa.value == pytest.approx(cohen, abs=0.02), "near, as seeds answer with like frequencies"
    assert found.seeds == seeds


def test_seeds_that_say_the_same_agree_and_chance_is_no_agreement():
    one = np.random.default_rng(0).integers(0, 3, 500)
    same = agreements(grid([one, one, one]), 200, 0)[1]
    assert (same.agreement.value, same.kappa.value) == (100, 1)
    assert 98 < same.agreement.low < 100, "and 500 rows do not show that they always do"
    luck = agreements(grid(np.random.default_rng(1).integers(0, 3, (3, 2000))), 200, 0)[1]
    assert luck.kappa.low < 0 < luck.kappa.high
    constant = agreements(grid(np.ones((3, 50), dtype=int)), 200, 0)[1]
    assert (constant.agreement.value, constant.kappa) == (100, None)


def test_texts_of_many_rows_and_seeds_that_differ_widen_the_interval():
    answers = random_answers(4, rows=120)
    # The rows of a text are alike; with two seeds there is nothing but the luck of the rows.
    alike = np.repeat(answers[:2, :30], 4, axis=1)
    width = [
        (found.agreement.high - found.agreement.low)
        for found in (
            agreements(grid(alike), 300, 0)[1],
            agreements(grid(alike, np.repeat(np.arange(30), 4)), 300, 0)[1],
        )
    ]
    assert width[1] > 1.5 * width[0]
    odd = answers.copy()
    odd[0] = (odd[0] + 2) % 3  # one seed went another way
    assert agreements(grid(odd), 300, 0)[1].agreement.se > 1.5 * agreements(grid(answers), 300, 0)[1].agreement.se


def test_seeds_that_a_method_lacks_are_none_of_its_seeds():
    answers = random_answers(5)
    short = answers.copy()
    short[[1, 3]] = ABSENT
    assert agreements(grid(short), 200, 0) == agreements(grid(answers[[0, 2, 4]]), 200, 0)
    short[[0, 2]] = ABSENT
    assert agreements(grid(short), 200, 0) == []


def test_the_mean_is_over_the_tasks_with_several_seeds():
    table = fakes.table(seeds=(0, 1, 2))
    found = agreements(select(table, groups(table)[0]).grid, 200, 0)
    own = [one for one in found if one.method == "better"]
    assert [one.task for one in own] == [None, "alpha", "beta", "gamma"]
    assert own[0].agreement.value == pytest.approx(np.mean([one.agreement.value for one in own[1:]]))
    assert own[0].kappa.value == pytest.approx(np.mean([one.kappa.value for one in own[1:]]))
    assert own[0].agreement.se < max(one.agreement.se for one in own[1:])
    single = fakes.table(seeds=(0,))
    assert agreements(select(single, groups(single)[0]).grid, 200, 0) == []


def test_intervals_hold_from_three_seeds_on():
    found = {what: entry for (what, _), entry in run(150, ["agreement"]).items()}
    assert len(found) == 6
    for what, entry in found.items():
        assert entry.band()[1] >= (93 if "2 seeds" not in what else 88), what
