"""What handing on the unsure examples of a fast method to a slow one would give, for every share of them.

It is put together from the records of the two: the fast one's class scores say which examples it is least sure
of, the slow one's answers take their place, and its mean seconds an example are added for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import Flags, Grid, Selection, TaskGrid
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.probabilities import Probabilities
from dhrd_bench.stats.speed import Speed
from dhrd_bench.stats.suite import SuiteScores

SHARES = tuple(tenth / 10 for tenth in range(11))
"""Shares of the examples that are handed on."""

Measure = Literal["probability", "margin"]


@dataclass(frozen=True, order=True)
class Pair:
    """A fast method, the slow one behind it, and by what the fast one's confidence is measured."""

    fast: str
    slow: str
    confidence: Measure = "probability"


@dataclass(frozen=True)
class Step:
    """One share of handed-on examples: the score over the suite, and examples per second."""

    share: float
    score: Estimate
    qps: Estimate


@dataclass(frozen=True)
class Frontier:
    """A pair, from handing on nothing to handing on everything."""

    pair: Pair
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """The two methods, and the measure if it is not the usual one."""
        pair = self.pair
        return f"{pair.fast} → {pair.slow}" + (" (margin)" if pair.confidence == "margin" else "")


def composed(selection: Selection) -> list[Pair]:
    """Return what the methods run whose parameters name a `fast` and a `slow` method."""
    found = set()
    for params in selection.cells["params"]:
        fast, slow = params.get("fast"), params.get("slow")
        if isinstance(fast, str) and isinstance(slow, str):
            found.add(Pair(fast, slow, "margin" if params.get("confidence") == "margin" else "probability"))
    return sorted(found)


def pairs(selection: Selection) -> list[Pair]:
    """Return the pairs worth a look: baseline and reference, and those that a method of the table is composed of."""
    base, reference = selection.baseline, selection.reference
    usual = [Pair(base, reference)] if base and reference else []
    return sorted({*usual, *composed(selection)})


def frontiers(
    given: Sequence[Probabilities], selection: Selection, speed: Speed, resamples: int, seed: int
) -> list[Frontier]:
    """Return the frontiers of those `pairs` that can be put together.

    Both must be ranked and timed on a seed of every task that both have, and the fast one have class scores there.
    """
    made = (_frontier(pair, given, selection.grid, speed, resamples, seed) for pair in pairs(selection))
    return [frontier for frontier in made if frontier is not None]


def _frontier(
    pair: Pair, given: Sequence[Probabilities], grid: Grid, speed: Speed, resamples: int, seed: int
) -> Frontier | None:
    if pair.fast == pair.slow or not {pair.fast, pair.slow} <= set(grid.methods) & set(speed.cells):
        return None
    fast, slow = (grid.methods.index(name) for name in (pair.fast, pair.slow))
    tasks, runs = [], []
    for found in given:
        task = found.task
        shared = task.shared([fast, slow])
        keys = [(task.name, number) for number, both in zip(task.seeds, shared, strict=True) if both]
        timed = all(key in speed.cells[name] for key in keys for name in (pair.fast, pair.slow))
        if not keys or not timed or pair.fast in found.left_out or not known(task.info.metrics):
            return None
        tasks.append(_handed_on(found, fast, slow, shared, pair.confidence))
        runs += [run for key in keys for run in _timed(speed, pair, key, len(task.labels))]
    names = tuple(map(_name, SHARES))
    suite = SuiteScores.of(Grid(names, tuple(tasks)), resamples, seed)
    pace = Speed(pd.DataFrame(runs, columns=["method", "task", "seed", "examples", "seconds", "laps"]))
    steps = []
    for place, share in enumerate(SHARES):
        qps = pace.qps(names[place], suite.names)
        assert qps is not None
        steps.append(Step(share, suite.score(place), qps))
    return Frontier(pair, tuple(steps))


def _name(share: float) -> str:
    return f"{share:.0%}"


def _count(share: float, rows: int) -> int:
    return math.floor(share * rows + 0.5)


def _handed_on(found: Probabilities, fast: int, slow: int, seeds: Flags, confidence: Measure) -> TaskGrid:
    """Return the task with a "method" a share; equally sure examples are handed on in the order of the table."""
    task, at = found.task, np.flatnonzero(seeds)
    ranked = np.sort(np.maximum(found.values[fast, at], np.finfo(float).tiny), axis=-1)  # (S, n, K)
    sure = ranked[..., -1] if confidence == "probability" else np.log(ranked[..., -1] / ranked[..., -2])
    order = np.argsort(sure, axis=-1, kind="stable")
    predictions = np.repeat(task.predictions[fast, at][None], len(SHARES), axis=0)
    for place, share in enumerate(SHARES):
        asked = order[:, : _count(share, len(task.labels))]
        answers = np.take_along_axis(task.predictions[slow, at], asked, axis=-1)
        np.put_along_axis(predictions[place], asked, answers, axis=-1)
    return replace(task, seeds=tuple(task.seeds[s] for s in at), predictions=predictions, given={})


def _timed(speed: Speed, pair: Pair, key: tuple[str, int], rows: int) -> Iterator[tuple[object, ...]]:
    """Yield a run a share, which takes the seconds of the fast method and the slow one's for what is handed on."""
    fast, slow = (speed.cells[name][key] for name in (pair.fast, pair.slow))
    for share in SHARES:
        each = fast.seconds / fast.examples + _count(share, rows) / rows * slow.seconds / slow.examples
        yield (_name(share), *key, fast.examples, fast.examples * each, ())
