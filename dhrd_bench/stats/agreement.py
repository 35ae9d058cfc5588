"""How far the seeds of one method give the same answers: what a user who trains once can rely on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.stats.bootstrap import cluster_weights
from dhrd_bench.stats.design import Floats, Grid, Ints, TaskGrid
from dhrd_bench.stats.intervals import Estimate, Variance, student, wilson


@dataclass(frozen=True)
class Agreement:
    """Agreement of the seeds of one method.

    Attributes
    ----------
    task
        None for the mean over tasks.
    seeds
        Number of seeds; of the suite, the fewest of a task. With two, intervals cover the choice of test
        examples only.
    agreement
        Share of rows on which two seeds answer alike, the mean over pairs of seeds, in %. An answer that
        could not be read counts as a class.
    kappa
        Fleiss' kappa (1971): the agreement beyond that of answers drawn by how often they are given; 1 is
        all, 0 none. None where all answers are one.
    """

    method: str
    task: str | None
    seeds: int
    agreement: Estimate
    kappa: Estimate | None


@dataclass(frozen=True)
class _Part:
    """Agreement and kappa of one task ``(2,)``: as measured, their variances by source, and of the latter the square.

    `examples`, `seeds` and `square` are what V_e, (B - I)+ / S and B / S are to a score (docs/statistics.md).
    """

    value: Floats
    examples: Floats
    seeds: Floats
    square: Floats
    clusters: int
    runs: int


def agreements(grid: Grid, resamples: int, seed: int) -> list[Agreement]:
    """Return the agreement of every method, by task and over the tasks of which it has several seeds."""
    found = []
    for m, name in enumerate(grid.methods):
        parts = {task.name: _part(task, m, resamples, seed) for task in grid.tasks if task.present[m].sum() > 1}
        if parts:
            found.append(_together(name, None, list(parts.values())))
        found += [_together(name, task, [part]) for task, part in parts.items()]
    return found


def agree(counts: Floats) -> Floats:
    """Return agreement and kappa ``(2, ...)`` of sums over rows ``(..., K + 2)``.

    The columns are a row's share of agreeing pairs, how many of its answers are of class k, and 1.
    """
    share = counts[..., 0] / counts[..., -1]
    classes = counts[..., 1:-1]
    chance = ((classes / classes.sum(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    beyond = np.where(chance < 1, 1 - chance, np.nan)
    return np.stack([share, (share - chance) / beyond])


def _counts(task: TaskGrid, answers: Ints) -> Floats:
    """Return ``(C, K + 3)`` sums over each cluster's rows of what `agree` takes, for ``(S, n)`` answers."""
    given = (answers[..., None] == np.arange(-1, task.classes)).sum(axis=0).astype(float)
    runs = len(answers)
    pairs = (given * (given - 1)).sum(axis=1) / (runs * (runs - 1))
    rows = np.column_stack([pairs, given, np.ones(len(pairs))])
    sums = np.zeros((task.n_clusters, rows.shape[1]))
    np.add.at(sums, task.clusters, rows)
    return sums


def _part(task: TaskGrid, method: int, resamples: int, seed: int) -> _Part:
    answers, clusters = task.predictions[method, task.present[method]], task.n_clusters
    runs = len(answers)
    # All seeds, and all but each: seeds drawn with replacement would agree with themselves.
    without = [np.delete(answers, s, axis=0) for s in range(runs)] if runs > 2 else []
    tables = [_counts(task, some) for some in (answers, *without)]
    values = np.stack([agree(table.sum(axis=0)) for table in tables], axis=1)
    weights = [one.astype(float) for one in cluster_weights(task.name, clusters, resamples, seed)]
    draws = np.stack([agree(np.concatenate([one @ table for one in weights])) for table in tables], axis=1)
    widened = clusters / max(clusters - 1, 1)
    # As if a row had gone the other way, at least.
    examples = np.maximum(_variance(draws[:, 0]) * widened, 1 / (len(task.labels) * clusters))
    square = interaction = np.zeros(2)
    if runs > 2:
        square = np.nan_to_num((runs - 1) * values[:, 1:].var(axis=1))
        apart = draws[:, 1:] - draws[:, 1:].mean(axis=1, keepdims=True)
        interaction = (runs - 1) * _variance(apart).mean(axis=1)
    return _Part(values[:, 0], examples, np.maximum(square - interaction, 0.0), square, clusters, runs)


def _variance(draws: Floats) -> Floats:
    """Return the variance over the last axis, of draws that have a kappa: one of a single class has none."""
    known = np.isfinite(draws)
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    centred = np.where(known, draws, 0.0)
    centred = np.where(known, centred - centred.sum(axis=-1, keepdims=True) / count, 0.0)
    return np.asarray((centred**2).sum(axis=-1) / count[..., 0])


def _together(method: str, task: str | None, parts: Sequence[_Part]) -> Agreement:
    """Average over tasks."""
    share, kappa = np.mean([part.value for part in parts], axis=0)
    examples, seeds = (
        np.sum([getattr(part, source) for part in parts], axis=0) / len(parts) ** 2 for source in ("examples", "seeds")
    )
    spread = np.sum(
        [
            part.examples**2 / max(part.clusters - 1, 1) + part.square**2 / max(part.runs - 1, 1)
            for part in parts
        ],
        axis=0,
    ) / len(parts) ** 4  # fmt: skip
    df = np.maximum((examples + seeds) ** 2 / spread, 1.0)
    clusters = len(parts) ** 2 / sum(1 / part.clusters for part in parts)
    of_share = Variance(1e4 * float(examples[0]), 0.0, 1e4 * float(seeds[0]), float(df[0]))
    of_kappa = Variance(float(examples[1]), 0.0, float(seeds[1]), float(df[1]))
    known = not math.isnan(float(kappa))
    return Agreement(
        method,
        task,
        min(part.runs for part in parts),
        wilson(100 * float(share), of_share, clusters),
        student(float(kappa), of_kappa, 1.0) if known else None,
    )
