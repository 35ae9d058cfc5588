"""The bootstrap against a plain loop with the same draws, and its intervals against scipy."""

from __future__ import annotations

import dataclasses

import fakes
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from dhrd_bench.stats.bootstrap import Replicates, cluster_weights, resample, seed_weights
from dhrd_bench.stats.intervals import bca, percentile, quantile, student, tail, variance, wilson
from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.suite import Scored, SuiteScores


def grid(tasks=fakes.SMALL, methods=fakes.THREE, seeds=(0, 1, 2)):
    table = fakes.table(tasks, methods, seeds)
    return select(table, groups(table)[0]).grid


def one_metric(name, task, rows, predictions):
    labels = task.labels[rows]
    predictions = predictions[rows]
    if name == "accuracy":
        return np.mean(predictions == labels)
    if name == "f1_macro":
        return f1_score(labels, predictions, labels=range(task.classes), average="macro", zero_division=0)
    if name == "f1a":
        return f1_score(labels == 1, predictions == 1, zero_division=0)
    right = predictions == labels
    return np.mean([all(right[start : start + 3]) for start in range(0, len(rows), 3)])  # a question has three rows


def test_replicates_are_those_of_a_plain_loop_with_the_same_draws():
    resamples = 40
    for task in grid().tasks:
        found = resample(task, resamples, seed=3)
        weights = np.concatenate(list(cluster_weights(task.name, task.n_clusters, resamples, 3)))
        seeds = seed_weights(task.name, len(task.seeds), resamples, 3)
        for r in range(resamples):
            rows = np.concatenate(
                [np.flatnonzero(task.clusters == c) for c in range(task.n_clusters) for _ in range(int(weights[r, c]))]
            )
            for m in range(len(task.predictions)):
                total = 0.0
                for s in range(len(task.seeds)):
                    parts = [one_metric(name, task, rows, task.predictions[m, s]) for name in task.info.metrics]
                    value = 100 * float(np.mean(parts))
                    assert found.draws[m, s, r] == pytest.approx(value, abs=1e-12)
                    total += seeds[s, r] * value
                assert found.two_level()[m, r] == pytest.approx(total / len(task.seeds), abs=1e-12)


def test_points_are_the_metrics_of_the_rows():
    for task in grid().tasks:
        rows = np.arange(len(task.labels))
        found = resample(task, 1)
        for m in range(3):
            for s in range(3):
                parts = [one_metric(name, task, rows, task.predictions[m, s]) for name in task.info.metrics]
                assert found.point[m, s] == pytest.approx(100 * float(np.mean(parts)), abs=1e-12)


def test_draws_have_the_right_sums_and_do_not_depend_on_the_number_drawn():
    few = np.concatenate(list(cluster_weights("t", 3270, 400, 0)))
    many = np.concatenate(list(cluster_weights("t", 3270, 700, 0)))
    assert few.sum(axis=1) == pytest.approx(3270)
    whole = len(next(iter(cluster_weights("t", 3270, 700, 0))))
    assert np.array_equal(few[:whole], many[:whole])
    assert np.array_equal(seed_weights("t", 5, 50, 1), seed_weights("t", 5, 50, 1))
    assert not np.array_equal(seed_weights("t", 5, 50, 1), seed_weights("t", 5, 50, 2))
    assert seed_weights("t", 5, 50, 1).sum(axis=0) == pytest.approx(5)
    assert few.mean() == pytest.approx(1)
    assert few.var() == pytest.approx(1 - 1 / 3270, rel=0.01)


def test_percentile_and_bca_are_scipys():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=40)
    for method, ours in (("percentile", None), ("BCa", "bca")):
        theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, method=method, rng=np.random.default_rng(1))
        draws = theirs.bootstrap_distribution
        jackknife = np.array([np.delete(values, i).mean() for i in range(len(values))])
        found = bca(values.mean(), draws, jackknife) if ours else percentile(draws)
        assert found == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)


