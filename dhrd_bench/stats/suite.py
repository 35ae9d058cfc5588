"""Figures of one grid: scores, differences and relative gains, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

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
        found = self.variance(self._unit(method), at)
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
        found = self.variance(self._unit(method) - self._unit(other), at)
        return Estimate(value) if found is None else student(value, found)

    def gain(self, method: int, other: int, tasks: Sequence[int] | None = None) -> Estimate | None:
        """Return the relative gain ``100 * (method - other) / other``, None where `other` scores 0.

        The ratio is linearised at the measured scores (delta method).
        """
        at = tasks or self.every
        own, its = self.mean(method, at), self.mean(other, at)
        if its <= 0:
            return None
        found = self.variance(100.0 * (self._unit(method) - own / its * self._unit(other)) / its, at)
        value = 100.0 * (own - its) / its
        return Estimate(value) if found is None else student(value, found)

    def variance(self, weights: Floats, tasks: Sequence[int]) -> Variance | None:
        """Return the variance of the mean over `tasks` of a contrast with ``(M,)`` `weights`.

        None if a metric of one of the tasks cannot be resampled.
        """
        parts = []
        floor = 0.0
        used = np.flatnonzero(weights)
        scaled = weights / len(tasks)
        for t in tasks:
            one = self.tasks[t]
            if one.draws is None or one.influence is None:
                return None
            draws = sum(scaled[m] * one.draws[m] for m in used)
            parts.append(
                Part(
                    scaled @ one.point,
                    np.asarray(draws),
                    np.einsum("m,mc->c", scaled[used], one.influence[used].mean(axis=1)),
                )
            )
            # No two methods differ anywhere: as if one example had gone either way.
            floor += 2 * (100.0 * float(np.abs(scaled).max()) / len(one.task.labels)) ** 2
        single = len(used) == 1
        return variance(parts, 0.0 if single else floor)

    def _unit(self, method: int) -> Floats:
        return np.eye(len(self.methods))[method]
