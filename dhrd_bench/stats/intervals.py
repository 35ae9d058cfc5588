"""Variances and intervals.

Drawing seeds and examples with replacement gives replicates, but their spread is not the variance of
a mean over few seeds: S seeds drawn from S lose a share 1 / S of their variance, and with crossed draws
the interaction of seeds and examples is counted three times (Owen 2007). So the bootstrap of clusters
gives the variance that comes from the test examples, an analysis of variance that which comes from the
seeds, and the interval is Student's t with Satterthwaite's degrees of freedom. `percentile` and `bca`
are what it was chosen over; docs/statistics.md has the simulations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from dhrd_bench.stats.design import Floats

LEVEL = 0.95
"""Level of every interval."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes
    ----------
    value
        The figure as measured.
    low, high
        Ends of the 95 % interval, None if there is none.
    se, df
        Standard error and its degrees of freedom, None if there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    se: float | None = None
    df: float | None = None


@dataclass(frozen=True)
class Part:
    """What one task adds to a figure that is (or is linearised as) a sum over tasks of means over seeds.

    Attributes
    ----------
    seeds, clusters
        Their numbers S and C.
    examples
        Variance of the mean over seeds on drawn clusters.
    interaction
        Variance on drawn clusters of one seed's deviation from that mean, times ``S / (S - 1)``.
    square
        Variance of the seeds' values; 0 for a single seed.
    floor
        The least that `examples`, widened by ``C / (C - 1)``, is taken to be.
    """

    seeds: int
    clusters: int
    examples: float
    interaction: float
    square: float
    floor: float = 0.0


@dataclass(frozen=True)
class Variance:
    """Variance of a figure by source, and Satterthwaite's degrees of freedom of the sum.

    Attributes
    ----------
    examples
        From the sample of examples, the interaction of seeds and examples included.
    interaction
        That interaction: the part of `examples` that more seeds would lower.
    seeds
        From the sample of seeds, without the interaction; 0 for a single seed.
    """

    examples: float
    interaction: float
    seeds: float
    df: float

    @property
    def total(self) -> float:
        """Variance of the figure."""
        return self.examples + self.seeds


def variance(parts: Sequence[Part]) -> Variance:
    """Estimate the variance of a sum over tasks of means over seeds.

    With seeds crossed with examples the variance of a task's mean is
    ``V_seed / S + V_example / C + V_interaction / (S C)``. The last two are the variance of the mean
    over drawn clusters; the first is the mean square between seeds less what of it the interaction
    explains, not below 0. The degrees of freedom (Satterthwaite 1946) count the whole mean square:
    leaving the interaction out of it where it happens to be large makes intervals too short. They count
    it as no less than the interaction's part of `examples`, which it is expected to hold: S seeds that
    happen to agree have not shown that seeds do not matter, and would otherwise pass for many.
    """
    columns = [(p.seeds, p.clusters, p.examples, p.interaction, p.square, p.floor) for p in parts]
    return Variance(*map(float, sources(*np.array(columns, dtype=float).T)))


