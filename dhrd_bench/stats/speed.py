"""Throughput ratios with intervals.

QPS of a method is all examples over all seconds of its cells; the ratio of two methods is taken over
the cells that both have, so it is the ratio of the seconds they need for the same examples. The
interval is that of its logarithm. Its variance is that of a bootstrap over blocks of laps (timed batches)
within cells, and between seeds as in `dhrd_bench.stats.intervals.variance`: laps are nested in cells, so
what is called interaction there is the laps' own variance here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

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

    @cached_property
    def spread(self) -> tuple[float, int]:
        """Variance of the seconds over drawn blocks of laps, and the number of blocks.

        The seconds that all examples take at the drawn blocks' pace are a ratio estimator; this is the
        variance that its bootstrap has for many resamples, with the factor B / (B - 1).
        """
        laps = np.array(self.laps, dtype=float)
        edges = np.linspace(0, len(laps), min(len(laps), BLOCKS) + 1).astype(int)[:-1]
        blocks = np.add.reduceat(laps, edges, axis=0)
        count = len(blocks)
        rest = blocks[:, 1] - blocks[:, 0] * blocks[:, 1].sum() / blocks[:, 0].sum()
        return float((rest**2).sum()) * count / max(count - 1, 1), count


class Speed:
    """The timed cells of one leaderboard."""

    def __init__(self, cells: pd.DataFrame) -> None:
        timed = cells.dropna(subset=["seconds"])
        self.cells: dict[str, dict[tuple[str, int], _Run]] = {}
        columns = (timed[name].to_list() for name in ("method", "task", "seed", "examples", "seconds", "laps"))
        for method, task, number, examples, seconds, laps in sorted(zip(*columns, strict=True), key=lambda r: r[:3]):
            run = _Run(float(examples), float(seconds), tuple(laps) or ((float(examples), float(seconds)),))
            self.cells.setdefault(method, {})[task, int(number)] = run

    def qps(self, method: str, tasks: Sequence[str]) -> float | None:
        """Return examples per second of `method` over its cells of `tasks`, None if nothing was timed."""
        runs = [run for (task, _), run in self.cells.get(method, {}).items() if task in tasks]
        seconds = sum(run.seconds for run in runs)
        return sum(run.examples for run in runs) / seconds if seconds > 0 else None

    def ratio(self, method: str, other: str, tasks: Sequence[str]) -> Estimate | None:
        """Return QPS of `method` over that of `other`, on the (task, seed) cells that both have.

        The estimate's `se` and `df` are those of the logarithm. There is no interval where every cell
        is a single lap of a single seed; None if no cell is shared.
        """
        own, its = self.cells.get(method, {}), self.cells.get(other, {})
        shared = [key for key in own if key in its and key[0] in tasks]
        if not shared:
            return None
        mine, theirs = (sum(side[key].seconds for key in shared) for side in (own, its))
        value = math.log(theirs / mine)
        parts = []
        for task in dict.fromkeys(task for task, _ in shared):
            runs = [(own[key], its[key]) for key in shared if key[0] == task]
            count = len(runs)
            seeds = [count * (two.seconds / theirs - one.seconds / mine) for one, two in runs]
            laps = [count**2 * (two.spread[0] / theirs**2 + one.spread[0] / mine**2) for one, two in runs]
            blocks = min(min(one.spread[1], two.spread[1]) for one, two in runs)
            within = float(np.mean(laps))
            parts.append(
                Part(count, blocks, within / count, within, float(np.var(seeds, ddof=1)) if count > 1 else 0.0)
            )
        found = variance(parts)
        if found.total <= 0:
            return Estimate(math.exp(value))
        se = math.sqrt(found.total)
        half = quantile(found.df) * se
        return Estimate(math.exp(value), math.exp(value - half), math.exp(value + half), se, found.df)
