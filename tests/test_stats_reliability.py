"""Reliability diagrams: the bins by counting, their intervals by other ways of computing them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import task
from statsmodels.stats.proportion import proportion_confint

from dhrd_bench.stats.calibration import BINS, calibrations
from dhrd_bench.stats.probabilities import Probabilities
from dhrd_bench.stats.reliability import reliability


def answered(sure, right, clusters=None) -> Probabilities:
    """A method with two classes: how sure it was, `(S, n)`, of answers that are `right`."""
    sure, right = np.atleast_2d(sure), np.atleast_2d(right)
    labels = np.arange(right.shape[1]) % 2
    answers = np.where(right, labels, 1 - labels)
    values = np.where(np.arange(2) == answers[..., None], sure[..., None], 1 - sure[..., None])
    return Probabilities(task(labels, answers[None], ["accuracy"], 2, clusters), values[None], {})


def honest(rng, rows, seeds=1, rows_a_cluster=1):
    """Answers that are right as often as they are sure; the rows of a cluster have luck in common, and all seeds."""
    sure = np.clip(rng.uniform(0.5, 0.9, rows) + rng.normal(0, 0.02, (seeds, rows)), 0.5, 0.93)
    clusters = np.arange(rows) // rows_a_cluster
    return answered(sure, rng.random(clusters[-1] + 1)[clusters] < sure, clusters)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(50, 100), st.booleans()), min_size=2, max_size=30))
def test_bins_are_what_counting_gives(rows: list[tuple[int, bool]]) -> None:
    bins = reliability([answered([share / 100 for share, _ in rows], [good for _, good in rows])], 0)
    assert sum(each.share for each in bins) == pytest.approx(1)
    assert sum(each.share * each.right.value for each in bins) == pytest.approx(np.mean([good for _, good in rows]))
    assert sum(each.share * each.sure for each in bins) == pytest.approx(np.mean([share for share, _ in rows]) / 100)
    assert [each.sure for each in bins] == sorted(each.sure for each in bins)
    for each in bins:
        assert 0 <= each.right.low <= each.right.value <= each.right.high <= 1
        assert each.right.low < each.right.high


def test_tasks_count_alike_and_the_gaps_are_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    tasks = [honest(rng, 60), honest(rng, 240)]
    both = reliability(tasks, 0)
    alone = [reliability([each], 0) for each in tasks]
    for name in ("share", "right"):
        means = [
            np.mean([sum(b.share * (1 if name == "share" else b.right.value) for b in bins if b.sure > 0.8)
                     for bins in alone])
        ]  # fmt: skip
        ours = sum(b.share * (1 if name == "share" else b.right.value) for b in both if b.sure > 0.8)
        assert ours == pytest.approx(means[0])
    for one, bins in zip(tasks, alone, strict=True):
        (wanted,) = (c for c in calibrations([one], ("m",), None, 100, 0) if c.task is None)
        assert sum(b.share * abs(b.sure - b.right.value) for b in bins) == pytest.approx(wanted.figures["ece"].value)


def test_independent_rows_have_wilsons_interval() -> None:
    given_ = honest(np.random.default_rng(1), 3000)
    (sure,), (right,) = given_.answers(0)
    for each in reliability([given_], 0):
        place = np.ceil(each.sure * BINS) - 1
        inside = np.ceil(sure * BINS) - 1 == place
        ends = proportion_confint(right[inside].sum(), inside.sum(), method="wilson")
        assert (each.right.low, each.right.high) == pytest.approx(ends, abs=1e-3)


def test_clusters_have_the_standard_error_that_drawing_them_has() -> None:
    rng = np.random.default_rng(2)
    tasks = [honest(rng, 600, rows_a_cluster=6), honest(rng, 300, rows_a_cluster=3)]
    sizes, goods = np.zeros((2, 2000, BINS))
    for one in tasks:
        (sure,), (right,) = one.answers(0)
        drawn = rng.multinomial(100, np.full(100, 0.01), 2000)[:, one.task.clusters] / len(sure)
        inside = np.eye(BINS)[np.ceil(sure * BINS).astype(int) - 1]
        sizes += drawn @ inside
        goods += drawn @ (inside * right[:, None])
    # Where nearly all are right the variance has a floor, which is not drawn.
    found = [each for each in reliability(tasks, 0) if each.right.value < 0.9]
    assert len(found) > 4
    at = [int(np.ceil(each.sure * BINS)) - 1 for each in found]
    wanted = (goods[:, at] / sizes[:, at]).std(axis=0)
    assert [each.right.se for each in found] == pytest.approx(wanted, rel=0.15)


def test_seeds_that_answer_alike_are_no_more_evidence_and_seeds_that_differ_are_uncertain() -> None:
    one = honest(np.random.default_rng(3), 400)
    sure, right = one.answers(0)
    again = reliability([answered(np.repeat(sure, 3, axis=0), np.repeat(right, 3, axis=0))], 0)
    for alone, thrice in zip(reliability([one], 0), again, strict=True):
        assert (thrice.right.low, thrice.right.high) == pytest.approx((alone.right.low, alone.right.high))
    # A seed at which everything is right beside one at which half is: the rows tell little of a third.
    halves = np.arange(400) % 4 < 2
    unlike = reliability([answered(np.repeat(sure, 2, axis=0), np.stack([halves, np.ones(400, dtype=bool)]))], 0)
    for alone, apart in zip(reliability([one], 0), unlike, strict=True):
        assert apart.right.high - apart.right.low > 2 * (alone.right.high - alone.right.low)


def test_intervals_hold() -> None:
    rng = np.random.default_rng(4)
    kept = {kind: [0, 0] for kind in product((1, 3), (1, 4))}
    for (seeds, size), counts in kept.items():
        for _ in range(40):
            for each in reliability([honest(rng, 240, seeds, size), honest(rng, 120, seeds, size)], 0):
                counts[0] += each.right.low <= each.sure <= each.right.high
                counts[1] += 1
    for (seeds, size), (hits, of) in kept.items():
        assert hits / of > 0.92, (seeds, size)


def test_rows_of_one_text_have_no_interval() -> None:
    given_ = answered([0.6, 0.7, 0.9], [True, False, True], clusters=[0, 0, 0])
    assert {each.right.low for each in reliability([given_], 0)} == {None}
