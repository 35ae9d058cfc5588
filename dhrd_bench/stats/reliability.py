"""How often answers of a stated probability are right: a reliability diagram, with an interval a bin.

The share of right answers in a bin is a ratio, as chance decides how many answers fall into it. Linearised it is a
sum over tasks of means over seeds of sums over clusters, so its variance has the parts that a score's has; here the
clusters' part needs no draws, as the variance of a sum of drawn clusters is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.stats.calibration import BINS
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.intervals import Estimate, Part, variance, wilson
from dhrd_bench.stats.probabilities import Probabilities


@dataclass(frozen=True)
class Bin:
    """The answers of a range of probabilities; tasks and seeds count alike.

    Attributes
    ----------
    share
        Of all answers, 0-1.
    sure
        Mean probability of the answers.
    right
        Share of them that is right.
    """

    share: float
    sure: float
    right: Estimate


def reliability(given: Sequence[Probabilities], method: int) -> list[Bin]:
    """Return the bins that are not empty of a method, which has probabilities on all of the tasks `given`.

    Bin b holds the answers in (b / BINS, (b + 1) / BINS].
    """
    laid_out = [_laid_out(task, method, len(given)) for task in given]
    found = []
    for place in range(BINS):
        tasks = [columns[..., place] for columns in laid_out]
        share, sure, right = sum(columns.sum(axis=2).mean(axis=1) for columns in tasks)
        if share > 0:
            found.append(Bin(share, sure / share, _right(given, tasks, share, right / share)))
    return found


def _laid_out(given: Probabilities, method: int, tasks: int) -> Floats:
    """Return ``(3, S, C, BINS)``: the shares of a cluster's answers, these times their probability, the right ones."""
    task = given.task
    sure, right = given.answers(method)
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    shape = (len(sure), task.n_clusters, BINS)
    at = np.ravel_multi_index((np.arange(len(sure))[:, None], task.clusters[None], bins), shape).ravel()
    columns = [
        np.bincount(at, each.ravel(), int(np.prod(shape))).reshape(shape)
        for each in (np.ones_like(sure), sure, right.astype(float))
    ]
    return np.stack(columns) / (len(task.labels) * tasks)


def _right(given: Sequence[Probabilities], tasks: Sequence[Floats], share: float, right: float) -> Estimate:
    """Return the share of right answers in a bin, of which each of the `tasks` holds ``(3, S, C)``."""
    parts, inverse = [], 0.0
    for each, (size, _, good) in zip(given, tasks, strict=True):
        inside = int((size.sum(axis=0) > 0).sum())
        if inside == 0:
            continue
        if each.task.n_clusters == 1:
            return Estimate(right)
        row = 100.0 / (len(each.task.labels) * len(tasks) * share)
        parts.append(_part(100.0 * (good - right * size) / share, row**2 * len(each.task.labels)))
        inverse += (size.sum(axis=1).mean() / share) ** 2 / inside
    found = wilson(100.0 * right, variance(parts), 1 / inverse)
    assert found.low is not None
    assert found.high is not None
    assert found.se is not None
    return Estimate(right, found.low / 100, found.high / 100, found.se / 100, found.df)


def _part(moves: Floats, floor: float) -> Part:
    """Return a task's part in the variance of a figure that its clusters move by ``(S, C)`` `moves` at each seed.

    `floor` is a row's square move, times the number of rows.
    """
    seeds, clusters = moves.shape
    mean = moves.mean(axis=0)
    apart = moves - mean
    return Part(
        seeds=seeds,
        clusters=clusters,
        examples=clusters * float(mean.var()),
        interaction=clusters * float(apart.var(axis=1).sum()) / (seeds - 1) if seeds > 1 else 0.0,
        square=float(moves.sum(axis=1).var(ddof=1)) if seeds > 1 else 0.0,
        floor=floor / clusters,
    )
