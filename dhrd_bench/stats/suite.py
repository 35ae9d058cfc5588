"""Figures of one grid: scores, differences and relative gains, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dhrd_bench.stats.bootstrap import Replicates, resample
from dhrd_bench.stats.design import Floats, Grid
from dhrd_bench.stats.intervals import Estimate, Part, Variance, student, variance, wilson

UNSTABLE = 0.2
"""A relative gain is flagged where the baseline's standard error is this share of its score."""


class Suite:
    """The resampled methods of one grid. Methods and tasks are named by position."""

    def __init__(self, grid: Grid, resamples: int, seed: int) -> None:
        self.methods = grid.methods
        self.tasks: list[Replicates] = [resample(task, resamples, seed) for task in grid.tasks]
        self.names = [task.name for task in grid.tasks]
        self.every = range(len(self.tasks))

    def mean(self, method: int, tasks: Sequence[int] | None = None) -> float:
        """Return the mean score of `method` over tasks and seeds."""
        return float(np.mean([self.tasks[t].point[method].mean() for t in tasks or self.every]))

    def score(self, method: int, tasks: Sequence[int] | None = None) -> Estimate:
        """Return the mean score of `method` over `tasks`, all by default."""
        at = tasks or self.every
        value = self.mean(method, at)
        found = self.variance({t: self._unit(method) / len(at) for t in at})
        if found is None:
            return Estimate(value)
        if any("matthews_correlation" in self.tasks[t].task.info.metrics for t in at):
            return student(value, found)
        rows = len(at) ** 2 / sum(1 / len(self.tasks[t].task.labels) for t in at)
        return wilson(value, found, rows)

    def difference(self, method: int, other: int, tasks: Sequence[int] | None = None) -> Estimate:
        """Return `method` less `other` in points."""
        at = tasks or self.every
        value = self.mean(method, at) - self.mean(other, at)
        found = self.variance({t: (self._unit(method) - self._unit(other)) / len(at) for t in at})
        return Estimate(value) if found is None else student(value, found)

    def gain(self, method: int, other: int, tasks: Sequence[int] | None = None) -> Estimate | None:
        """Return the relative gain ``100 * (method - other) / other``, None where `other` scores 0.

        The ratio is linearised at the measured scores (delta method).
        """
        at = tasks or self.every
        own, its = self.mean(method, at), self.mean(other, at)
        if its <= 0:
            return None
        contrast = 100.0 * (self._unit(method) - own / its * self._unit(other)) / its
        found = self.variance({t: contrast / len(at) for t in at})
        value = 100.0 * (own - its) / its
        return Estimate(value) if found is None else student(value, found)

    def concentration(self, method: int, other: int, inside: Sequence[int], outside: Sequence[int]) -> Estimate:
        """Return the mean difference on the tasks `inside` less that on the tasks `outside`, in points."""
        value = self.difference(method, other, inside).value - self.difference(method, other, outside).value
        pair = self._unit(method) - self._unit(other)
        found = self.variance({t: pair / len(inside) for t in inside} | {t: -pair / len(outside) for t in outside})
        return Estimate(value) if found is None else student(value, found)

    def variance(self, contrast: Mapping[int, Floats]) -> Variance | None:
        """Return the variance of a sum over tasks of ``(M,)`` weights times the methods' scores.

        None if a metric of one of the tasks cannot be resampled.
        """
        parts = []
        floor = 0.0
        for t, weights in contrast.items():
            one = self.tasks[t]
            if one.draws is None:
                return None
            used = np.flatnonzero(weights)
            draws = np.zeros(one.draws.shape[1:])
            for m in used:
                draws += weights[m] * one.draws[m]
            parts.append(Part(weights @ one.point, draws, one.task.n_clusters))
            if len(used) > 1:  # where two methods differ nowhere: as if one example had gone either way
                floor += 2 * (100.0 * float(np.abs(weights).max()) / len(one.task.labels)) ** 2
        return variance(parts, floor)

    def _unit(self, method: int) -> Floats:
        return np.asarray(np.eye(len(self.methods))[method])
