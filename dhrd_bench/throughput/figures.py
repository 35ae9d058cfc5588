"""From rounds to figures with intervals; no torch.

Within a round all methods answer the same examples one after another, so a machine that slows down
slows all of them: ratios are taken round by round and averaged as logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dhrd_bench.results.timed import Figure, Trial
from dhrd_bench.stats.equivalence import Equivalence, ratio_within
from dhrd_bench.stats.intervals import Estimate, quantile
from dhrd_bench.stats.significance import ALPHA

RESAMPLES = 2_000


def log_mean(values: Sequence[float], seed: int) -> Estimate:
    """Return the mean of `values`, whose standard error is that of a bootstrap over them.

    The interval is Student's t with one degree of freedom less than there are values: percentiles of
    some ten blocks are too narrow.
    """
    data = np.asarray(values, dtype=float)
    count = len(data)
    if count < 2:
        return Estimate(float(data.mean()))
    draws = np.random.default_rng(seed).choice(data, (RESAMPLES, count)).mean(axis=1)
    # Drawing n from n loses a share 1/n of the variance.
    se = float(draws.std()) * math.sqrt(count / (count - 1))
    half = quantile(count - 1) * se
    return Estimate(float(data.mean()), float(data.mean()) - half, float(data.mean()) + half, se, count - 1)


def exponential(estimate: Estimate) -> Figure:
    """Return the figure whose logarithm `estimate` is."""
    low, high = (None if end is None else math.exp(end) for end in (estimate.low, estimate.high))
    return Figure(value=math.exp(estimate.value), low=low, high=high)


def qps(blocks: Sequence[tuple[float, float]], seed: int = 0) -> Figure:
    """Return examples per second over all blocks; the interval is that of the blocks' log rates."""
    total = sum(count for count, _ in blocks) / sum(seconds for _, seconds in blocks)
    spread = exponential(log_mean([math.log(count / seconds) for count, seconds in blocks], seed))
    if spread.low is None or spread.high is None:
        return Figure(value=total)
    return Figure(value=total, low=total * spread.low / spread.value, high=total * spread.high / spread.value)


def ratio(
    this: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]], margin: float, seed: int = 0
) -> tuple[Figure, Equivalence | None]:
    """Return QPS over that of `other`, paired by round, and whether it is within `margin` % of 1."""
    estimate = log_mean(_log_ratios(this, other), seed)
    figure = exponential(estimate)
    return figure, ratio_within(Estimate(figure.value, figure.low, figure.high, estimate.se, estimate.df), margin)


def sharp(this: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]], margin: float) -> bool:
    """Return whether a ratio of exactly 1 would be found to be within half of `margin` % with this spread.

    Half of it, so that two equals are found within the whole although the ratio seen is not exactly 1. It does
    not look at that ratio: who stops measuring when this turns true does not favour an outcome.
    """
    within = ratio_within(replace(log_mean(_log_ratios(this, other), 0), value=1.0), margin / 2)
    return within is not None and within.equivalent <= ALPHA


def _log_ratios(this: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> list[float]:
    # Rounds that only one of them had come last and have no pair.
    return [math.log((a / s) / (b / t)) for (a, s), (b, t) in zip(this, other, strict=False)]


def percentile(latencies: Sequence[float], share: float, block: int = 1, seed: int = 0) -> Figure:
    """Return a percentile of `latencies` in seconds; the interval is that of a bootstrap of blocks.

    Latencies that follow on one another are alike: they queue behind the same query, or the machine was slow just
    then. So what is drawn is runs of `block` of them, from a circle (Politis and Romano 1992).
    """
    data = np.asarray(latencies, dtype=float)
    count = len(data)
    block = min(block, count)
    starts = np.random.default_rng(seed).integers(count, size=(RESAMPLES, -(-count // block)))
    drawn = ((starts[..., None] + np.arange(block)) % count).reshape(RESAMPLES, -1)[:, :count]
    low, high = np.quantile(np.quantile(data[drawn], share, axis=1), [0.025, 0.975])
    value = float(np.quantile(data, share))
    return Figure(value=value, low=min(value, float(low)), high=max(value, float(high)))


def held(trials: Sequence[Trial], bound: float, ceiling: float) -> Figure:
    """Return the highest rate that held `bound`, 0 if none did, and the rates that the trials leave open.

    These begin at the highest rate whose p99 is below the bound with its whole interval, and end at the lowest whose
    p99 is above it with its whole interval, or at `ceiling`.
    """
    value = max((trial.rate for trial in trials if trial.p99 <= bound), default=0.0)
    low = max((trial.rate for trial in trials if (trial.p99_high or trial.p99) <= bound), default=0.0)
    high = min((trial.rate for trial in trials if (trial.p99_low or trial.p99) > bound), default=ceiling)
    return Figure(value=value, low=low, high=high)


def quotient(this: Figure, other: Figure) -> Figure | None:
    """Return `this` over `other`, measured apart, from the logarithms of both; None if nothing is known of it.

    The interval joins the two intervals' halves as independent (MOVER; Donner and Zou 2012).
    """
    if this.value <= 0 or other.value <= 0:
        return None
    value = this.value / other.value
    if not (this.low and this.high and other.low and other.high):
        return Figure(value=value)
    down = math.hypot(math.log(this.value / this.low), math.log(other.high / other.value))
    up = math.hypot(math.log(this.high / this.value), math.log(other.value / other.low))
    return Figure(value=value, low=value * math.exp(-down), high=value * math.exp(up))


def drift(blocks: Sequence[tuple[float, float]]) -> float:
    """Return how much faster (> 0) or slower the last third of the rounds was than the first, as a share."""
    third = max(1, len(blocks) // 3)
    rates = [sum(c for c, _ in part) / sum(s for _, s in part) for part in (blocks[:third], blocks[-third:])]
    return rates[1] / rates[0] - 1.0
