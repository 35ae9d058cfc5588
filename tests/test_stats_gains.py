"""Relative gains: Fieller's set, what it holds and where it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dhrd_bench.stats.intervals import Variance, fieller, quantile, student

positive = st.floats(0.01, 30.0)


def gain(score, base, difference, below, joint=0.0, df=8.0, least=-100.0):
    spread = Variance(difference, 0.0, 0.0, df)
    return fieller(100 * (score - base) / base, base, spread, below, joint, least), student(score - base, spread)


@given(positive, positive, positive, positive, st.floats(-1, 1), st.floats(1, 50))
def test_zero_is_inside_exactly_where_the_difference_is_not_significant(score, base, difference, below, rho, df):
    found, plain = gain(score, base, difference, below, rho * math.sqrt(difference * below), df)
    margin = abs(score - base) / math.sqrt(difference) - quantile(df)
    if abs(margin) > 1e-6:
        assert (found.low <= 0 <= found.high) == (margin < 0) == (plain.low <= 0 <= plain.high)
    assert -100 <= found.low <= found.value <= found.high


def test_the_set_is_that_of_the_tests_it_inverts():
    found, _ = gain(48.0, 40.0, 4.0, 9.0, -1.5)
    for end in (found.low / 100, found.high / 100):
        se = math.sqrt(4.0 + 2 * end * 1.5 + end**2 * 9.0)
        assert abs(8.0 - end * 40.0) / se == pytest.approx(quantile(8.0))


def test_a_base_not_above_zero_leaves_the_upper_end_open():
    found, _ = gain(4.0, 2.0, 9.0, 4.0)
    assert (found.low, found.high) == (-100, math.inf)
    found, _ = gain(30.0, 2.0, 9.0, 4.0)  # more, but nobody knows how much
    assert found.low > 0
    assert found.high == math.inf
    found, _ = gain(0.0, 40.0, 9.0, 9.0, -9.0)
    assert found.low == -100


def test_coverage_and_bounds_with_a_noisy_base():
    """Base 20 with standard error 4: Monte-Carlo band of 95 % in 4,000 is 94.3-95.7."""
    rng = np.random.default_rng(0)
    covariance = np.array([[16.0, 6.0], [6.0, 9.0]])  # of base and method
    hits = 0
    for base, score in rng.multivariate_normal([20.0, 15.0], covariance, 4_000):
        scale = rng.chisquare(12) / 12
        found, _ = gain(score, base, 13.0 * scale, 16.0 * scale, (6.0 - 16.0) * scale, 12.0)
        hits += found.low <= -25 <= found.high
        assert found.low >= -100
    assert 0.943 <= hits / 4_000 <= 0.957


def test_with_a_base_without_error_it_is_students_interval():
    found, plain = gain(44.0, 40.0, 4.0, 0.0)
    assert (found.low, found.high) == pytest.approx((plain.low / 0.4, plain.high / 0.4))
    assert found.se == pytest.approx(2 / 0.4)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 8) * 2 / 0.4)
