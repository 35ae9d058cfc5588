"""Where in a task a difference comes from: the same comparison on slices of its rows, corrected for their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dhrd_bench.results.schema import TaskInfo
from dhrd_bench.stats.bootstrap import resample
from dhrd_bench.stats.design import Grid, TaskGrid
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.significance import Test, corrected, crossed_p, pair_differences, sign_flips
from dhrd_bench.stats.suite import Scored, SuiteScores

Column = Callable[[TaskGrid], Sequence[str]]
"""Gives the slice of each row of a task."""


@dataclass(frozen=True)
class Slice:
    """One method on some of a task's rows, beside the baseline.

    Attributes
    ----------
    slice
        Value of the column that the rows are sliced by.
    accuracy, difference
        Of the slice, 0-100, whatever the task's metrics are; method less baseline in points.
    test
        As a task's, but corrected by Holm over all slices and methods.
    """

    method: str
    task: str
    slice: str
    rows: int
    accuracy: Estimate
    difference: Estimate
    test: Test


def by_label(task: TaskGrid) -> list[str]:
    """Slice by the true class."""
    return [task.info.labels[label] for label in task.labels]


def slices(grid: Grid, baseline: str, resamples: int, seed: int, column: Column = by_label) -> list[Slice]:
    """Compare all methods with the baseline on every slice of every task."""
    base = grid.methods.index(baseline)
    pairs = [(method, base) for method in range(len(grid.methods)) if method != base]
    found = [
        entry
        for task in grid.tasks
        for name, part in sliced(task, column(task)).items()
        for entry in _compare(grid, task, name, part, pairs, resamples, seed)
    ]
    tests = corrected([entry.test.p for entry in found], [entry.test.attainable for entry in found], "holm")
    return [replace(entry, test=test) for entry, test in zip(found, tests, strict=True)]


def sliced(task: TaskGrid, names: Sequence[str]) -> dict[str, TaskGrid]:
    """Cut `task` into the slices that its rows are `names`, scored by accuracy."""
    which = np.array(names, dtype=object)
    parts = {}
    for name in sorted(set(names)):
        at = np.flatnonzero(which == name)
        parts[name] = TaskGrid(
            name=f"{task.name}: {name}",
            info=TaskInfo(labels=task.info.labels, metrics=["accuracy"]),
            seeds=task.seeds,
            labels=task.labels[at],
            predictions=task.predictions[:, :, at],
            clusters=np.asarray(pd.factorize(task.clusters[at])[0], dtype=np.int64),
            groups=np.asarray(pd.factorize(task.groups[at])[0], dtype=np.int64),
        )
    return parts


def _compare(
    grid: Grid, task: TaskGrid, name: str, part: TaskGrid, pairs: Sequence[tuple[int, int]], resamples: int, seed: int
) -> list[Slice]:
    """Compare on one slice; the tests are not yet corrected."""
    suite = SuiteScores(grid.methods, [Scored.of(resample(part, resamples, seed))])
    flips = sign_flips({part.name: pair_differences(part, pairs)}, resamples, seed)[part.name] if pairs else []
    entries = []
    for (method, base), flip in zip(pairs, flips, strict=True):
        difference = suite.difference(method, base)
        crossed = crossed_p(difference) if part.shared([method, base]).sum() > 1 else None
        p = max(flip.p, crossed or 0.0)
        test = Test(p, flip.attainable, p, decidable=True)
        entries.append(
            Slice(grid.methods[method], task.name, name, len(part.labels), suite.score(method), difference, test)
        )
    return entries
