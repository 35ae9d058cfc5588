"""Ranks, robust aggregates, power and equivalence."""

from __future__ import annotations

import math

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.bootstrap import resample
from dhrd_bench.stats.equivalence import ratio_within, relative_gain_within
from dhrd_bench.stats.intervals import Estimate, Variance
from dhrd_bench.stats.power import detectable, needed
from dhrd_bench.stats.ranking import (
    _range_quantile,
    critical_difference,
    interquartile_mean,
    probability_of_improvement,
    rank_intervals,
    tied_sets,
)
from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.suite import SuiteScores


def suite(tasks=fakes.SMALL, methods=fakes.THREE, seeds=(0, 1, 2, 3)):
    table = fakes.table(tasks, methods, seeds)
    return SuiteScores.of(select(table, groups(table)[0]).grid, 400, 0)


def flags(count, pairs):
    found = np.zeros((count, count), dtype=bool)
    for better, worse in pairs:
        found[better, worse] = True
    return found


def test_ranks_and_ties_of_a_chain():
    # 0 beats 2; 1 is tied with both: no letter is shared by 0 and 2.
    better = flags(3, [(0, 2)])
    assert rank_intervals(better) == [(1, 2), (1, 3), (2, 3)]
    assert tied_sets(better, np.array([0, 1, 2])) == ["a", "ab", "b"]
    assert tied_sets(flags(3, []), np.array([0, 1, 2])) == ["a", "a", "a"]
    assert tied_sets(flags(2, [(1, 0)]), np.array([1, 0])) == ["b", "a"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10**6))
def test_letters_are_shared_exactly_by_the_tied(count, seed):
    rng = np.random.default_rng(seed)
    better = np.triu(rng.random((count, count)) < 0.4, 1)
    letters = tied_sets(better, np.arange(count))
    ranks = rank_intervals(better)
    for i in range(count):
        assert 1 <= ranks[i][0] <= ranks[i][1] <= count
        for j in range(count):
            assert bool(set(letters[i]) & set(letters[j])) == (i == j or not (better[i, j] or better[j, i]))


def test_interquartile_mean_is_the_trimmed_mean():
    found = suite()
    for method in range(3):
        cells = np.concatenate([task.point[method] for task in found.tasks])
        ours = interquartile_mean(found, method)
        assert ours.value == pytest.approx(stats.trim_mean(cells, 0.25))
        assert ours.low <= ours.value <= ours.high


def test_probability_of_improvement_is_mann_whitneys():
    found = suite()
    expected = []
    for task in found.tasks:
        u = stats.mannwhitneyu(task.point[1], task.point[0]).statistic
        expected.append(u / (len(task.seeds) ** 2))
    assert probability_of_improvement(found, 1, 0).value == pytest.approx(np.mean(expected))
    assert probability_of_improvement(found, 0, 0).value == pytest.approx(0.5)


def test_critical_difference_is_nemenyis():
    found = suite()
    data = critical_difference(found)
    scores = np.array([task.point.mean(axis=1) for task in found.tasks])
    ranks = np.mean([stats.rankdata(-row) for row in scores], axis=0)
    assert list(data.ranks.values()) == pytest.approx(ranks)
    q = stats.studentized_range.ppf(0.95, 3, np.inf) / math.sqrt(2)
    assert data.difference == pytest.approx(q * math.sqrt(3 * 4 / (6 * 3)), rel=1e-6)
    assert _range_quantile(10) == pytest.approx(stats.studentized_range.ppf(0.95, 10, np.inf), rel=1e-6)
    assert critical_difference(suite(fakes.SMALL[:1])) is None


def test_detectable_difference_is_mcnemars_for_one_seed():
    task = suite(fakes.SMALL[1:2], seeds=(0,))
    difference = task.difference(1, 0)
    right = task.tasks[0].task.predictions[:, 0] == task.tasks[0].task.labels
    n = right.shape[1]
    gap = right[1].astype(float) - right[0]
    # Connor 1987 with the discordance seen, both quantiles on the same standard error.
    se = 100 * math.sqrt(gap.var(ddof=1) / n)
    expected = (stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)) * se
    assert detectable(difference) == pytest.approx(expected, rel=0.1)
    assert detectable(Estimate(1.0)) is None


def test_a_difference_as_large_as_detectable_is_found_in_four_of_five():
    rng = np.random.default_rng(0)
    se, df = 1.3, 20.0
    found = Estimate(0.0, 0, 0, se, df)
    shift = detectable(found)
    t = (shift + rng.normal(0, se, 100_000)) / (se * np.sqrt(rng.chisquare(df, 100_000) / df))
    assert np.mean(t > stats.t.ppf(0.975, df)) == pytest.approx(0.8, abs=0.01)


