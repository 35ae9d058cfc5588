"""Tests and corrections against statsmodels and scipy."""

from __future__ import annotations

import fakes
import numpy as np
import pytest
from scipy import stats
from scored import task
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.significance import (
    SUITE,
    Flips,
    benjamini_hochberg,
    corrected,
    crossed_p,
    holm,
    mcnemar,
    pair_differences,
    sign_flips,
)


def random_task(n=60, seeds=1, metrics=("accuracy",), classes=2, clusters=None, groups_=None, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    right = rng.random((2, seeds, n)) < np.array([0.85, 0.65])[:, None, None]
    return task(labels, np.where(right, labels, (labels + 1) % classes), metrics, classes, clusters, groups_)


def test_mcnemar_is_that_of_statsmodels():
    for seed in range(5):
        one = random_task(seed=seed)
        right = one.predictions[:, 0] == one.labels
        table = [
            [np.sum(right[0] & right[1]), np.sum(right[0] & ~right[1])],
            [np.sum(~right[0] & right[1]), np.sum(~right[0] & ~right[1])],
        ]
        won, lost, p = mcnemar(one, 0, 1)
        assert (won, lost) == (table[0][1], table[1][0])
        assert p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)


def test_mcnemar_refuses_clusters_and_several_seeds():
    assert mcnemar(random_task(seeds=3), 0, 1) is None
    assert mcnemar(random_task(n=60, clusters=np.arange(60) // 6), 0, 1) is None


@pytest.mark.parametrize(
    ("metrics", "classes", "per"), [(("accuracy",), 2, 1), (("f1a", "exact_match"), 2, 6), (("f1_macro",), 3, 1)]
)
def test_differences_flip_their_sign_when_two_methods_swap_a_cluster(metrics, classes, per):
    n = 60
    one = random_task(n, 2, metrics, classes, np.arange(n) // per, np.arange(n) // max(per // 2, 1))
    found = pair_differences(one, [(0, 1)])
    swapped = one.predictions.copy()
    rows = one.clusters == 3
    swapped[:, :, rows] = swapped[::-1][:, :, rows]
    other = pair_differences(task(one.labels, swapped, metrics, classes, one.clusters, one.groups), [(0, 1)])
    signs = np.where(np.arange(found.shape[1]) == 3, -1, 1)
    assert other == pytest.approx(found * signs, abs=1e-6)


def test_differences_sum_to_the_difference_of_accuracies():
    one = random_task(seeds=4)
    right = 100 * (one.predictions == one.labels).mean(axis=(1, 2))
    assert pair_differences(one, [(0, 1)]).sum() == pytest.approx(right[0] - right[1])


def test_exact_sign_flips_are_scipys_permutation_test():
    rng = np.random.default_rng(0)
    for units in (3, 7, 12):
        values = rng.normal(0.5, 1, units)
        found = sign_flips({"t": values[None]}, 100, 0)
        theirs = stats.permutation_test(
            (values, np.zeros(units)), lambda a, b: np.sum(a - b), permutation_type="samples", n_resamples=np.inf
        )  # fmt: skip
        for name in ("t", SUITE):
            assert found[name][0].p == pytest.approx(theirs.pvalue)
            assert found[name][0].units == units


def test_drawn_sign_flips_agree_with_scipys():
    rng = np.random.default_rng(1)
    values = np.where(rng.random(80) < 0.3, rng.choice([-1.0, 1.0], 80, p=[0.35, 0.65]), 0.0)
    found = sign_flips({"t": values[None]}, 20_000, 0)["t"][0]
    theirs = stats.permutation_test(
        (values, np.zeros(80)), lambda a, b: np.sum(a - b), permutation_type="samples", n_resamples=20_000,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found.p == pytest.approx(theirs.pvalue, abs=0.015)
    assert found.units == np.count_nonzero(values)


def test_sign_flips_of_accuracy_agree_with_mcnemar():
    one = random_task(n=300, seed=3)
    assert sign_flips({"t": pair_differences(one, [(0, 1)])}, 50_000, 0)["t"][0].p < 0.001
    one = random_task(n=40, seed=5)
    won, lost, exact = mcnemar(one, 0, 1)
    assert won + lost <= 20
    assert sign_flips({"t": pair_differences(one, [(0, 1)])}, 50_000, 0)["t"][0].p == pytest.approx(exact, abs=0.01)


def test_the_number_of_resamples_is_no_floor_and_the_bound_holds():
    values = np.ones(40)
    found = sign_flips({"t": values[None]}, 200, 0)["t"][0]
    assert found.attainable <= found.p < 1 / 201
    for units in (6, 9, 12):
        exact = 2.0 ** (1 - units)
        assert 2 * np.exp(-units / 2) >= exact


def test_signs_are_drawn_as_ever_and_not_held_all_at_once():
    import tracemalloc

    values = np.random.default_rng(0).normal(0.01, 1, (2, 5_000))
    tracemalloc.start()
    found = sign_flips({"t": values}, 4_000, 0)["t"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "all signs are 20 MB, as they are used 160"
    rng = np.random.default_rng(derive_seed("flips", "t", "0"))
    signs = np.concatenate([rng.integers(0, 2, (rows, 5_000), dtype=np.int8) for rows in [209] * 19 + [29]])
    sums = values @ np.where(signs == 1, 1.0, -1.0).T
    extreme = (np.abs(sums) >= np.abs(values.sum(axis=1))[:, None] - 1e-6).sum(axis=1)
    assert [one.p for one in found] == ((1 + extreme) / 4_001).tolist()


def test_nothing_discordant_gives_p_of_one():
    found = sign_flips({"a": np.zeros((1, 9)), "b": np.zeros((1, 4))}, 50, 0)
    assert found["a"] == found["b"] == found[SUITE] == [Flips(1.0, 0)]
    assert sign_flips({}, 50, 0) == {}


@pytest.mark.parametrize("seed", range(8))
def test_corrections_are_those_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(1 + 2 * seed) ** 3, 2)  # rounded, so that some are equal
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_what_cannot_pass_is_undecidable():
    five, six = Flips(0.1, 5).attainable, Flips(0.1, 6).attainable
    assert Flips(1.0, 0).attainable == 1
    assert (five, six) == (2 / 2**5, 2 / 2**6)
    alone = corrected([0.0625], [five], "holm")[0]
    assert not alone.decidable
    assert corrected([0.5], [six], "holm")[0].decidable
    # Six discordant clusters would do alone, but not among ten comparisons of which none is clear.
    crowd = corrected([0.5] * 10, [six, *[1e-4] * 9], "holm")
    assert [test.decidable for test in crowd] == [False] + [True] * 9


def test_crossed_p_is_students():
    found = crossed_p(Estimate(2.0, 0, 0, 0.8, 5.0))
    assert found == pytest.approx(2 * stats.t.sf(2.5, 5))
    assert crossed_p(Estimate(2.0)) is None
    assert crossed_p(Estimate(0.0, 0, 0, 0.0, 5.0)) == 1


def test_a_small_comparison_is_called_undecidable():
    tiny = fakes.FakeTask("tiny", 12)
    methods = (fakes.FakeMethod("base", 0.85, role="baseline"), fakes.FakeMethod("other", 0.9))
    table = fakes.table((tiny,), methods, (0,))
    line = next(line for line in analyse_selection(select(table, groups(table)[0]), resamples=200).lines if line.versus)
    assert not line.versus.test.decidable
    assert not line.versus.test.significant
    assert line.versus.crossed is None  # one seed
