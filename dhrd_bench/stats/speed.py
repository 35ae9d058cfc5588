"""Throughput and its ratios, with intervals.

QPS of a method is all examples over all seconds of its cells; the ratio of two methods is taken over
the cells that both have, so it is the ratio of the seconds they need for the same examples. The
intervals are those of the logarithms. How runs differ is pooled over tasks, as the log seconds of two or
three seeds say next to nothing by themselves. Only where every cell is a single run is it a bootstrap over
blocks of its laps (timed batches), which knows nothing of how runs differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from dhrd_bench.stats.design import Floats, Ints
from dhrd_bench.stats.intervals import Estimate, covariance_of_differences, quantile

BLOCKS = 20
"""Consecutive laps of a cell are merged into at most so many blocks, as neighbours are alike."""


Laps = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Run:
    """One timed cell: examples, seconds and its laps (examples, seconds)."""

    examples: float
    seconds: float
    laps: Laps

    @cached_property
    def spread(self) -> tuple[float, int]:
        """Variance of the seconds over drawn blocks of laps, and the number of blocks.

        The seconds that all examples take at the drawn blocks' pace are a ratio estimator; this is the
        variance that its bootstrap has for many resamples, with the factor B / (B - 1).
        """
        if len(self.laps) == 1:  # says nothing, and rounding must not say something
            return 0.0, 1
        laps = np.array(self.laps, dtype=float)
        edges = np.linspace(0, len(laps), min(len(laps), BLOCKS) + 1).astype(int)[:-1]
        blocks = np.add.reduceat(laps, edges, axis=0)
        count = len(blocks)
        rest = blocks[:, 1] - blocks[:, 0] * blocks[:, 1].sum() / blocks[:, 0].sum()
        return float((rest**2).sum()) * count / max(count - 1, 1), count


@dataclass(frozen=True)
class _Moments:
    """How the logarithms of the QPS of M methods vary.

    Attributes
    ----------
    runs, df
        ``(M, M)`` covariance of the sums over T tasks, by the differences between seeds, and its degrees of
        freedom; 0 with a single seed. One relative variance is assumed for all tasks.
    laps, blocks
        ``(T, M)`` variance by the laps of each task, and the least number of blocks of a cell.
    """

    runs: Floats
    df: int
    laps: Floats
    blocks: Ints


class Speed:
    """The timed cells of one leaderboard."""

    def __init__(self, cells: pd.DataFrame) -> None:
        timed = cells[cells["seconds"] > 0]  # what took no time was not timed
        self.cells: dict[str, dict[tuple[str, int], _Run]] = {}
        columns = (timed[name].to_list() for name in ("method", "task", "seed", "examples", "seconds", "laps"))
        for method, task, number, examples, seconds, laps in sorted(zip(*columns, strict=True), key=lambda r: r[:3]):
            run = _Run(float(examples), float(seconds), tuple(laps) or ((float(examples), float(seconds)),))
            self.cells.setdefault(method, {})[task, int(number)] = run

    def qps(self, method: str, tasks: Sequence[str]) -> Estimate | None:
        """Return examples per second of `method` over its cells of `tasks`, None if nothing was timed.

        The estimate's `se` and `df` are those of the logarithm, as in `ratio`.
        """
        runs = {key: run for key, run in self.cells.get(method, {}).items() if key[0] in tasks}
        seconds = sum(run.seconds for run in runs.values())
        if seconds <= 0:
            return None
        value = math.log(sum(run.examples for run in runs.values()) / seconds)
        return self._estimate(value, {method: 1}, list(runs))

    def ratio(self, method: str, other: str, tasks: Sequence[str]) -> Estimate | None:
        """Return QPS of `method` over that of `other`, on the (task, seed) cells that both have.

        The estimate's `se` and `df` are those of the logarithm. There is no interval where every cell
        is a single lap of a single seed; None if no cell is shared.
        """
        shared = self._shared((method, other), tasks)
        if not shared:
            return None
        mine, theirs = (sum(self.cells[side][key].seconds for key in shared) for side in (method, other))
        return self._estimate(math.log(theirs / mine), {method: 1, other: -1}, shared)

    def covariance(self, methods: Sequence[str], tasks: Sequence[str]) -> Floats:
        """Return the ``(M, M)`` covariance of the logarithms of QPS, of each two methods on the cells both have.

        The laps of two methods are independent; what a seed does to all of them alike is left out. The
        variance that it gives a ratio is that of `ratio`, or more for some of three or more methods.
        """
        cross, weight, df = (np.zeros((len(methods),) * 2) for _ in range(3))
        total = np.zeros_like(cross)
        parts = []
        for task in tasks:
            seeds = sorted({seed for method in methods for of, seed in self.cells.get(method, {}) if of == task})
            runs = [[self.cells.get(method, {}).get((task, seed)) for seed in seeds] for method in methods]
            seconds = np.array([[run.seconds if run else np.nan for run in of_method] for of_method in runs])
            have = np.isfinite(seconds).astype(float)
            shared = have @ have.T
            # (row, column): the row's seconds on the seeds that it shares with the column
            sums = np.nan_to_num(seconds) @ have.T
            total += sums
            parts.append((sums, shared))
            logs = np.log(np.where(have > 0, seconds, 1.0))
            logs -= have * (logs.sum(axis=1) / np.maximum(have.sum(axis=1), 1))[:, None]
            cross += logs @ logs.T - (logs @ have.T) * (have @ logs.T) / np.maximum(shared, 1)
            df += np.maximum(shared - 1, 0)
        for sums, shared in parts:
            share = sums / np.maximum(total, np.finfo(float).tiny)
            weight += share * share.T / np.maximum(shared, 1)
        runs_vary = cross / np.maximum(df, 1) * weight
        alone = np.flatnonzero(np.diag(df) == 0).tolist()
        for m in alone:  # single runs: all that is known is how their laps vary
            own = self._moments([methods[m]], self._shared([methods[m]], tasks))
            runs_vary[m, m] = own.laps.sum()
        return covariance_of_differences(runs_vary) if len(alone) < len(methods) else runs_vary

    def _shared(self, methods: Sequence[str], tasks: Sequence[str]) -> list[tuple[str, int]]:
        sides = [self.cells.get(method, {}) for method in methods]
        return [key for key in sides[0] if key[0] in tasks and all(key in side for side in sides)]

    def _moments(self, methods: Sequence[str], keys: Sequence[tuple[str, int]]) -> _Moments:
        total = np.array([sum(self.cells[m][key].seconds for key in keys) for m in methods])
        cross, weight = (np.zeros((len(methods),) * 2) for _ in range(2))
        laps, blocks, df = [], [], 0
        for task in dict.fromkeys(task for task, _ in keys):
            runs = [[self.cells[m][key] for key in keys if key[0] == task] for m in methods]
            seconds = np.array([[run.seconds for run in of_method] for of_method in runs])
            count = seconds.shape[1]
            apart = np.log(seconds) - np.log(seconds).mean(axis=1, keepdims=True)
            cross += apart @ apart.T
            df += count - 1
            shares = seconds.sum(axis=1) / total
            weight += np.outer(shares, shares) / count
            laps.append([sum(run.spread[0] for run in of_method) for of_method in runs] / total**2)
            blocks.append([min(run.spread[1] for run in of_method) for of_method in runs])
        return _Moments(cross / max(df, 1) * weight, df, np.array(laps), np.array(blocks))

    def _estimate(self, value: float, signs: Mapping[str, int], keys: Sequence[tuple[str, int]]) -> Estimate:
        """Return the estimate whose logarithm is `value`, a sum of logarithms of QPS with these `signs`."""
        found, sign = self._moments(list(signs), keys), np.array(list(signs.values()))
        laps = found.laps.sum(axis=1)
        total, df = float(sign @ found.runs @ sign), float(found.df)
        if not found.df:
            total = float(laps.sum())
            spread = float((laps**2 / np.maximum(found.blocks.min(axis=1) - 1, 1)).sum())
            df = max(total**2 / spread, 1.0) if spread > 0 else math.inf
        if total <= 0:
            return Estimate(math.exp(value))
        se = math.sqrt(total)
        half = min(quantile(df) * se, 700.0 - abs(value))  # a number beyond that is no number
        return Estimate(math.exp(value), math.exp(value - half), math.exp(value + half), se, df)
