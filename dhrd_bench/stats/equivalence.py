"""Two one-sided tests: is a figure within a margin, or no worse than it? (Schuirmann 1987)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dhrd_bench.stats.intervals import Estimate, tail


@dataclass(frozen=True)
class Equivalence:
    """p-values of two claims; each holds at 5 % if its p is at most 0.05.

    Attributes
    ----------
    no_worse
        That the figure is above the lower margin (non-inferiority).
    equivalent
        That it is also below the upper margin (TOST).
    """

    no_worse: float
    equivalent: float


def difference_within(difference: Estimate, margin: float) -> Equivalence | None:
    """Test whether a difference in points lies within +-`margin` points; None without a variance."""
    return _within(difference.value, difference, -margin, margin)


def relative_gain_within(gain: Estimate, margin: float) -> Equivalence | None:
    """Test whether a relative gain in % lies within +-`margin` %; None without a variance."""
    return _within(gain.value, gain, -margin, margin)


def ratio_within(ratio: Estimate, margin: float) -> Equivalence | None:
    """Test whether a ratio, whose `se` is of its logarithm, lies within +-`margin` % of 1."""
    return _within(math.log(ratio.value), ratio, math.log1p(-margin / 100), math.log1p(margin / 100))


def _within(value: float, figure: Estimate, low: float, high: float) -> Equivalence | None:
    if not figure.se or figure.df is None:
        return None
    above = tail((value - low) / figure.se, figure.df)
    below = tail((high - value) / figure.se, figure.df)
    return Equivalence(above, max(above, below))