def test_bca_falls_back_on_the_percentile_interval():
    assert bca(1.0, np.ones(10), np.ones(5)) == percentile(np.ones(10))
    assert bca(2.0, np.ones(10), np.ones(5)) == percentile(np.ones(10))


def test_the_bootstrap_of_one_seed_agrees_with_scipy():
    task = grid(fakes.SMALL[1:2], seeds=(0,)).tasks[0]
    ours = resample(task, 20_000).draws[0, 0]
    right = 100.0 * (task.predictions[0, 0] == task.labels)
    theirs = stats.bootstrap((right,), np.mean, n_resamples=20_000, rng=np.random.default_rng(0))
    assert ours.std() == pytest.approx(theirs.standard_error, rel=0.03)


def part(seeds, draws, clusters):
    """Take the moments of one method's seeds ``(S,)`` and draws ``(S, R)``."""
    found = Replicates(grid(fakes.SMALL[1:2]).tasks[0], seeds[None], draws[None], np.ones_like(draws))
    return dataclasses.replace(Scored.of(found).part(np.ones(1)), clusters=clusters, floor=0.0)


def test_variance_of_a_crossed_design_is_that_of_its_parts():
    rng = np.random.default_rng(0)
    clusters, seeds = 400, 6
    totals = []
    for _ in range(60):
        example = rng.normal(0, 1, clusters)
        seed = rng.normal(0, 0.1, seeds)
        values = example + seed[:, None] + rng.normal(0, 1.5, (seeds, clusters))
        weights = np.concatenate(list(cluster_weights("v", clusters, 500, int(rng.integers(10**6)))))
        draws = values @ weights.T / clusters
        totals.append(variance([part(values.mean(axis=1), draws, clusters)]))
    assert np.mean([v.examples for v in totals]) == pytest.approx((1 + 2.25 / seeds) / clusters, rel=0.05)
    assert np.mean([v.interaction for v in totals]) == pytest.approx(2.25 / seeds / clusters, rel=0.05)
    assert np.mean([v.seeds for v in totals]) == pytest.approx(0.01 / seeds, rel=0.25)


def test_with_seeds_alone_the_interval_is_the_t_interval():
    values = np.array([70.0, 72.0, 75.0, 71.0])
    found = student(values.mean(), variance([part(values, np.repeat(values[:, None], 100, axis=1), 50)]))
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_wilson_is_the_textbook_interval_at_the_binomial_variance():
    n, right = 56, 50
    share = right / n
    examples = np.repeat([[1.0], [0.0]], [right, n - right], axis=0)
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=200_000)
    found = variance([part(np.array([100 * share]), 100 * (weights @ examples).T / n, n)])
    ours = wilson(100 * share, found, n)
    theirs = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert (ours.low / 100, ours.high / 100) == pytest.approx(
        (theirs.low, theirs.high), abs=0.006
    )  # t for z, n - 1 for n


def test_a_perfect_score_still_has_an_interval():
    task = fakes.FakeTask("perfect", 56)
    suite = SuiteScores.of(
        grid((task,), (fakes.FakeMethod("a", 1.0, role="baseline"), fakes.FakeMethod("b", 1.0))), 300, 0
    )
    found = suite.score(0)
    assert found.value == 100
    assert found.high == 100
    assert 92 < found.low < 95
    gain = suite.gain(1, 0)
    assert gain.value == 0
    assert gain.low < -1
    assert gain.high > 1


def test_student_quantiles_are_scipys():
    assert quantile(7.3) == pytest.approx(stats.t.ppf(0.975, 7.3))
    assert quantile(float("inf")) == pytest.approx(stats.norm.ppf(0.975))
    assert tail(1.3, 4.2) == pytest.approx(stats.t.sf(1.3, 4.2))
    assert tail(1.3, float("inf")) == pytest.approx(stats.norm.sf(1.3))
