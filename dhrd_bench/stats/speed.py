"""Throughput ratios with intervals.

QPS of a method is all examples over all seconds of its cells; the ratio of two methods is taken over
the cells that both have, so it is the ratio of the seconds they need for the same examples. Its
logarithm is resampled in two levels: laps (timed batches) within a cell, then seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.bootstrap import seed_weights
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.intervals import Estimate, Part, calibrated


@dataclass(frozen=True)
class _Timed:
    """One task of one method: ``(S,)`` seconds for its examples, and ``(S, R)`` on drawn laps."""

    seconds: Floats
    draws: Floats
    laps: int


def qps(cells: pd.DataFrame) -> float | None:
    """Return examples per second over all of `cells`, None if nothing was timed."""
    timed = cells.dropna(subset=["seconds"])
    seconds = float(timed["seconds"].sum())
    return float(timed["examples"].sum()) / seconds if seconds > 0 else None


def qps_ratio(
    cells: pd.DataFrame, method: str, other: str, *, resamples: int, seed: int, tasks: Sequence[str] | None = None
) -> Estimate | None:
    """Return QPS of `method` over QPS of `other`, on the (task, seed) cells that both have.

    The estimate's `se` and `df` are those of the logarithm. There is no interval where every cell is
    a single lap of a single seed; None if no cell is shared.
    """
    kept = cells if tasks is None else cells[cells["task"].isin(list(tasks))]
    sides = {name: kept[kept["method"] == name].dropna(subset=["seconds"]).set_index(["task", "seed"]) for name in (method, other)}
    shared = sides[method].index.intersection(sides[other].index).sort_values()
    if shared.empty:
        return None
    timed = {name: _by_task(side.loc[shared], name, resamples, seed) for name, side in sides.items()}
    totals = {name: sum(float(part.seconds.sum()) for part in parts.values()) for name, parts in timed.items()}
    value = math.log(totals[other] / totals[method])
    parts, seconds = [], {method: np.zeros(resamples), other: np.zeros(resamples)}
    linear = np.zeros(resamples)
    for task in timed[method]:
        own, its = timed[method][task], timed[other][task]
        count = len(own.seconds)
        part = Part(
            count * (its.seconds / totals[other] - own.seconds / totals[method]),
            count * (its.draws / totals[other] - own.draws / totals[method]),
            min(own.laps, its.laps),
        )
        parts.append(part)
        drawn = seed_weights(f"laps/{task}", count, resamples, seed)
        linear += (part.draws * drawn).mean(axis=0)
        seconds[method] += (own.draws * drawn).sum(axis=0)
        seconds[other] += (its.draws * drawn).sum(axis=0)
    found = calibrated(value, np.log(seconds[other] / seconds[method]), parts, linear)
    if not found.se or found.low is None or found.high is None:
        return Estimate(math.exp(value))
    return Estimate(math.exp(value), math.exp(found.low), math.exp(found.high), found.se, found.df)


def _by_task(cells: pd.DataFrame, method: str, resamples: int, seed: int) -> dict[str, _Timed]:
    found = {}
    for task, own in cells.groupby(level="task"):
        seconds, draws, laps = [], [], []
        for (_, number), row in own.iterrows():
            rng = np.random.default_rng(derive_seed("laps", str(task), str(number), method, str(seed)))
            blocks = np.array(row["laps"] or [(row["examples"], row["seconds"])], dtype=float).reshape(-1, 2)
            count = len(blocks)
            weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples) @ blocks
            seconds.append(row["seconds"])
            draws.append(weights[:, 1] / weights[:, 0] * row["examples"])
            laps.append(count)
        found[str(task)] = _Timed(np.array(seconds), np.stack(draws), min(laps))
    return found
