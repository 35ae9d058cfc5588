"""Figures of one grid: scores, differences and relative gains, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dhrd_bench.metrics import METRICS
from dhrd_bench.stats.bootstrap import Replicates, resample, seed_weights
from dhrd_bench.stats.design import Flags, Floats, Grid, TaskGrid
from dhrd_bench.stats.intervals import Estimate, Part, Variance, fieller, student, variance, wilson


@dataclass(frozen=True)
class Scored:
    """One task's scores and how they vary; any contrast of methods is read off the covariances of the cells.

    Attributes
    ----------
    task, point, seeds, seed
        As in `Replicates`.
    drawn
        ``(M, R)`` means over seeds on the drawn clusters, less their own mean; None if a metric cannot be
        resampled or there is a single cluster.
    cells
        ``(M, S, M, S)`` covariance of the cells over drawn clusters; None likewise.
    """

    task: TaskGrid
    point: Floats
    seeds: Floats
    drawn: Floats | None
    cells: Floats | None
    seed: int = 0

    @classmethod
    def of(cls, replicates: Replicates) -> Scored:
        """Take the moments of resampled scores."""
        task, draws = replicates.task, replicates.draws
        if draws is None or task.n_clusters == 1:
            return cls(task, replicates.point, replicates.seeds, None, None, replicates.seed)
        present = np.isfinite(replicates.point)
        apart = draws - draws.mean(axis=2, keepdims=True)
        apart[~present] = 0.0
        flat = apart.reshape(present.size, -1)
        cells = (flat @ flat.T / flat.shape[1]).reshape(present.shape * 2)
        drawn = apart.sum(axis=1) / present.sum(axis=1)[:, None]
        return cls(task, replicates.point, replicates.seeds, drawn, cells, replicates.seed)

    @cached_property
    def present(self) -> Flags:
        """``(M, S)``, which method has which seed."""
        return np.isfinite(self.point)

    def runs(self, method: int, beside: int | None = None) -> Floats:
        """Return the scores of `method` by seed, on those that it shares with the method `beside`, if one is named."""
        shared = self.present[method] if beside is None else self.present[method] & self.present[beside]
        return np.asarray(self.point[method, shared])

    def seed_draws(self, count: int) -> Floats:
        """Return ``(count, R)`` how often each of `count` seeds was drawn."""
        if count == len(self.seeds):
            return self.seeds
        return seed_weights(self.task.name, count, self.seeds.shape[1], self.seed)

    def part(self, weights: Floats, beside: int | None = None) -> Part | None:
        """Return the share that a contrast with ``(M,)`` `weights` has in a figure.

        It is taken on the seeds that all methods of the contrast have, and the method `beside` it.
        """
        if self.cells is None:
            return None
        at = np.flatnonzero(weights)
        own = weights[at]
        shared = np.flatnonzero(self.present[at if beside is None else [*at, beside]].all(axis=0))
        count = len(shared)
        if count == 0:
            return None
        block = self.cells[np.ix_(at, shared, at, shared)]
        by_seed = np.einsum("i,isjt,j->st", own, block, own)
        examples = float(by_seed.mean())
        size = float(np.abs(own) @ np.sqrt(np.maximum(np.einsum("isit->i", block), 0.0))) ** 2 / count**2
        runs = own @ self.point[np.ix_(at, shared)]
        return Part(
            seeds=count,
            clusters=self.task.n_clusters,
            examples=examples if examples > 1e-12 * size else 0.0,  # the rest of a difference of equals is rounding
            interaction=max(float(np.trace(by_seed)) - count * examples, 0.0) / (count - 1) if count > 1 else 0.0,
            square=float(runs.var(ddof=1)) if count > 1 else 0.0,
            floor=self.floor(weights),
        )

    def covariances(self) -> tuple[Floats, Floats]:
        """Return ``(M, M)`` covariances of the means over each method's seeds: from the clusters, from the seeds.

        The second is without the interaction of both, and below 0 where that is larger. Seeds that two methods
        do not share move one of them only.
        """
        assert self.cells is not None
        have = self.present.astype(float)
        count, shared = have.sum(axis=1), have @ have.T
        examples = np.einsum("ia,iajb,jb->ij", have, self.cells, have) / np.outer(count, count)
        both = have[:, None] * have[None]
        apart = np.where(self.present, self.point - np.nanmean(self.point, axis=1, keepdims=True), 0.0)
        square = apart @ apart.T - (apart @ have.T) * (have @ apart.T) / np.maximum(shared, 1)
        mixed = np.einsum("ija,iaja->ij", both, self.cells)
        mixed -= np.einsum("ija,ijb,iajb->ij", both, both, self.cells) / np.maximum(shared, 1)
        seeds = (square - mixed) / np.maximum(shared - 1, 1) * (shared > 1)
        return examples, seeds * shared / np.outer(count, count)

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

    def mean(self, method: int, tasks: Sequence[int] | None = None, beside: int | None = None) -> float:
        """Return the mean score of `method` over tasks and seeds, those that the method `beside` has, too."""
        return float(np.mean([_mean(self.tasks[t].runs(method, beside)) for t in tasks or self.every]))

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
        """Return `method` less `other` in points, over the seeds that both have; no number if there is none."""
        at = tasks or self.every
        value = self.mean(method, at, other) - self.mean(other, at, method)
        spread = self.variance({t: (self._unit(method) - self._unit(other)) / len(at) for t in at})
        return Estimate(value) if spread is None else student(value, spread, self._most(at))

    def gain(self, method: int, other: int, tasks: Sequence[int] | None = None) -> Estimate | None:
        """Return the relative gain ``100 * (method - other) / other``, None where `other` scores 0 or less.

        It is over the seeds that both have. Its interval is Fieller's set at the difference's degrees of
        freedom, so that it holds 0 exactly where the interval of the difference does.
        """
        at = tasks or self.every
        score, base = self.mean(method, at, other), self.mean(other, at, method)
        if not base > 0:
            return None
        own, others = self._unit(method) / len(at), self._unit(other) / len(at)
        difference = self.variance(dict.fromkeys(at, own - others))
        below = self.variance(dict.fromkeys(at, others), method)
        above = self.variance(dict.fromkeys(at, own), other)
        value = 100.0 * (score - base) / base
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

    def variance(self, contrast: Mapping[int, Floats], beside: int | None = None) -> Variance | None:
        """Return the variance of a sum over tasks of ``(M,)`` weights times the methods' scores.

        It is over the seeds that all these methods have, and the method `beside` them. None if a metric of
        one of the tasks cannot be resampled, or no seed is shared.
        """
        parts = []
        for t, weights in contrast.items():
            part = self.tasks[t].part(weights, beside)
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
        weights = np.zeros(len(self.methods))
        weights[method] = 1.0
        return weights


def _mean(runs: Floats) -> float:
    return float(runs.mean()) if len(runs) else math.nan
