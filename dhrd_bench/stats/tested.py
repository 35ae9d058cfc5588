"""A grid with all its pairwise tests, and their correction over grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dhrd_bench.stats.collapse import collapsed
from dhrd_bench.stats.cost import costs_of, energy_sources, mean_costs
from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import Flags, Grid, Selection
from dhrd_bench.stats.pairwise import shown_better
from dhrd_bench.stats.ranking import rank_intervals, tied_sets
from dhrd_bench.stats.significance import SUITE, Flips, Test, corrected, crossed_p, pair_differences, sign_flips
from dhrd_bench.stats.suite import SuiteScores


@dataclass(frozen=True)
class Uncorrected:
    """An uncorrected test: its p and where it comes from."""

    p: float
    flips: Flips
    crossed: float | None


class TestedGrid:
    """A grid with its tests: the ranked methods, or one partial method and the baseline.

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
        self.resamples, self.seed = resamples, seed
        self.suite = SuiteScores.of(grid, resamples, seed)
        self.shown = [m for m, name in enumerate(grid.methods) if only in (None, name)]
        self.base = grid.methods.index(selection.baseline) if selection.baseline in grid.methods else None
        self.corrected: dict[tuple[int, int | None], Test] = {}

    @cached_property
    def _costs(self) -> dict[tuple[str, str, int], dict[str, object]]:
        """What the record of each cell says that it cost; nothing of energy if not all were told by one source."""
        cells = self.selection.cells
        keys = zip(cells["method"], cells["task"], cells["seed"], strict=True)
        told: list[dict[str, Any]] = list(cells["energy"])
        energies = told if len(energy_sources(told)) == 1 else [{}] * len(told)
        every = zip(cells["train"], energies, cells["examples"], strict=True)
        return dict(zip(keys, (costs_of(*each) for each in every), strict=True))

    def costs(self, method: int) -> tuple[dict[str, float | None], dict[str, float | None]]:
        """Return the mean costs of `method`, and of the baseline on the same cells; of none if there is none."""
        names = (self.grid.methods[method], None if self.base is None else self.grid.methods[self.base])
        at = [
            (task.name, seed)
            for task in self.grid.tasks
            for seed, have in zip(
                task.seeds, task.shared([method] if self.base is None else [method, self.base]), strict=True
            )
            if have
        ]
        own, base = ([self._costs[name, *cell] for cell in at] if name else [] for name in names)
        return mean_costs(own), mean_costs(base)

    def collapsed(self, method: int, task: int) -> tuple[int, ...]:
        """Return the seeds of a task at which `method` collapsed to a single answer."""
        return tuple(np.array(self.grid.tasks[task].seeds)[self._collapsed[task][method]].tolist())

    @cached_property
    def _collapsed(self) -> list[Flags]:
        return [collapsed(task) for task in self.grid.tasks]

    def compared(self) -> list[int]:
        """Return the methods that are tested against the baseline."""
        return [m for m in self.shown if self.base is not None and m != self.base]

    @cached_property
    def flips(self) -> dict[str, dict[int, Flips]]:
        """The sign flips against the baseline, by task and over the `SUITE`, by method."""
        able = [task for task in self.grid.tasks if known(task.info.metrics)]
        pairs = [(m, self.base) for m in self.compared() if self.base is not None]
        if not pairs:
            return {}
        found = sign_flips({task.name: pair_differences(task, pairs) for task in able}, self.resamples, self.seed)
        if len(able) < len(self.grid.tasks):
            found.pop(SUITE, None)
        return {name: dict(zip(self.compared(), tests, strict=True)) for name, tests in found.items()}

    def test(self, method: int, task: int | None = None) -> Uncorrected | None:
        """Return the test against the baseline on a task, or over the suite; None if a metric cannot be resampled."""
        flips = self.flips.get(SUITE if task is None else self.suite.names[task], {}).get(method)
        if flips is None or self.base is None:
            return None
        tasks = self.suite.every if task is None else [task]
        crossed = None
        if any(self.grid.tasks[t].shared([method, self.base]).sum() > 1 for t in tasks):
            crossed = crossed_p(self.suite.difference(method, self.base, tasks))
        return Uncorrected(max(flips.p, crossed or 0.0), flips, crossed)

    @cached_property
    def better(self) -> Flags:
        """Which method was shown to beat which, Holm-corrected over all pairs."""
        return shown_better(self.suite, self.resamples, self.seed)

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
    compared = [(tested, m) for tested in grids for m in tested.compared()]
    main = [(tested, m, None, tested.test(m)) for tested, m in compared]
    table = [(tested, m, t, tested.test(m, t)) for tested, m in compared for t in tested.suite.every]
    for family, rows in (("holm", main), ("bh", table)):
        able = [(tested, m, t, test) for tested, m, t, test in rows if test is not None]
        tests = corrected([test.p for *_, test in able], [test.flips.attainable for *_, test in able], family)
        for (tested, m, t, _), test in zip(able, tests, strict=True):
            tested.corrected[m, t] = test
