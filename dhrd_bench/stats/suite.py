"""Figures of one grid: scores, differences and relative gains, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.metrics import METRICS
from dhrd_bench.stats.bootstrap import Replicates, resample
from dhrd_bench.stats.design import Floats, Grid, TaskGrid
from dhrd_bench.stats.intervals import Estimate, Part, Variance, fieller, student, variance, wilson


@dataclass(frozen=True)
class Scored:
    """One task's scores and how they vary; any contrast of methods is read off the matrices.

    Attributes
    ----------
    task, point, seeds
        As in `Replicates`.
    drawn
        ``(M, R)`` means over seeds on the drawn clusters, less their own mean; None if a metric cannot be
        resampled or there is a single cluster.
    examples
        ``(M, M)`` covariance of `drawn`; None likewise.
    interaction
        ``(M, M)`` covariance over drawn clusters of a seed's deviation from that mean.
    square
        ``(M, M)`` covariance of the scores between seeds.
    """

    task: TaskGrid
    point: Floats
    seeds: Floats
    drawn: Floats | None
    examples: Floats | None
    interaction: Floats
    square: Floats

    @classmethod
    def of(cls, replicates: Replicates) -> Scored:
        """Take the moments of resampled scores."""
        methods, count = replicates.point.shape
        none = np.zeros((methods, methods))
        centred = replicates.point - replicates.point.mean(axis=1, keepdims=True)
        square = centred @ centred.T / (count - 1) if count > 1 else none
        if replicates.draws is None or replicates.task.n_clusters == 1:
            return cls(replicates.task, replicates.point, replicates.seeds, None, None, none, square)
        draws = replicates.draws - replicates.draws.mean(axis=2, keepdims=True)
        resamples = draws.shape[2]
        mean = draws.mean(axis=1)
        apart = (draws - mean[:, None]).reshape(methods, -1)
        interaction = apart @ apart.T / (resamples * (count - 1)) if count > 1 else none
        examples = mean @ mean.T / resamples
        return cls(replicates.task, replicates.point, replicates.seeds, mean, examples, interaction, square)

    def part(self, weights: Floats) -> Part | None:
        """Return the share that a contrast with ``(M,)`` `weights` has in a figure."""
        if self.examples is None:
            return None
        size = float(np.abs(weights) @ np.sqrt(np.diag(self.examples))) ** 2
        examples = float(weights @ self.examples @ weights)
        return Part(
            seeds=self.point.shape[1],
            clusters=self.task.n_clusters,
            examples=examples if examples > 1e-12 * size else 0.0,  # the rest of a difference of equals is rounding
            interaction=float(weights @ self.interaction @ weights),
            square=float(weights @ self.square @ weights),
            floor=self.floor(weights),
        )

    def floor(self, weights: Floats) -> float:
        """Return the variance that a contrast has at least: as if a row of each of its methods had gone either way.

        Seeing no difference on 56 examples is not having shown that there is none, nor is seeing one on one
        of them. A cluster stands for the square root of as many rows as it has.
        """
        return float((weights**2).sum()) * 100.0**2 / (len(self.task.labels) * self.task.n_clusters)


class SuiteScores:
    """The resampled methods of one grid. Methods and tasks are named by position."""

    def __init__(self, methods: Sequence[str], tasks: Sequence[Scored]) -> None:
        self.methods = tuple(methods)
        self.tasks = tuple(tasks)
        self.names = [scored.task.name for scored in tasks]
        self.every = range(len(tasks))

    @classmethod
    def of(cls, grid: Grid, resamples: int, seed: int) -> SuiteScores:
        """Resample every task of `grid`."""
        return cls(grid.methods, [Scored.of(resample(task, resamples, seed)) for task in grid.tasks])

    def mean(self, method: int, tasks: Sequence[int] | None = None) -> float:
        """Return the mean score of `method` over tasks and seeds."""
        return float(np.mean([self.tasks[t].point[method].mean() for t in tasks or self.every]))

    def score(self, method: int, tasks: Sequence[int] | None = None) -> Estimate:
        """Return the mean score of `method` over `tasks`, all by default."""
        at = tasks or self.every
        value = self.mean(method, at)
        spread = self.variance({t: self._unit(method) / len(at) for t in at})
        if spread is None:
            return Estimate(value)
        if self._signed(at):
            return student(value, spread, 100.0)
        clusters = len(at) ** 2 / sum(1 / self.tasks[t].task.n_clusters for t in at)
        return wilson(value, spread, clusters)

    def difference(self, method: int, other: int, tasks: Sequence[int] | None = None) -> Estimate:
        """Return `method` less `other` in points."""
        at = tasks or self.every
        value = self.mean(method, at) - self.mean(other, at)
        spread = self.variance({t: (self._unit(method) - self._unit(other)) / len(at) for t in at})
        return Estimate(value) if spread is None else student(value, spread, self._most(at))

    def gain(self, method: int, other: int, tasks: Sequence[int] | None = None) -> Estimate | None:
        """Return the relative gain ``100 * (method - other) / other``, None where `other` scores 0 or less.

        Its interval is Fieller's set at the difference's degrees of freedom, so that it holds 0 exactly
        where the interval of the difference does.
        """
        at = tasks or self.every
        base = self.mean(other, at)
        if base <= 0:
            return None
        own, others = self._unit(method) / len(at), self._unit(other) / len(at)
        contrasts = (own - others, others, own)
        spreads = [self.variance(dict.fromkeys(at, contrast)) for contrast in contrasts]
        value = 100.0 * (self.mean(method, at) - base) / base
        difference, below, above = spreads
        if difference is None or below is None or above is None:
            return Estimate(value)
        joint = (above.total - difference.total - below.total) / 2
        least = -math.inf if self._signed(at) else -100.0
        return fieller(value, base, difference, below.total, joint, least)

    def concentration(self, method: int, other: int, inside: Sequence[int], outside: Sequence[int]) -> Estimate:
        """Return the mean difference on the tasks `inside` less that on the tasks `outside`, in points."""
        value = self.difference(method, other, inside).value - self.difference(method, other, outside).value
        pair = self._unit(method) - self._unit(other)
        spread = self.variance({t: pair / len(inside) for t in inside} | {t: -pair / len(outside) for t in outside})
        most = self._most(inside) + self._most(outside)
        return Estimate(value) if spread is None else student(value, spread, most)

    def variance(self, contrast: Mapping[int, Floats]) -> Variance | None:
        """Return the variance of a sum over tasks of ``(M,)`` weights times the methods' scores.

        None if a metric of one of the tasks cannot be resampled.
        """
        parts = []
        for t, weights in contrast.items():
            part = self.tasks[t].part(weights)
            if part is None:
                return None
            parts.append(part)
        return variance(parts)

    def _signed(self, tasks: Sequence[int]) -> bool:
        """Return whether a score can be below 0."""
        return any(METRICS[name].signed for t in tasks for name in self.tasks[t].task.info.metrics)

    def _most(self, tasks: Sequence[int]) -> float:
        """Return the largest difference that two methods can have."""
        return 200.0 if self._signed(tasks) else 100.0

    def _unit(self, method: int) -> Floats:
        return np.asarray(np.eye(len(self.methods))[method])