def sources(
    seeds: Floats, clusters: Floats, examples: Floats, interaction: Floats, square: Floats, floor: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Do the sums of `variance`; the columns of `Part` have tasks as their first axis, and any further ones.

    Returns
    -------
    tuple
        The four figures of `Variance`.
    """
    share = np.maximum(examples * clusters / np.maximum(clusters - 1, 1), floor)
    several = seeds > 1
    between = np.maximum(square - interaction, 0.0) * several / np.maximum(seeds, 1)
    within = np.minimum(interaction / np.maximum(seeds, 1), share) * several
    whole = np.maximum(square / np.maximum(seeds, 1), within) * several
    spread = (share**2 / np.maximum(clusters - 1, 1) + whole**2 / np.maximum(seeds - 1, 1)).sum(axis=0)
    total = share.sum(axis=0) + between.sum(axis=0)
    df = np.divide(total**2, spread, out=np.full_like(total, math.inf), where=spread > 0)
    return share.sum(axis=0), within.sum(axis=0), between.sum(axis=0), np.maximum(df, 1.0)


def covariance_of_differences(matrix: Floats) -> Floats:
    """Return a covariance under which no difference of two methods varies less than under `matrix`, nor below 0.

    It does for all differences at once what `variance` does for one figure, and exactly so for two
    methods. What moves all methods alike is taken out first, as it would leak into the differences.
    """
    rows = matrix - matrix.mean(axis=0)
    values, vectors = np.linalg.eigh(rows - rows.mean(axis=1, keepdims=True))
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def student(value: float, spread: Variance, most: float = math.inf) -> Estimate:
    """Return the interval ``value -+ t * se``, cut off at ``-most`` and `most`, beyond which no figure can be."""
    se = math.sqrt(spread.total)
    half = quantile(spread.df) * se
    return Estimate(value, max(value - half, -most), min(value + half, most), se, spread.df)


def fieller(value: float, base: float, difference: Variance, below: float, joint: float, least: float) -> Estimate:
    """Return Fieller's set (1954) for a difference in % of a positive score `base`.

    It holds the ratios r that a t-test of ``difference - r * base = 0`` does not reject, at the
    difference's degrees of freedom. Where `base` is itself not shown to be above 0 the set has no upper
    end; of its two branches the one is given on which `base` is positive.

    Parameters
    ----------
    value
        The ratio, in %.
    below, joint
        Variance of `base`, and its covariance with the difference.
    least
        The lowest ratio there can be.
    """
    t2, ratio = quantile(difference.df) ** 2, value / 100.0
    most = math.sqrt(difference.total * below)
    joint = min(max(joint, -most), most)  # parts that were cut off at 0 need not fit together
    # A r^2 - 2 B r + C <= 0
    a, b = base**2 - t2 * below, ratio * base**2 - t2 * joint
    c = (ratio * base) ** 2 - t2 * difference.total
    root = math.sqrt(max(b * b - a * c, 0.0))
    low, high = least, math.inf
    if a > 0:
        low, high = (b - root) / a * 100.0, (b + root) / a * 100.0
    elif c > 0:  # 0 is outside: the sign of the difference is known, its size is not
        ends = [(b - root) / a * 100.0, (b + root) / a * 100.0] if a < 0 else [50.0 * c / b]
        low, high = (max(ends), math.inf) if ratio > 0 else (least, min(ends))
    low, high = max(low, least), max(high, least)
    se = math.sqrt(max(difference.total - 2 * ratio * joint + ratio**2 * below, 0.0)) / base * 100.0
    return Estimate(value, min(low, value), max(high, value), se, difference.df)


def wilson(value: float, spread: Variance, clusters: float) -> Estimate:
    """Return Wilson's interval (1927) for a score of 0-100 at its effective sample size.

    Parameters
    ----------
    value, spread
        The score and its variance; ``p (1 - p) / variance`` is its effective sample size.
    clusters
        The sample size to take where the score is 0 or 100 and shows no variance.
    """
    share = min(max(value / 100.0, 0.0), 1.0)
    size = 1e4 * share * (1 - share) / spread.total if spread.total > 0 else 0.0
    size = size or clusters
    z = quantile(spread.df)
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    low, high = max(100.0 * (centre - half), 0.0), min(100.0 * (centre + half), 100.0)
    return Estimate(value, min(low, value), max(high, value), math.sqrt(spread.total), spread.df)


def quantile(df: float, level: float = LEVEL) -> float:
    """Return the two-sided quantile of Student's t at `level`."""
    at = (1 + level) / 2
    return float(ndtri(at) if math.isinf(df) else stdtrit(df, at))


def tail(ratio: float, df: float) -> float:
    """Return P(T > ratio) for Student's t."""
    return float(ndtr(-ratio) if math.isinf(df) else stdtr(df, -ratio))


def percentile(replicates: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of `replicates` ``(R,)`` (Efron 1979)."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bca(value: float, replicates: Floats, jackknife: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval (Efron 1987).

    Parameters
    ----------
    value
        The figure as measured.
    replicates
        ``(R,)`` the figure's replicates.
    jackknife
        ``(C,)`` the figure with each unit left out.
    """
    below = float(np.mean(replicates < value) + np.mean(replicates <= value)) / 2
    if below in (0.0, 1.0):
        return percentile(replicates, level)
    bias = ndtri(below)
    gap = jackknife.mean() - jackknife
    spread = float((gap**2).sum())
    acceleration = float((gap**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    ends = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(replicates, ndtr(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)
