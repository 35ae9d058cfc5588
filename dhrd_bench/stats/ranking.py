"""Ranks that claim no more than the tests support, and robust aggregates."""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from dhrd_bench.stats.design import Flags, Floats, Ints
from dhrd_bench.stats.intervals import Estimate, percentile
from dhrd_bench.stats.suite import Scored, SuiteScores


def rank_intervals(better: Flags) -> list[tuple[int, int]]:
    """Return for each method the best and worst rank that the tests leave open.

    ``better[i, j]`` says that i was shown to beat j, corrected over all pairs; then all the intervals
    hold together with the tests' confidence (Mogstad et al. 2024).
    """
    count = len(better)
    return [(1 + int(better[:, i].sum()), count - int(better[i].sum())) for i in range(count)]


def tied_sets(better: Flags, order: Ints) -> list[str]:
    """Return letters for each method: two that share one were not shown to differ (compact letter display).

    The letters are the maximal sets of methods none of which was shown to differ from another,
    named in the `order` of the methods, best first.
    """
    tied = ~(better | better.T)
    sets: list[frozenset[int]] = []
    _cliques(tied, frozenset(), frozenset(range(len(tied))), frozenset(), sets)
    place = {int(method): at for at, method in enumerate(order)}
    sets.sort(key=lambda clique: sorted(place[m] for m in clique))
    names = [string.ascii_lowercase[i % 26] * (1 + i // 26) for i in range(len(sets))]
    return ["".join(name for name, clique in zip(names, sets, strict=True) if m in clique) for m in range(len(tied))]


def _cliques(
    tied: Flags, taken: frozenset[int], open_: frozenset[int], closed: frozenset[int], cliques: list[frozenset[int]]
) -> None:
    """Bron and Kerbosch (1973) with a pivot."""
    if not open_ and not closed:
        cliques.append(taken)
        return
    neighbours = {m: frozenset(int(j) for j in np.flatnonzero(tied[m]) if j != m) for m in open_ | closed}
    pivot = max(open_ | closed, key=lambda m: (len(neighbours[m] & open_), -m))
    for m in sorted(open_ - neighbours[pivot]):
        _cliques(tied, taken | {m}, open_ & neighbours[m], closed & neighbours[m], cliques)
        open_, closed = open_ - {m}, closed | {m}


def interquartile_mean(suite: SuiteScores, method: int) -> Estimate:
    """Return the mean of the middle half of the (task, seed) scores (Agarwal et al. 2021).

    As in the source, the interval is the percentile interval over seeds drawn anew within tasks, the
    test examples being as they are; there is none for a single seed.
    """
    runs = [task.runs(method) for task in suite.tasks]
    value = float(_middle(np.concatenate(runs)))
    if all(len(of_task) == 1 for of_task in runs):
        return Estimate(value)
    drawn = [_drawn(task, of_task) for task, of_task in zip(suite.tasks, runs, strict=True)]
    low, high = percentile(_middle(np.concatenate(drawn, axis=1)))
    return Estimate(value, low, high)


def probability_of_improvement(suite: SuiteScores, method: int, other: int) -> Estimate:
    """Return the chance that a run of `method` beats a run of `other` on the same task (Agarwal et al. 2021).

    The mean over tasks of the share of pairs of seeds in which it scores higher, ties counting half, of the
    seeds that both have; the interval is as in `interquartile_mean`.
    """
    wins = [_wins(task.runs(method, other), task.runs(other, method)) for task in suite.tasks]
    value = float(np.mean([part.mean() for part in wins]))
    if all(part.size == 1 for part in wins):
        return Estimate(value)
    drawn = []
    for task, part in zip(suite.tasks, wins, strict=True):
        seeds = task.seed_draws(len(part))
        # einsum, as a matrix product this small mostly waits for its second thread
        drawn.append((seeds * np.einsum("ij,jr->ir", part, seeds)).sum(axis=0) / part.size)
    low, high = percentile(np.mean(drawn, axis=0))
    return Estimate(value, low, high)


def _drawn(task: Scored, runs: Floats) -> Floats:
    """Return ``(R, S)`` scores of the drawn seeds."""
    seeds = task.seed_draws(len(runs))
    count, resamples = seeds.shape
    return np.repeat(np.tile(runs, resamples), seeds.T.ravel().astype(int)).reshape(resamples, count)


def _middle(values: Floats) -> Floats:
    """Mean of the middle half along the last axis, a quarter (rounded down) cut off at either end."""
    count = values.shape[-1]
    return np.asarray(np.sort(values, axis=-1)[..., count // 4 : count - count // 4].mean(axis=-1))


def _wins(runs: Floats, others: Floats) -> Floats:
    """Return ``(S, S)`` whether a run of one side beats a run of the other, 0.5 for a tie."""
    gap = runs[:, None] - others[None]
    return np.asarray((gap > 0) + 0.5 * (gap == 0))


@dataclass(frozen=True)
class CriticalDifference:
    """Data of a critical-difference diagram (Demsar 2006), tasks being the blocks.

    Attributes
    ----------
    ranks
        Mean rank over tasks by method, 1 is best.
    difference
        Nemenyi's critical difference at 5 %: mean ranks closer than it are not told apart.
    tasks
        Number of tasks.
    """

    ranks: dict[str, float]
    difference: float
    tasks: int


def critical_difference(suite: SuiteScores) -> CriticalDifference | None:
    """Return mean ranks and Nemenyi's critical difference; None for fewer than two methods or tasks."""
    count, tasks = len(suite.methods), len(suite.tasks)
    if count < 2 or tasks < 2:
        return None
    means = [np.array([task.runs(method).mean() for method in range(count)]) for task in suite.tasks]
    ranks = np.mean([_ranks(of_task) for of_task in means], axis=0)
    width = _range_quantile(count) / np.sqrt(2) * np.sqrt(count * (count + 1) / (6 * tasks))
    return CriticalDifference(dict(zip(suite.methods, map(float, ranks), strict=True)), float(width), tasks)


def _ranks(scores: Floats) -> Floats:
    """Ranks from 1 for the highest, equal ones sharing their mean."""
    above = (scores[None] > scores[:, None]).sum(axis=1)
    equal = (scores[None] == scores[:, None]).sum(axis=1)
    return np.asarray(above + (equal + 1) / 2)


def _range_quantile(count: int, level: float = 0.95) -> float:
    """Quantile of the range of `count` standard normals (the studentized range with endless df).

    By bisection of ``count * integral of phi(z) * (Phi(z) - Phi(z - q))**(count - 1)``; its home is
    scipy.stats.studentized_range, whose import takes longer than a whole report.
    """
    z = np.linspace(-8.0, 8.0, 4001)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    low, high = 0.0, 20.0
    for _ in range(60):
        q = (low + high) / 2
        below = count * float((density * (ndtr(z) - ndtr(z - q)) ** (count - 1)).sum())
        low, high = (q, high) if below < level else (low, q)
    return (low + high) / 2
