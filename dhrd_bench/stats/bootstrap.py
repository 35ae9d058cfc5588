"""The two-level paired bootstrap.

Tasks are fixed. Within a task, seeds are drawn with replacement and clusters are drawn with
replacement; every seed and every method is then scored on the *same* draw of clusters, because they
were scored on the same test examples (seeds and examples are crossed, not nested). All methods share
the draws, so that any contrast of methods is paired.

See docs/statistics.md for the definitions and the simulations behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dhrd_bench.contracts import derive_seed
from dhrd_bench.metrics import Counts
from dhrd_bench.stats.counts import ClusterCounts, Singles, cluster_counts, known, score
from dhrd_bench.stats.design import Floats, TaskGrid

_CHUNK = 1 << 20  # weights held at a time; part of the definition of the draws
_HELD = 1 << 20  # counts scored at a time


@dataclass(frozen=True)
class Replicates:
    """One task's scores, as measured and resampled.

    Attributes
    ----------
    task
        What was resampled.
    point
        ``(M, S)`` scores of the cells, 0-100; not a number where a method lacks a seed.
    draws
        ``(M, S, R)`` scores of the cells on the drawn clusters; None if a metric cannot be resampled.
    seeds
        ``(S, R)`` how often each seed was drawn; columns sum to S.
    seed
        Of all these draws.
    """

    task: TaskGrid
    point: Floats
    draws: Floats | None
    seeds: Floats
    seed: int = 0

    def two_level(self) -> Floats | None:
        """Return ``(M, R)`` scores averaged over the drawn seeds."""
        return None if self.draws is None else (self.draws * self.seeds).mean(axis=1)


def cluster_weights(task: str, clusters: int, resamples: int, seed: int) -> Iterator[Singles]:
    """Draw clusters with replacement; yield ``(r, C)`` how often each was drawn, in chunks of resamples."""
    rng = np.random.default_rng(derive_seed("bootstrap", task, str(seed)))
    rows = max(1, _CHUNK // clusters)
    kind = np.uint16 if clusters <= 1 << 16 else np.uint32
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, clusters, size=(size, clusters), dtype=kind).astype(np.int64)
        drawn += clusters * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float32)


def seed_weights(task: str, seeds: int, resamples: int, seed: int) -> Floats:
    """Draw seeds with replacement; return ``(S, R)`` how often each was drawn."""
    rng = np.random.default_rng(derive_seed("seeds", task, str(seed)))
    return np.ascontiguousarray(rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).T, dtype=float)


def resample(task: TaskGrid, resamples: int, seed: int = 0) -> Replicates:
    """Score every method and seed of `task` on `resamples` draws of its clusters.

    The draws depend on the task's name, the sizes and `seed` only, so they are the same for all
    methods and whatever else is in the table.
    """
    names = task.info.metrics
    seeds = seed_weights(task.name, len(task.seeds), resamples, seed)
    if not known(names):
        return Replicates(task, np.mean([task.given[name] for name in names], axis=0), None, seeds, seed)
    table = cluster_counts(task)
    point = score(_weigh(table, np.ones((1, task.n_clusters), dtype=np.float32)), names)[0]
    point[~task.present] = np.nan
    draws = np.empty((*point.shape, resamples))
    start, rows = 0, max(1, _HELD // table.own.shape[1])
    for chunk in cluster_weights(task.name, task.n_clusters, resamples, seed):
        for weights in np.split(chunk, range(rows, len(chunk), rows)):
            draws[..., start : start + len(weights)] = np.moveaxis(score(_weigh(table, weights), names), 0, -1)
            start += len(weights)
    return Replicates(task, point, draws, seeds, seed)


def _weigh(table: ClusterCounts, weights: Singles) -> Counts:
    return table.unpack((weights @ table.own).astype(float), (weights @ table.shared).astype(float))
