"""What a search for settings may expect to find: the best of n trials."""

from __future__ import annotations

import math
from collections.abc import Sequence


def expected_best(scores: Sequence[float]) -> list[float]:
    """Return, for each n, the expected highest score of n trials of which the first is always one.

    Expected validation performance (Dodge et al. 2019, arXiv 1909.03004), the others drawn without replacement: the
    exact mean over all subsets of them, which unlike that with replacement is no underestimate (Tang et al. 2020,
    arXiv 2004.13705). The others have to be drawn at random, independently of each other's outcome.

    Parameters
    ----------
    scores
        ``(N,)``, one at least; the first is that of the settings that are tried first whatever happens.

    Returns
    -------
    list of float
        ``(N,)``, for n = 1 to N.
    """
    first, *others = scores
    # What a trial adds is never less than the first, so this is the plain estimator over these.
    lifted = sorted(max(first, score) for score in others)
    best = [first]
    for draws in range(1, len(lifted) + 1):
        subsets = math.comb(len(lifted), draws)
        # In comb(below, draws - 1) of the subsets the one with so many below it is the highest.
        best.append(math.fsum(math.comb(k, draws - 1) / subsets * score for k, score in enumerate(lifted)))
    return best


def best_so_far(scores: Sequence[float]) -> list[float]:
    """Return the highest of the first n scores for each n, where each trial depends on those before."""
    return [max(scores[: n + 1]) for n in range(len(scores))]


def chance(score: float, rows: int) -> float:
    """Return the standard error of a score in points, had each of `rows` rows been right or wrong by itself."""
    share = score / 100
    return 100 * math.sqrt(share * (1 - share) / rows)