def test_needed_seeds_and_examples_would_give_the_power():
    seen = Variance(examples=1.0, interaction=0.4, seeds=0.5, df=20)
    found = needed(2.5, seen, seeds=5)
    # Excluding a difference by two one-sided tests takes more than finding it.
    quantiles = stats.norm.ppf(0.95) + stats.norm.ppf(0.9)
    target = (2.5 / quantiles) ** 2
    assert 0.6 + 0.9 * 5 / found.seeds <= target < 0.6 + 0.9 * 5 / (found.seeds - 1)
    assert 1.0 / found.examples + 0.5 == pytest.approx(target)
    assert needed(0.1, seen, 5).seeds is None
    assert needed(0.1, seen, 5).examples is None
    assert needed(2.5, seen, 1).seeds is None


def test_more_comparisons_need_more_to_be_found_and_no_more_to_be_excluded():
    seen = Variance(examples=1.0, interaction=0.4, seeds=0.5, df=20)
    alone = needed(2.5, seen, 5)
    assert needed(2.5, seen, 5, alpha=0.04) == alone, "to exclude it takes the most, and is not corrected"
    target = (4.0 / (stats.norm.ppf(1 - 0.005 / 2) + stats.norm.ppf(0.8))) ** 2
    assert needed(4.0, seen, 5, alpha=0.005).examples == pytest.approx(1.0 / (target - 0.5))


def test_what_a_report_says_is_needed_is_for_the_tests_that_it_makes():
    methods = [fakes.FakeMethod("base", 0.8, role="baseline")]
    methods += [fakes.FakeMethod(f"m{i}", 0.6 + 0.05 * i) for i in range(5)]
    table = fakes.table(methods=methods, seeds=range(5))
    found = analyse_selection(select(table, groups(table)[0]), resamples=200, margin=20)
    suite, base = found.suite, found.suite.methods.index("base")
    for line in found.lines:
        if line.versus is None:
            continue
        pair = np.zeros(6)
        pair[suite.methods.index(line.method)], pair[base] = 1 / 3, -1 / 3
        spread, points = suite.variance(dict.fromkeys(suite.every, pair)), 0.2 * suite.mean(base)
        find = stats.norm.ppf(1 - 0.05 / 5 / 2) + stats.norm.ppf(0.8)
        assert line.versus.needed.examples == pytest.approx(spread.examples / ((points / find) ** 2 - spread.seeds))


def test_equivalence_is_tost():
    rng = np.random.default_rng(0)
    values = rng.normal(0.2, 1.0, 30)
    theirs, (lower, *_), _ = ttost_paired(values, np.zeros(30), -0.8, 0.8)
    gain = Estimate(values.mean(), None, None, stats.sem(values), 29)
    ours = relative_gain_within(gain, 0.8)
    assert ours.equivalent == pytest.approx(theirs)
    assert lower > 0
    assert ours.no_worse == pytest.approx(stats.t.sf((values.mean() + 0.8) / stats.sem(values), 29))
    assert relative_gain_within(Estimate(1.0), 0.8) is None


def test_a_ratio_is_tested_by_its_logarithm():
    ours = ratio_within(Estimate(1.01, 0.99, 1.03, 0.01, 12.0), 5)
    assert ours.equivalent == pytest.approx(stats.t.sf((math.log(1.05) - math.log(1.01)) / 0.01, 12))


def test_the_margin_of_a_report_names_the_claims():
    table = fakes.table()
    lines = analyse_selection(select(table, groups(table)[0]), resamples=200, margin=10).lines
    claims = {line.method: set(line.equivalence) for line in lines}
    assert claims["better"] == {"score as base", "score as slow", "QPS as base"}
    assert claims["base"] == {"score as slow"}
    better = next(line for line in lines if line.method == "better")
    assert better.equivalence["QPS as base"].equivalent < 0.05
    assert better.equivalence["score as slow"].no_worse < 0.05


def test_contrasts_are_read_off_the_moments():
    one = suite().tasks[0]
    draws = resample(one.task, 400, 0).draws
    weights = np.array([-1.0, 1.5, 0.0])
    contrast = np.einsum("m,msr->sr", weights, draws)
    found = one.part(weights)
    assert found.examples == pytest.approx(contrast.mean(axis=0).var())
    assert found.interaction == pytest.approx((contrast - contrast.mean(axis=0)).var(axis=1).sum() / 3)
    assert found.square == pytest.approx((weights @ one.point).var(ddof=1))
