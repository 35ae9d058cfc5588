"""The two-level paired bootstrap.

Tasks are fixed. Within a task, seeds are drawn with replacement and clusters are drawn with
replacement; every seed and every method is then scored on the *same* draw of clusters, because they
were scored on the same test examples (seeds and examples are crossed, not nested). All methods share
the draws, so that any contrast of methods is paired.

See docs/statistics.md for the definitions and the simulations behind them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.design import Floats, Ints, TaskGrid
from dhrd_bench.stats.metrics import ClusterCounts, Counts, Singles, cluster_counts, score

PSEUDO = 2
"""Unseen examples that the smoothed bootstrap adds to a task; 0 gives the plain bootstrap."""

_CHUNK = 1 << 20  # weights held at a time; part of the definition of the draws


@dataclass(frozen=True)
class Replicates:
    """One task's scores, as measured and resampled.

    Attributes
    ----------
    task
        What was resampled.
    point
        ``(M, S)`` scores of the cells, 0-100.
    draws
        ``(R, M, S)`` scores of the cells on the drawn clusters; None if a metric cannot be resampled.
    seeds
        ``(R, S)`` how often each seed was drawn; rows sum to S.
    """

    task: TaskGrid
    point: Floats
    draws: Floats | None
    seeds: Floats

    def two_level(self) -> Floats | None:
        """Return ``(R, M)`` scores averaged over the drawn seeds."""
        if self.draws is None:
            return None
        return np.einsum("rms,rs->rm", self.draws, self.seeds) / len(self.task.seeds)


def cluster_weights(
    task: str, clusters: int, resamples: int, seed: int, pseudo: int = PSEUDO
) -> Iterator[tuple[Singles, Ints]]:
    """Draw clusters with replacement, in chunks of resamples.

    Yields
    ------
    weights
        ``(r, C)`` how often each cluster was drawn.
    unseen
        ``(r,)`` how often an unseen example was drawn. A draw hits each cluster with probability
        ``1 / (C + pseudo)``; ``C + pseudo`` are drawn.
    """
    rng = np.random.default_rng(derive_seed("bootstrap", task, str(seed)))
    width = clusters + pseudo
    rows = max(1, _CHUNK // width)
    kind = np.uint16 if width <= 1 << 16 else np.uint32
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, width, size=(size, width), dtype=kind).astype(np.int64)
        drawn += width * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * width).reshape(size, width)
        yield counts[:, :clusters].astype(np.float32), counts[:, clusters:].sum(axis=1)


def seed_weights(task: str, seeds: int, resamples: int, seed: int) -> Floats:
    """Draw seeds with replacement; return ``(R, S)`` how often each was drawn."""
    rng = np.random.default_rng(derive_seed("seeds", task, str(seed)))
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).astype(float)


def resample(task: TaskGrid, resamples: int, seed: int = 0, pseudo: int = PSEUDO) -> Replicates:
    """Score every method and seed of `task` on `resamples` draws of its clusters.

    An unseen example is of a class drawn evenly and each method answers it by the toss of a coin; for
    a proportion this is the bootstrap from the Agresti-Coull (Agresti-Min, for pairs) estimate. It
    keeps a perfect score, or two methods that never differ in a small sample, from having an interval
    of no width.
    """
    table = cluster_counts(task)
    names = task.info.metrics
    seeds = seed_weights(task.name, len(task.seeds), resamples, seed)
    known = set(names) <= set(task.given) if not _resampled(task) else True
    ones = np.ones((1, task.n_clusters), dtype=np.float32)
    if not _resampled(task):
        if not known:
            raise ValueError(f"{task.name}: no values of {names}")
        return Replicates(task, np.mean([task.given[name] for name in names], axis=0), None, seeds)
    point = score(_weigh(table, ones), names)[0]
    coins = [_Coins(task, method, seed) for method in range(len(task.predictions))]
    classes = np.random.default_rng(derive_seed("unseen", task.name, str(seed)))
    draws = np.empty((resamples, *point.shape))
    start = 0
    for weights, unseen in cluster_weights(task.name, task.n_clusters, resamples, seed, pseudo):
        counts = _weigh(table, weights)
        if pseudo:
            counts = _with_unseen(counts, unseen, classes, coins)
        draws[start : start + len(weights)] = score(counts, names)
        start += len(weights)
    return Replicates(task, point, draws, seeds)


def _resampled(task: TaskGrid) -> bool:
    from dhrd_bench.stats.metrics import known

    return known(task.info.metrics)


def _weigh(table: ClusterCounts, weights: Singles) -> Counts:
    return table.unpack((weights @ table.own).astype(float), (weights @ table.shared).astype(float))


class _Coins:
    """A method's answers to unseen examples.

    The stream depends on what the method answered and not on its name or place, so that two methods
    with the same answers stay the same, and adding or renaming a method changes no other.
    """

    def __init__(self, task: TaskGrid, method: int, seed: int) -> None:
        answers = hashlib.sha256(np.ascontiguousarray(task.predictions[method]).tobytes()).hexdigest()
        self.rng = np.random.default_rng(derive_seed("coins", task.name, answers, str(seed)))

    def toss(self, support: Ints) -> tuple[Ints, Ints]:
        """Return hits and predictions by class, ``(r, K)`` each, for unseen rows of classes `support`."""
        k = support.shape[1]
        hits = self.rng.binomial(support, 0.5)
        predicted = hits.copy()
        for kind in range(k):
            others = np.full(k, 1 / (k - 1))
            others[kind] = 0.0
            predicted += self.rng.multinomial(support[:, kind] - hits[:, kind], others)
        return hits, predicted


def _with_unseen(counts: Counts, unseen: Ints, rng: np.random.Generator, coins: list[_Coins]) -> Counts:
    k = counts.support.shape[-1]
    support = rng.multinomial(unseen, np.full(k, 1 / k))
    tossed = [coin.toss(support) for coin in coins]
    hits = np.stack([hit for hit, _ in tossed], axis=1)[:, :, None, :]
    predicted = np.stack([made for _, made in tossed], axis=1)[:, :, None, :]
    return Counts(
        hits=counts.hits + hits,
        predicted=counts.predicted + predicted,
        support=counts.support + support[:, None, None, :],
        groups_right=counts.groups_right + hits.sum(-1),
        groups=counts.groups + unseen[:, None, None],
    )
