"""Are a method's class probabilities any good? Proper scores, calibration error and selective risk.

Each figure is measured on the drawn clusters of the two-level bootstrap, all methods on the same ones, and
its variance put together like that of a score (docs/statistics.md), so that differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.stats.bootstrap import Replicates, cluster_weights, seed_weights
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.intervals import Estimate, student
from dhrd_bench.stats.probabilities import Probabilities
from dhrd_bench.stats.suite import Scored, SuiteScores

BINS = 15
"""Bins of equal width that the calibration error is measured in."""
FIGURES = ("nll", "brier", "ece", "aurc")
_DRAWS = 500  # enough for a variance


@dataclass(frozen=True)
class Calibration:
    """Figures of one method, lower being better.

    Attributes
    ----------
    task
        None for the mean over tasks, of a method with probabilities on all of them.
    figures
        ``nll``, mean negative log-probability of the true class, in nats. ``brier``, mean squared distance
        of the probabilities from the truth, summed over classes, 0-2. ``ece``, the calibration error of
        the answer's probability in `BINS` bins, 0-1. ``aurc``, the mean error rate over all coverages of
        answering only where the probability is highest, 0-1.
    versus
        Method less baseline, on the same rows; empty for the baseline and where it has no probabilities.
    """

    method: str
    task: str | None
    figures: dict[str, Estimate]
    versus: dict[str, Estimate]


def calibrations(
    given: Sequence[Probabilities], methods: Sequence[str], baseline: str | None, resamples: int, seed: int
) -> list[Calibration]:
    """Return the figures of all methods that have probabilities, by task and over the suite."""
    drawn = [measured(task, min(resamples, _DRAWS), seed) for task in given]
    suites = {
        figure: SuiteScores(methods, [Scored.of(task[at]) for task in drawn]) for at, figure in enumerate(FIGURES)
    }
    found = []
    scopes = [(None, list(range(len(given)))), *((task.task.name, [t]) for t, task in enumerate(given))]
    for scope, tasks in scopes:
        able = [name for name in methods if all(name not in given[t].left_out for t in tasks)]
        for name in able:
            own = methods.index(name)
            figures = {figure: _estimate(suite, own, None, tasks) for figure, suite in suites.items()}
            versus = {}
            if baseline in able and name != baseline:
                base = methods.index(baseline)
                versus = {figure: _estimate(suite, own, base, tasks) for figure, suite in suites.items()}
            found.append(Calibration(name, scope, figures, versus))
    return found


def _estimate(suite: SuiteScores, method: int, base: int | None, tasks: Sequence[int]) -> Estimate:
    """Return a figure of `method`, over its seeds, or its difference to `base`, over those that both have."""
    # Scores are of 0-100, and so is their floor, a row that goes either way.
    weights = np.eye(len(suite.methods))[method]
    value, least = suite.mean(method, tasks, base), 0.0
    if base is not None:
        weights[base], least = -1.0, -math.inf
        value -= suite.mean(base, tasks, method)
    spread = suite.variance({t: weights / len(tasks) for t in tasks})
    if spread is None:
        return Estimate(value / 100)
    found = student(value, spread)
    assert found.low is not None
    assert found.high is not None
    assert found.se is not None
    return Estimate(value / 100, max(found.low / 100, least), found.high / 100, found.se / 100, found.df)


def measured(given: Probabilities, resamples: int, seed: int) -> list[Replicates]:
    """Return the replicates of every one of the `FIGURES`, times 100 as scores are."""
    task = given.task
    methods, seeds, _ = task.predictions.shape
    point, draws = np.empty((4, methods, seeds)), np.empty((4, methods, seeds, resamples))
    whole, start = np.ones((1, task.n_clusters)), 0
    cells = [[_Cell(given, m, s) for s in range(seeds)] for m in range(methods)]
    for weights in cluster_weights(task.name, task.n_clusters, resamples, seed):
        for m, s in np.ndindex(methods, seeds):
            draws[:, m, s, start : start + len(weights)] = cells[m][s].figures(weights.astype(float))
        start += len(weights)
    for m, s in np.ndindex(methods, seeds):
        point[:, m, s] = cells[m][s].figures(whole)[:, 0]
    point[:, ~task.present] = np.nan
    drawn = seed_weights(task.name, seeds, resamples, seed)
    return [Replicates(task, 100 * point[figure], 100 * draws[figure], drawn) for figure in range(4)]


class _Cell:
    """One cell, laid out so that weighted clusters cost a matrix product and, for selective risk, a sum in order."""

    def __init__(self, given: Probabilities, method: int, seed: int) -> None:
        task, p = given.task, given.values[method, seed]
        rows, answers = np.arange(len(task.labels)), task.predictions[method, seed]
        wrong = (answers != task.labels).astype(float)
        # An answer that could not be read is wrong, and as sure as its likeliest class.
        sure = np.where(answers >= 0, p[rows, answers], p.max(axis=1))
        nll = -np.log(np.maximum(p[rows, task.labels], np.finfo(float).tiny))
        brier = ((p - np.eye(task.classes)[task.labels]) ** 2).sum(axis=1)
        # Bin b holds the answers in (b / BINS, (b + 1) / BINS].
        bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
        columns = np.zeros((task.n_clusters, BINS + 3))
        np.add.at(columns, (task.clusters, bins), sure - (1 - wrong))
        for at, values in enumerate((nll, brier, np.ones(len(rows))), start=BINS):
            columns[:, at] = np.bincount(task.clusters, values, task.n_clusters)
        self.columns, order = columns, np.argsort(-sure, kind="stable")
        self.clusters, self.wrong = task.clusters[order], wrong[order]
        # Equally sure answers are given or withheld together.
        self.ends = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))

    def figures(self, weights: Floats) -> Floats:
        """Return ``(4, r)`` the figures with clusters weighted by ``(r, C)``."""
        sums = weights @ self.columns
        size = sums[:, -1]
        of_rows = weights[:, self.clusters]
        given = np.cumsum(of_rows, axis=1)[:, self.ends]
        errors = np.cumsum(of_rows * self.wrong, axis=1)[:, self.ends]
        risk = np.divide(errors, given, out=np.zeros_like(errors), where=given > 0)
        aurc = (risk * np.diff(given, axis=1, prepend=0.0)).sum(axis=1)
        ece = np.abs(sums[:, :BINS]).sum(axis=1)
        return np.stack([sums[:, BINS], sums[:, BINS + 1], ece, aurc]) / size
