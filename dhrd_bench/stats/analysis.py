"""All figures of one leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dhrd_bench.stats.bootstrap import Replicates, resample
from dhrd_bench.stats.design import Floats, Grid, Selection
from dhrd_bench.stats.intervals import Estimate, Part, calibrated
from dhrd_bench.stats.speed import qps, qps_ratio


@dataclass(frozen=True)
class TaskLine:
    """One method on one task. `gain` and `difference` are to the baseline, None for the baseline itself."""

    task: str
    score: Estimate
    gain: Estimate | None
    difference: Estimate | None


@dataclass(frozen=True)
class Line:
    """One method of a leaderboard.

    Attributes
    ----------
    ranked
        Whether it has every task of the table.
    score
        0-100, the mean over tasks.
    gain
        100 * (method - baseline) / baseline, of the suite score; None without a baseline.
    difference
        method - baseline, in points.
    qps, qps_ratio
        Examples per second, and over the reference's.
    unparsable
        Share of answers that could not be read, None where the method writes none.
    """

    method: str
    role: str
    inference: str
    ranked: bool
    score: Estimate
    gain: Estimate | None
    difference: Estimate | None
    qps: float | None
    qps_ratio: Estimate | None
    unparsable: float | None
    tasks: tuple[TaskLine, ...]


@dataclass(frozen=True)
class Analysis:
    """All figures of one leaderboard, best method first."""

    selection: Selection
    lines: tuple[Line, ...]
    resamples: int
    seed: int
    notes: tuple[str, ...] = field(default=())


class Suite:
    """Resampled scores of the methods of one grid; figures are read off it by method position."""

    def __init__(self, grid: Grid, resamples: int, seed: int) -> None:
        self.methods = grid.methods
        self.tasks: list[Replicates] = [resample(task, resamples, seed) for task in grid.tasks]
        self.levels: list[Floats | None] = [task.two_level() for task in self.tasks]

    def score(self, method: int, tasks: Sequence[int]) -> Estimate:
        """Return the mean score of `method` over `tasks`."""
        return self._linear(np.eye(len(self.methods))[method], tasks)

    def difference(self, method: int, other: int, tasks: Sequence[int]) -> Estimate:
        """Return the difference of mean scores, `method` less `other`, in points."""
        eye = np.eye(len(self.methods))
        return self._linear(eye[method] - eye[other], tasks)

    def gain(self, method: int, other: int, tasks: Sequence[int]) -> Estimate | None:
        """Return the relative gain of `method` over `other` in %, None where `other` scores 0."""
        own, its = (np.mean([self.tasks[t].point[m].mean() for t in tasks]) for m in (method, other))
        if its <= 0:
            return None
        eye = np.eye(len(self.methods))
        weights = 100.0 * (eye[method] - own / its * eye[other]) / its
        levels = self._levels(tasks)
        value = float(100.0 * (own - its) / its)
        if levels is None:
            return Estimate(value)
        safe = np.maximum(levels[other], 1e-9)
        return calibrated(value, 100.0 * (levels[method] - safe) / safe, self._parts(weights, tasks), weights @ levels)

    def _linear(self, weights: Floats, tasks: Sequence[int]) -> Estimate:
        value = float(np.mean([(weights @ self.tasks[t].point).mean() for t in tasks]))
        levels = self._levels(tasks)
        if levels is None:
            return Estimate(value)
        return calibrated(value, weights @ levels, self._parts(weights, tasks), weights @ levels)

    def _levels(self, tasks: Sequence[int]) -> Floats | None:
        found = [level for t in tasks if (level := self.levels[t]) is not None]
        return np.mean(found, axis=0) if len(found) == len(tasks) else None

    def _parts(self, weights: Floats, tasks: Sequence[int]) -> list[Part]:
        parts = []
        for t in tasks:
            one = self.tasks[t]
            assert one.draws is not None
            draws = sum(weights[m] / len(tasks) * one.draws[m] for m in np.flatnonzero(weights))
            parts.append(Part(weights @ one.point / len(tasks), np.asarray(draws), one.task.n_clusters))
        return parts


def analyse(selection: Selection, *, resamples: int = 10_000, seed: int = 0) -> Analysis:
    """Compute every figure of the leaderboard that `selection` describes."""
    main = Suite(selection.grid, resamples, seed)
    lines = [_line(selection, main, name, True, resamples, seed) for name in selection.grid.methods]
    for name, grid in selection.partial.items():
        lines.append(_line(selection, Suite(grid, resamples, seed), name, False, resamples, seed))
    lines.sort(key=lambda line: (not line.ranked, -line.score.value, line.method))
    return Analysis(selection, tuple(lines), resamples, seed, selection.notes)


def _line(selection: Selection, suite: Suite, name: str, ranked: bool, resamples: int, seed: int) -> Line:
    own = suite.methods.index(name)
    base = suite.methods.index(selection.baseline) if selection.baseline in suite.methods else None
    against = None if base in (own, None) else base
    every = range(len(suite.tasks))
    names = [task.task.name for task in suite.tasks]
    cells = selection.cells[selection.cells["task"].isin(names)]
    mine = cells[cells["method"] == name]
    ratio = None
    if selection.reference is not None and selection.reference != name:
        ratio = qps_ratio(cells, name, selection.reference, resamples=resamples, seed=seed)
    inference = str(mine["inference"].iloc[0])
    return Line(
        method=name,
        role=str(mine["role"].iloc[0]),
        inference=inference,
        ranked=ranked,
        score=suite.score(own, every),
        gain=None if against is None else suite.gain(own, against, every),
        difference=None if against is None else suite.difference(own, against, every),
        qps=qps(mine),
        qps_ratio=ratio,
        unparsable=float(mine["unparsable"].mean()) if inference == "generate" else None,
        tasks=tuple(
            TaskLine(
                task,
                suite.score(own, [t]),
                None if against is None else suite.gain(own, against, [t]),
                None if against is None else suite.difference(own, against, [t]),
            )
            for t, task in enumerate(names)
        ),
    )
