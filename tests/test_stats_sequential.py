"""Looking after every seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dhrd_bench.errors import UserError
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.sequential import Decision, _levels, boundary, decide, repeated, spent

LOOKS = tuple(range(2, 11))


def p_values(seeds, looks):
    return np.array([stats.ttest_1samp(seeds[:, :look], 0, axis=1).pvalue for look in looks])


def test_boundaries_for_normal_statistics_are_the_published_ones():
    # Lan and DeMets, O'Brien-Fleming spending, five equal looks, two-sided 5 %.
    z = [stats.norm.isf(level / 2) for level in _levels((1, 2, 3, 4, 5), 0.05)]
    assert z == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)


def test_boundaries_spend_what_the_spending_function_says():
    # An independent computation: paths of normal sums, counted.
    looks, alpha = (3, 6, 8, 10), 0.2
    steps = np.random.default_rng(5).normal(size=(400_000, 10))
    sums = np.cumsum(steps, axis=1)
    levels, gone = _levels(looks, alpha), np.zeros(len(sums), dtype=bool)
    for look, level in zip(looks, levels, strict=True):
        gone |= 2 * stats.norm.sf(np.abs(sums[:, look - 1]) / np.sqrt(look)) <= level
        assert gone.mean() == pytest.approx(spent(look / 10, alpha), abs=0.002)
    assert spent(1.0, alpha) == pytest.approx(alpha)


@pytest.mark.parametrize("looks", [LOOKS, (2, 3, 4, 5), (3, 5, 10)])
def test_who_looks_after_every_seed_keeps_the_level_and_who_takes_p_as_it_is_does_not(looks):
    trials = 100_000
    p = p_values(np.random.default_rng(11).normal(size=(trials, looks[-1])), looks)
    levels = np.array([boundary(look, looks) for look in looks])
    error = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert (p <= levels[:, None]).any(axis=0).mean() <= 0.05 + error
    assert (p <= levels[:, None]).any(axis=0).mean() >= 0.045, "and gives nothing away"
    assert (p <= 0.05).any(axis=0).mean() > 0.11


def test_what_all_seeds_share_makes_it_stricter():
    rng = np.random.default_rng(3)
    # Known variance; half of the last look's is that of the test examples, the same at every look.
    shared, seeds = rng.normal(size=(200_000, 1)) * np.sqrt(0.1), rng.normal(size=(200_000, 10))
    mean = shared + np.cumsum(seeds, axis=1) / np.arange(1, 11)
    z = (np.abs(mean) / np.sqrt(0.1 + 1 / np.arange(1, 11)))[:, [look - 1 for look in LOOKS]]
    assert (2 * stats.norm.sf(z) <= [boundary(look, LOOKS) for look in LOOKS]).any(axis=1).mean() < 0.045


def test_a_true_difference_stops_early_and_power_is_nearly_that_of_one_look():
    p = p_values(np.random.default_rng(1).normal(1.2, 1, size=(20_000, 10)), LOOKS)
    stopped = p <= np.array([boundary(look, LOOKS) for look in LOOKS])[:, None]
    assert stopped.any(axis=0).mean() > (p[-1] <= 0.05).mean() - 0.03
    found = stopped.any(axis=0)
    assert np.array(LOOKS)[stopped.argmax(axis=0)[found]].mean() < 8.5


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(2, 12), min_size=2, max_size=6), st.sampled_from([0.01, 0.05]))
def test_levels_rise_and_stay_below_the_whole(numbers, alpha):
    looks = tuple(sorted(numbers))
    levels = [boundary(look, looks, alpha) for look in looks]
    assert levels == sorted(levels)
    assert levels[0] >= 0
    assert levels[-1] < alpha


def test_decisions_follow_the_boundary():
    assert decide(0.03, 2, LOOKS).action == "go on"
    assert decide(boundary(6, LOOKS), 6, LOOKS).action == "stop"
    assert decide(0.01, 10, LOOKS) == Decision("stop", boundary(10, LOOKS))
    assert decide(0.05, 10, LOOKS).action == "give up"
    assert boundary(5, (5,)) == pytest.approx(0.05), "one look is no peeking"


def test_repeated_intervals_hold_together_and_agree_with_the_decision():
    rng, trials = np.random.default_rng(7), 20_000
    seeds = rng.normal(1, 2, size=(trials, 10))
    held = np.ones(trials, dtype=bool)
    for look in LOOKS:
        part = seeds[:, :look]
        mean, se = part.mean(axis=1), stats.sem(part, axis=1)
        one = repeated(Estimate(mean[0], se=se[0], df=look - 1), look, LOOKS)
        half = stats.t.isf(boundary(look, LOOKS) / 2, look - 1)
        assert (one.low, one.high) == pytest.approx((mean[0] - half * se[0], mean[0] + half * se[0]))
        held &= np.abs(mean - 1) <= half * se
        p = 2 * stats.t.sf(abs(mean[0]) / se[0], look - 1)
        assert (decide(p, look, LOOKS).action == "stop") == (not one.low < 0 < one.high)
    assert held.mean() > 0.945
    assert repeated(Estimate(1.0), 5, LOOKS) == Estimate(1.0)


@pytest.mark.parametrize(
    ("look", "looks", "alpha", "said"),
    [
        (4, (2, 3, 5), 0.05, "No look at 4 seeds was planned"),
        (3, (5, 3), 0.05, "Looks at 5, 3 seeds cannot be"),
        (1, (1, 2), 0.05, "Looks at 1, 2 seeds cannot be"),
        (1, (), 0.05, "Looks at no seeds cannot be"),
        (2, (2, 3), 1.5, "A level of 1.5 cannot be used"),
    ],
)
def test_plans_that_cannot_be_are_named(look, looks, alpha, said):
    with pytest.raises(UserError, match=said):
        boundary(look, looks, alpha)
