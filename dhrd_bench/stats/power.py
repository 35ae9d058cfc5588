"""What a comparison could have found, and what it would take to find what was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from dhrd_bench.stats.intervals import Estimate, Variance

POWER = 0.8


@dataclass(frozen=True)
class Needed:
    """What would give 80 % power for the difference seen, one thing changed at a time.

    Attributes
    ----------
    seeds
        Seeds in all; None if no number of them suffices, or a single seed was run.
    examples
        By how much the test sets would have to grow (below 1: shrink); None if no growth suffices.
    """

    seeds: int | None
    examples: float | None


def _quantiles(df: float, alpha: float) -> float:
    levels = (1 - alpha / 2, POWER)
    return float(sum(ndtri(level) if math.isinf(df) else stdtrit(df, level) for level in levels))


def detectable(difference: Estimate, alpha: float = 0.05) -> float | None:
    """Return the smallest true difference found with 80 % power by a two-sided test at `alpha`.

    ``(t_{1 - alpha/2} + t_{0.8}) * se`` at the discordance and the seed variance seen, uncorrected.
    """
    if difference.se is None or difference.df is None:
        return None
    return _quantiles(difference.df, alpha) * difference.se


def needed(difference: float, spread: Variance, seeds: int, alpha: float = 0.05) -> Needed:
    """Return the seeds or examples that would show `difference` with 80 % power (normal approximation)."""
    if difference == 0:
        return Needed(None, None)
    target = (difference / _quantiles(math.inf, alpha)) ** 2
    by_seed = spread.seeds + spread.interaction
    fixed = spread.examples - spread.interaction
    more_seeds = None
    if seeds > 1 and target > fixed:
        more_seeds = max(2, math.ceil(seeds * by_seed / (target - fixed)))
    more_examples = spread.examples / (target - spread.seeds) if target > spread.seeds else None
    return Needed(more_seeds, more_examples)
