"""Throughput ratios with intervals.

QPS of a method is all examples over all seconds of its cells; the ratio of two methods is taken over
the cells that both have, so it is the ratio of the seconds they need for the same examples. The
interval is that of its logarithm: laps (timed batches, merged into blocks) are resampled within a
cell, and the variance between seeds is added as in `dhrd_bench.stats.intervals.variance`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.intervals import Estimate, Part, quantile, variance

BLOCKS = 20
"""Consecutive laps of a cell are merged into at most so many blocks, as neighbours are alike."""


Laps = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Run:
    """One timed cell: examples, seconds and its laps (examples, seconds)."""

    examples: float
    seconds: float
    laps: Laps


@dataclass(frozen=True)
class _Timed:
    """One cell: its seconds, and ``(R,)`` its seconds on drawn blocks."""

    seconds: float
    draws: Floats
    blocks: int


class Speed:
    """The timed cells of one leaderboard."""

    def __init__(self, cells: pd.DataFrame, resamples: int, seed: int) -> None:
        timed = cells.dropna(subset=["seconds"])
        self.cells: dict[str, dict[tuple[str, int], _Run]] = {}
        columns = (timed[name].to_list() for name in ("method", "task", "seed", "examples", "seconds", "laps"))
        for method, task, number, examples, seconds, laps in sorted(zip(*columns, strict=True), key=lambda r: r[:3]):
            run = _Run(float(examples), float(seconds), tuple(laps) or ((float(examples), float(seconds)),))
            self.cells.setdefault(method, {})[task, int(number)] = run
        self.resamples, self.seed = min(resamples, 2_000), seed  # only a variance is taken of them
        self._drawn: dict[tuple[str, str, int], _Timed] = {}

    def qps(self, method: str, tasks: Sequence[str]) -> float | None:
        """Return examples per second of `method` over its cells of `tasks`, None if nothing was timed."""
        rows = [row for (task, _), row in self.cells.get(method, {}).items() if task in tasks]
        seconds = sum(row.seconds for row in rows)
        return sum(row.examples for row in rows) / seconds if seconds > 0 else None

    def ratio(self, method: str, other: str, tasks: Sequence[str]) -> Estimate | None:
        """Return QPS of `method` over that of `other`, on the (task, seed) cells that both have.

        The estimate's `se` and `df` are those of the logarithm. There is no interval where every cell
        is a single lap of a single seed; None if no cell is shared.
        """
        own, its = self.cells.get(method, {}), self.cells.get(other, {})
        shared = [key for key in own if key in its and key[0] in tasks]
        if not shared:
            return None
        pairs = {key: (self._timed(method, key), self._timed(other, key)) for key in shared}
        mine = sum(one.seconds for one, _ in pairs.values())
        theirs = sum(two.seconds for _, two in pairs.values())
        value = math.log(theirs / mine)
        parts = []
        for task in dict.fromkeys(task for task, _ in shared):
            timed = [pair for key, pair in pairs.items() if key[0] == task]
            count = len(timed)
            seeds = [count * (two.seconds / theirs - one.seconds / mine) for one, two in timed]
            draws = [count * (two.draws / theirs - one.draws / mine) for one, two in timed]
            blocks = min(min(one.blocks, two.blocks) for one, two in timed)
            parts.append(Part(np.array(seeds), np.array(draws), blocks))
        found = variance(parts)
        if found.total <= 0 or (all(part.clusters == 1 for part in parts) and found.seeds == 0):
            return Estimate(math.exp(value))
        se = math.sqrt(found.total)
        half = quantile(found.df) * se
        return Estimate(math.exp(value), math.exp(value - half), math.exp(value + half), se, found.df)

    def _timed(self, method: str, key: tuple[str, int]) -> _Timed:
        at = (method, *key)
        if at not in self._drawn:
            run = self.cells[method][key]
            laps = np.array(run.laps, dtype=float)
            edges = np.linspace(0, len(laps), min(len(laps), BLOCKS) + 1).astype(int)[:-1]
            blocks = np.add.reduceat(laps, edges, axis=0)
            # The stream is the cell's, not the method's, so that renaming a method changes nothing.
            rng = np.random.default_rng(derive_seed("laps", *map(str, key), str(run.seconds), str(self.seed)))
            weights = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=self.resamples) @ blocks
            self._drawn[at] = _Timed(run.seconds, weights[:, 1] / weights[:, 0] * run.examples, len(blocks))
        return self._drawn[at]
