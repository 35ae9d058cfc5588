"""The counts that metrics are made of, by cluster, so that a resample costs one matrix product.

`cluster_counts` lays them out per cluster, ``weights @ counts`` gives them for a resample, and `score`
turns them into figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dhrd_bench.metrics import METRICS, Counts
from dhrd_bench.stats.design import Floats, Ints, TaskGrid

Singles = npt.NDArray[np.float32]


LINEAR = frozenset({"accuracy", "exact_match"})
"""Metrics that are means of something counted by cluster, over a number that no method changes."""


def known(names: Iterable[str]) -> bool:
    """Return whether all of the metrics can be resampled."""
    return all(name in METRICS for name in names)


def score(counts: Counts, names: Iterable[str]) -> Floats:
    """Return a task's score, 0-100: the mean of its metrics."""
    parts = [METRICS[name].resampled(counts) for name in names]
    return np.asarray(100.0 * sum(parts[1:], parts[0]) / len(parts))


@dataclass(frozen=True)
class ClusterCounts:
    """The counts of every cluster as two matrices, whose column sums are the task's counts.

    Attributes
    ----------
    own
        ``(C, M * S * F)`` counts that depend on the method and the seed: hits by class, then, if a
        metric needs them, rows predicted by class and groups answered right.
    shared
        ``(C, K + 1)`` rows by class, and groups.
    shape
        (M, S).
    classes
        K; a task scored by accuracy alone is counted as one class.
    """

    own: Singles
    shared: Singles
    shape: tuple[int, int]
    classes: int
    predicted: bool
    grouped: bool

    @property
    def width(self) -> int:
        """F, the number of `own` counts of a method and seed."""
        return self.classes * (1 + self.predicted) + self.grouped

    def unpack(self, own: Floats, shared: Floats, shape: tuple[int, ...] | None = None) -> Counts:
        """Give weighted sums, ``(R, ...)`` rows of ``weights @ own`` and ``weights @ shared``, their names."""
        k = self.classes
        own = own.reshape(*own.shape[:-1], *(shape or self.shape), self.width)
        shared = shared[..., None, None, :]
        none = np.zeros(1)
        return Counts(
            hits=own[..., :k],
            predicted=own[..., k : 2 * k] if self.predicted else none,
            support=shared[..., :k],
            groups_right=own[..., -1] if self.grouped else none,
            groups=shared[..., k],
        )


def cluster_counts(task: TaskGrid) -> ClusterCounts:
    """Count the outcomes of `task` by cluster.

    Counts are whole numbers below 2**24, so float32 holds them and their weighted sums exactly.
    """
    methods, seeds, _ = task.predictions.shape
    metrics = [METRICS[name] for name in task.info.metrics]
    grouped = any(metric.grouped for metric in metrics)
    predicted = any(metric.predicted for metric in metrics)
    right = task.predictions == task.labels
    kinds = range(task.classes) if predicted else range(1)
    labels = task.labels if predicted else np.zeros_like(task.labels)
    columns = [_sum_by(task.clusters, right & (labels == kind), task.n_clusters) for kind in kinds]
    if predicted:
        columns += [_sum_by(task.clusters, task.predictions == kind, task.n_clusters) for kind in kinds]
    home = np.zeros(int(task.groups.max()) + 1, dtype=np.int64)
    home[task.groups] = task.clusters
    if grouped:
        wrong = _sum_by(task.groups, ~right, len(home))
        columns.append(_sum_by(home, wrong == 0, task.n_clusters))
    own = np.moveaxis(np.stack(columns, axis=-1), 2, 0).reshape(task.n_clusters, -1)
    shared = np.zeros((task.n_clusters, len(kinds) + 1))
    np.add.at(shared, (task.clusters, labels), 1)
    np.add.at(shared[:, -1], home, 1)
    return ClusterCounts(
        own.astype(np.float32), shared.astype(np.float32), (methods, seeds), len(kinds), predicted, grouped
    )


def influence(table: ClusterCounts, names: Sequence[str]) -> Floats:
    """Return ``(M, S, C)``, how a task's score changes with the weight of each cluster.

    It sums to 0 over clusters, as no metric changes when all weights do alike.
    """
    own = table.own.astype(float).reshape(len(table.own), *table.shape, table.width)
    shared = table.shared.astype(float)
    slopes = gradient(table, names, own.sum(0), shared.sum(0))
    return np.asarray(np.einsum("msf,cmsf->msc", slopes[0], own) + np.einsum("msf,cf->msc", slopes[1], shared))


def gradient(table: ClusterCounts, names: Sequence[str], own: Floats, shared: Floats) -> tuple[Floats, Floats]:
    """Return the derivatives of the score at counts ``own (M, S, F)`` and ``shared (F',)``.

    Central differences with a step of a thousandth of a row; the shapes are ``(M, S, F)`` and
    ``(M, S, F')``.
    """
    step = 1e-3

    def at(own: Floats, shared: Floats) -> Floats:
        return np.asarray(score(table.unpack(own.reshape(1, -1), shared[None], own.shape[:2]), names)[0])

    def slopes(size: int, move: Callable[[Floats], Floats]) -> Floats:
        units = step * np.eye(size)
        return np.stack([(move(unit) - move(-unit)) / (2 * step) for unit in units], axis=-1)

    return (
        slopes(own.shape[-1], lambda unit: at(own + unit, shared)),
        slopes(shared.shape[-1], lambda unit: at(own, shared + unit)),
    )


def _sum_by(codes: Ints, values: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], size: int) -> Floats:
    """Sum `values` ``(..., n)`` by `codes` ``(n,)`` into ``(..., size)``."""
    flat = values.reshape(-1, values.shape[-1])
    at = (codes + size * np.arange(len(flat))[:, None])[flat]
    return np.bincount(at, minlength=len(flat) * size).reshape(*values.shape[:-1], size).astype(float)
