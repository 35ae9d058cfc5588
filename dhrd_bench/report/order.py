"""By which figure the lines of tables are sorted, and by which metric tasks are scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.results.table import LongTable
from dhrd_bench.stats.analysis import Analysis, Line
from dhrd_bench.stats.intervals import Estimate

Key = Callable[[Line], float | str]
"""Gives what lines are sorted by, the best first."""


def _most(estimate: Estimate | None) -> float:
    return math.inf if estimate is None else -estimate.value


SORTS: dict[str, Key] = {
    "score": lambda line: -line.score.value,
    "method": lambda line: line.method,
    "gain": lambda line: _most(line.versus.gain if line.versus else None),
    "p": lambda line: line.versus.test.adjusted if line.versus and line.versus.test else math.inf,
    "qps": lambda line: _most(line.qps),
    "tokens": lambda line: math.inf if (tokens := line.costs["tokens"].mean) is None else tokens,
}
"""By the name of the column; what a line has no figure for stands last."""


def sort_key(name: str) -> Key:
    """Return what sorts lines by this column.

    Raises
    ------
    UserError
        If lines are not sorted by such a column.
    """
    if name.lower() not in SORTS:
        raise UserError(f"Lines cannot be sorted by {name!r}.", did_you_mean(name, SORTS))
    return SORTS[name.lower()]


def in_order(analysis: Analysis, key: Key) -> Analysis:
    """Return `analysis` with its lines sorted by `key`; the ranked ones stay first, and what ties is as it was."""
    lines = sorted(analysis.lines, key=lambda line: (not line.ranked, key(line)))
    points = {point.method: point for point in analysis.points}
    placed = tuple(points[line.method] for line in lines if line.method in points)
    return replace(analysis, lines=tuple(lines), points=placed)


def by_metric(table: LongTable, metric: str | None) -> LongTable:
    """Return `table` with its tasks scored by one metric alone, without the tasks that lack it.

    Raises
    ------
    UserError
        If no task has it.
    """
    if metric is None:
        return table
    known = {name for info in table.tasks.values() for name in info.metrics}
    if metric not in known:
        raise UserError(f"No task has the metric {metric!r}.", did_you_mean(metric, known))
    tasks = {
        key: info.model_copy(update={"metrics": [metric]})
        for key, info in table.tasks.items()
        if metric in info.metrics
    }
    return replace(table, tasks=tasks)
