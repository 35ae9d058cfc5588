"""A grid with all its pairwise tests, and their correction over grids."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dhrd_bench.stats.cost import mean_costs
from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import Grid, Selection
from dhrd_bench.stats.ranking import rank_intervals, tied_sets
from dhrd_bench.stats.significance import (
    ALPHA,
    SUITE,
    Flips,
    Test,
    corrected,
    crossed_p,
    holm,
    pair_differences,
    sign_flips,
)
from dhrd_bench.stats.suite import SuiteScores

_CHUNK = 1024  # pairs tested at a time: two hundred methods have twenty thousand, each with its resamples


@dataclass(frozen=True)
class Uncorrected:
    """An uncorrected test: its p and where it comes from."""

    p: float
    flips: Flips
    crossed: float | None


class TestedGrid:
    """A grid with all its pairwise tests: the ranked methods, or one partial method and the baseline.

    Attributes
    ----------
    ranked
        Whether it is the grid of the ranked methods.
    shown
        Positions of the methods whose lines it gives.
    base
        Position of the baseline, None without one.
    corrected
        The tests against the baseline by method and task (None: the suite), once `correct` has run.
    """

    def __init__(self, selection: Selection, grid: Grid, resamples: int, seed: int, only: str | None = None) -> None:
        self.selection, self.grid, self.ranked = selection, grid, only is None
        self.suite = SuiteScores.of(grid, resamples, seed)
        self.shown = [m for m, name in enumerate(grid.methods) if only in (None, name)]
        self.base = grid.methods.index(selection.baseline) if selection.baseline in grid.methods else None
        self.pairs = list(itertools.combinations(range(len(grid.methods)), 2))
        self.corrected: dict[tuple[int, int | None], Test] = {}
        able = [task for task in grid.tasks if known(task.info.metrics)]
        self.flips: dict[str, list[Flips]] = {}
        for start in range(0, len(self.pairs), _CHUNK):
            pairs = self.pairs[start : start + _CHUNK]
            found = sign_flips({task.name: pair_differences(task, pairs) for task in able}, resamples, seed)
            for name, tests in found.items():
                self.flips.setdefault(name, []).extend(tests)
        if len(able) < len(grid.tasks):
            self.flips.pop(SUITE, None)

    @cached_property
    def costs(self) -> dict[str, dict[str, float | None]]:
        """Each method's mean costs on the cells of the grid."""
        cells = self.selection.cells
        within = {(task.name, seed) for task in self.grid.tasks for seed in task.seeds}
        return mean_costs(cells[[key in within for key in zip(cells["task"], cells["seed"], strict=True)]])

    def compared(self) -> list[int]:
        """Return the methods that are tested against the baseline."""
        return [m for m in self.shown if self.base is not None and m != self.base]

    def test(self, method: int, other: int, task: int | None = None) -> Uncorrected | None:
        """Return the test of two methods on a task, or over the suite; None if a metric cannot be resampled."""
        by_pair = self.flips.get(SUITE if task is None else self.suite.names[task])
        if by_pair is None:
            return None
        flips = by_pair[self.pairs.index((min(method, other), max(method, other)))]
        tasks = self.suite.every if task is None else [task]
        crossed = None
        if any(len(self.grid.tasks[t].seeds) > 1 for t in tasks):
            crossed = crossed_p(self.suite.difference(method, other, tasks))
        return Uncorrected(max(flips.p, crossed or 0.0), flips, crossed)

    @cached_property
    def better(self) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """Which method was shown to beat which, Holm-corrected over all pairs."""
        flags = np.zeros((len(self.grid.methods),) * 2, dtype=bool)
        tests = [self.test(*pair) for pair in self.pairs]
        adjusted = holm(np.array([1.0 if test is None else test.p for test in tests]))
        for (i, j), p in zip(self.pairs, adjusted, strict=True):
            ahead, behind = (i, j) if self.suite.mean(i) > self.suite.mean(j) else (j, i)
            flags[ahead, behind] = p <= ALPHA
        return flags

    @cached_property
    def ranks(self) -> list[tuple[int, int]]:
        """The ranks that the tests leave open, by method."""
        return rank_intervals(self.better)

    @cached_property
    def tied(self) -> list[str]:
        """The letters of the tied sets, by method."""
        order = np.argsort([-self.suite.mean(m) for m in range(len(self.grid.methods))], kind="stable")
        return tied_sets(self.better, order)


def correct(grids: Sequence[TestedGrid]) -> None:
    """Correct the suite's tests over all methods (Holm), the tasks' over methods and tasks (BH)."""
    compared = [(tested, m, tested.base) for tested in grids for m in tested.compared() if tested.base is not None]
    main = [(tested, m, None, tested.test(m, base)) for tested, m, base in compared]
    table = [(tested, m, t, tested.test(m, base, t)) for tested, m, base in compared for t in tested.suite.every]
    for family, rows in (("holm", main), ("bh", table)):
        able = [(tested, m, t, test) for tested, m, t, test in rows if test is not None]
        tests = corrected([test.p for *_, test in able], [test.flips.attainable for *_, test in able], family)
        for (tested, m, t, _), test in zip(able, tests, strict=True):
            tested.corrected[m, t] = test
