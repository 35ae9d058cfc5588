"""What a comparison could have found, and what it takes to find or exclude a difference of a given size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from dhrd_bench.stats.intervals import Estimate, Part, Variance, variance
from dhrd_bench.stats.significance import ALPHA

POWER = 0.8


@dataclass(frozen=True)
class Needed:
    """What would find a difference of a given size, or exclude it, with 80 % power; one thing changed at a time.

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


def detectable(difference: Estimate, alpha: float = ALPHA, most: float = 100.0) -> float | None:
    """Return the smallest true difference found with 80 % power by a two-sided test at `alpha`.

    ``(t_{1 - alpha/2} + t_{0.8}) * se`` at the discordance and the seed variance seen; None if that is
    more than `most`, the largest difference there can be.
    """
    if difference.se is None or difference.df is None:
        return None
    points = _quantiles(difference.df, alpha) * difference.se
    return points if points <= most else None


def needed(margin: float, spread: Variance, seeds: int, alpha: float = ALPHA) -> Needed:
    """Return the seeds or examples that would decide about a difference of `margin` points with 80 % power.

    To find it at `alpha`, if it is there, takes ``margin >= (z_{1 - alpha/2} + z_{0.8}) * se``; to exclude it
    by two one-sided tests at 5 %, which are not corrected, if there is none, ``(z_{0.95} + z_{0.9}) * se``. The
    larger counts (normal approximation). The margin is to be named, not seen: what an observed difference
    would need is as uncertain as that difference squared.
    """
    find = float(ndtri(1 - alpha / 2) + ndtri(POWER))
    exclude = float(ndtri(1 - ALPHA) + ndtri((1 + POWER) / 2))
    target = (margin / max(find, exclude)) ** 2
    by_seed = spread.seeds + spread.interaction
    fixed = spread.examples - spread.interaction
    more_seeds = None
    if seeds > 1 and target > fixed:
        more_seeds = max(2, math.ceil(seeds * by_seed / (target - fixed)))
    more_examples = spread.examples / (target - spread.seeds) if target > spread.seeds else None
    return Needed(more_seeds, more_examples)


def grown(spread: Variance, seeds: int, to: int, rows: float = 1.0) -> Variance:
    """Return the variance of a difference, were it of other seeds and test sets than the `seeds` it was seen with.

    Parameters
    ----------
    to
        Seeds in all; with a single one seen nothing is known of others.
    rows
        By how much the test sets grow. Degrees of freedom are taken to grow with the seeds and to stay otherwise.
    """
    interaction = spread.interaction * seeds / to / rows
    freedom = spread.df if to == seeds else max(1.0, spread.df * (to - 1) / max(seeds - 1, 1))
    fixed = (spread.examples - spread.interaction) / rows
    return Variance(fixed + interaction, interaction, spread.seeds * seeds / to, freedom)


# ---------------------------------------------------------------- before anything is run


@dataclass(frozen=True)
class Size:
    """A task's test set: rows, and clusters of rows that share a text (as many as rows where none do)."""

    name: str
    rows: int
    clusters: int


@dataclass(frozen=True)
class Assumed:
    """What is not known before anything is run. The defaults are about what the committed results show.

    Attributes
    ----------
    discordance
        Share of the examples on which one of two methods is right and the other wrong, at one seed.
    lasting
        Share of that which is so at every seed; the rest comes and goes with the seed.
    seed_sd
        Standard deviation between seeds of a method's score on endless examples, in points.
    alike
        Correlation of two rows of a cluster.
    """

    discordance: float = 0.15
    lasting: float = 0.5
    seed_sd: float = 1.0
    alike: float = 0.05


def foreseen(sizes: Sequence[Size], seeds: int, assumed: Assumed) -> Variance:
    """Return the variance in points squared that two methods' mean difference of accuracies over tasks will have."""
    return variance([_foreseen(size, seeds, len(sizes), assumed) for size in sizes])


def _foreseen(size: Size, seeds: int, tasks: int, assumed: Assumed) -> Part:
    grown = 1 + (size.rows / size.clusters - 1) * assumed.alike  # what clusters do to the variance of a mean
    at_one_seed = 100.0**2 * assumed.discordance * grown / size.rows / tasks**2
    passing = (1 - assumed.lasting) * at_one_seed if seeds > 1 else 0.0
    return Part(
        seeds=seeds,
        clusters=size.clusters,
        examples=at_one_seed - passing + passing / seeds,
        interaction=passing,
        square=2 * (assumed.seed_sd / tasks) ** 2 + passing if seeds > 1 else 0.0,
    )
