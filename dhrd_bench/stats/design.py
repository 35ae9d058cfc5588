"""The data of one leaderboard: methods x tasks x seeds x examples, paired by seed and example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dhrd_bench.results.schema import TaskInfo

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.integer[Any]]
"""Whole numbers of any width: a full table has ten million predictions."""

ABSENT = -2
"""The prediction of every row of a cell that a method does not have."""


@dataclass(frozen=True, order=True)
class Group:
    """What one leaderboard is about; results of different groups are never in one table."""

    suite: str
    backbone: str
    budget: str


@dataclass(frozen=True)
class TaskGrid:
    """One task's outcomes, paired by seed and example.

    Attributes
    ----------
    name, info
        The task and its card's labels and metrics.
    seeds
        ``(S,)`` seed numbers; a method may lack some, see `present`.
    labels
        ``(n,)`` true class ids.
    predictions
        ``(M, S, n)`` predicted class ids, -1 where no answer could be read, `ABSENT` in cells that are not there.
    clusters, groups
        ``(n,)`` codes from 0: examples that are resampled, and that are scored by exact match, together.
    given
        ``(M, S)`` values of each metric as the records state it, 0-100; none of ours where rows were left out.
    """

    name: str
    info: TaskInfo
    seeds: tuple[int, ...]
    labels: Ints
    predictions: Codes
    clusters: Ints
    groups: Ints
    given: dict[str, Floats] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.info.labels)

    @cached_property
    def present(self) -> Flags:
        """``(M, S)``, which method has which seed."""
        return np.asarray(self.predictions[..., 0] != ABSENT)

    def shared(self, methods: Sequence[int] | Ints) -> Flags:
        """Return ``(S,)``, the seeds that all of `methods` have: those on which they are compared."""
        return np.asarray(self.present[methods].all(axis=0))

    @cached_property
    def n_clusters(self) -> int:
        """Number of clusters C, the units of resampling."""
        return int(self.clusters.max()) + 1

    def take(self, methods: Sequence[int]) -> TaskGrid:
        """Return the same task with only `methods` (positions), in that order."""
        at = list(methods)
        given = {name: values[at] for name, values in self.given.items()}
        return TaskGrid(
            self.name, self.info, self.seeds, self.labels, self.predictions[at], self.clusters, self.groups, given
        )


@dataclass(frozen=True)
class Grid:
    """Methods on tasks, of which all have some seeds; `methods[i]` is row i of every task's arrays."""

    methods: tuple[str, ...]
    tasks: tuple[TaskGrid, ...]


@dataclass(frozen=True)
class Selection:
    """What one leaderboard is computed from.

    Attributes
    ----------
    grid
        The methods that are ranked, on the tasks of the table.
    partial
        For every method that lacks tasks of the table or most of their seeds: itself and the baseline on the cells
        both have.
    cells
        The cells that were kept, failed ones left out.
    baseline, reference
        Names of the methods that gains and QPS ratios are taken to.
    notes
        What was left out, and why.
    """

    group: Group
    grid: Grid
    partial: dict[str, Grid]
    cells: pd.DataFrame
    baseline: str | None
    reference: str | None
    notes: tuple[str, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Return all methods, the ranked ones first."""
        return self.grid.methods + tuple(self.partial)
