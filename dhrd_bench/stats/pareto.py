"""The Pareto front of score and throughput, and how sure it is.

A method is on the front if no other has a score and a QPS that are both at least as high, one of them
higher. How sure that is, is the share of joint draws of all methods' scores and QPS in which it is on
the front. Replicates of the two-level bootstrap have not the variance of the scores
(`dhrd_bench.stats.intervals`), so a draw is put together from the parts that the intervals are made of;
docs/statistics.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.intervals import Estimate, covariance_of_differences
from dhrd_bench.stats.pairwise import compare
from dhrd_bench.stats.speed import Speed
from dhrd_bench.stats.suite import SuiteScores

_FAR = 600.0
"""Logarithm of a factor that no two paces differ by."""


@dataclass(frozen=True)
class Point:
    """One ranked method in the picture of score and throughput.

    Attributes
    ----------
    qps, on_front
        None for a method that takes no part, as it has no backbone at test time.
    probability
        Of being on the front; None likewise, and where a score cannot be resampled.
    """

    method: str
    score: Estimate
    qps: Estimate | None
    on_front: bool | None
    probability: float | None


def front(scores: Floats, qps: Floats) -> npt.NDArray[np.bool_]:
    """Return which methods are on the front; methods are the first axis, any other is draws."""
    # From the best score down, of equal ones the fastest first: what may keep a method off stands before it.
    order = np.lexsort((-qps, -scores), axis=0)
    score, pace = (np.take_along_axis(figures, order, axis=0) for figures in (scores, qps))
    fastest = np.maximum.accumulate(pace, axis=0)
    faster = np.ones_like(pace, dtype=bool)
    faster[1:] = pace[1:] > fastest[:-1]
    # As fast as the fastest so far is on the front only if it scores as high: as the first that was so fast.
    rank = np.arange(len(scores)).reshape(-1, *[1] * (scores.ndim - 1))
    first = np.maximum.accumulate(np.where(faster, rank, 0), axis=0)
    on = faster | ((pace == fastest) & (score == np.take_along_axis(score, first, axis=0)))
    found = np.empty_like(on)
    np.put_along_axis(found, order, on, axis=0)
    return np.asarray(found)


def points(suite: SuiteScores, speed: Speed, seed: int) -> tuple[Point, ...]:
    """Place the methods of `suite`; only those with a `speed` can be on the front or keep others off it."""
    scores = [suite.score(m) for m in range(len(suite.methods))]
    qps = [speed.qps(name, suite.names) for name in suite.methods]
    # The draws are made in this order, so that the methods' names have no say in them.
    placed = sorted((scores[m].value, estimate.value, m) for m, estimate in enumerate(qps) if estimate is not None)
    at = [m for *_, m in placed]
    on_front: dict[int, bool] = {}
    probability: dict[int, float] = {}
    if at:
        score, pace = (np.array([[point[column]] for point in placed]) for column in (0, 1))
        on_front = dict(zip(at, front(score, pace)[:, 0].tolist(), strict=True))
        rng = np.random.default_rng(derive_seed("front", str(seed)))
        deviations = score_deviations(suite, at, rng)
        if deviations is not None:
            df = min(estimate.df or math.inf for estimate in qps if estimate is not None)
            covariance = speed.covariance([suite.methods[m] for m in at], suite.names)
            off = _normal(covariance, deviations.shape[1], rng) * _heavy(df, deviations.shape[1], rng)
            factors = np.exp(np.clip(off, -_FAR, _FAR))  # of two seeds some draws are beyond what a number holds
            share = front(score + deviations, pace * factors).mean(axis=1)
            probability = dict(zip(at, share.tolist(), strict=True))
    return tuple(
        Point(name, scores[m], qps[m], on_front.get(m), probability.get(m)) for m, name in enumerate(suite.methods)
    )


def score_deviations(suite: SuiteScores, at: Sequence[int], rng: np.random.Generator) -> Floats | None:
    """Return ``(M, R)`` draws of what the suite scores of the methods `at` may be off by.

    The shared draws of clusters, widened as in `variance`, plus normal draws with the covariance that
    comes from the seeds, less what moves all methods alike and so changes no front. All of it is
    multiplied by one Student factor a draw, with the lowest degrees of freedom of any two methods'
    difference, so that no difference is drawn with less spread than its interval has.
    None if a metric cannot be resampled.
    """
    methods, tasks = np.array(at), len(suite.tasks)
    deviations = np.zeros((len(at), 1))
    short, between = (np.zeros((len(at),) * 2) for _ in range(2))
    pair = np.eye(len(suite.methods))[0] - np.eye(len(suite.methods))[-1]
    for task in suite.tasks:
        if task.drawn is None or task.cells is None:
            return None
        clusters = task.task.n_clusters
        widening = clusters / (clusters - 1) / tasks**2
        deviations = deviations + task.drawn[methods] * math.sqrt(widening)
        examples, seeds = (matrix[np.ix_(methods, methods)] for matrix in task.covariances())
        sd = np.sqrt(np.diag(examples))
        apart = sd[:, None] ** 2 + sd[None] ** 2 - 2 * examples
        short += np.maximum(task.floor(pair) / tasks**2 - apart * widening, 0.0)
        between += covariance_of_differences(seeds) / tasks**2
    resamples = deviations.shape[1]
    deviations = deviations + _normal(between, resamples, rng)
    # Two methods that differ on next to no example vary as much as the floor of their difference says.
    np.fill_diagonal(short, 0.0)
    noise = np.sqrt(short.max(axis=1, initial=0.0) / 2)
    deviations = deviations + noise[:, None] * rng.standard_normal((len(at), resamples))
    df = compare(suite).df
    lowest = (
        math.inf if df is None else df[np.ix_(methods, methods)][~np.eye(len(at), dtype=bool)].min(initial=math.inf)
    )
    return np.asarray(deviations * _heavy(float(lowest), resamples, rng))


def _normal(covariance: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw ``(M, R)`` normal deviations."""
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return np.asarray(root @ rng.standard_normal((len(covariance), resamples)))


def _heavy(df: float, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw ``(R,)`` factors that turn normal deviations into Student's t with `df` degrees of freedom."""
    return np.ones(resamples) if math.isinf(df) else np.sqrt(df / rng.chisquare(df, resamples))
