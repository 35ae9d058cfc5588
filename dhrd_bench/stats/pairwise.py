"""All pairs of methods at once: what ranks and ties are made of.

Three hundred methods have 45,000 pairs, of each of which a ranking asks only whether they were shown to
differ over the suite. `compare` answers for all of them together what `SuiteScores.difference` answers for
one, and `SuiteFlips` asks the sign flips of the pairs that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from dhrd_bench.stats.counts import LINEAR, cluster_counts, gradient, known
from dhrd_bench.stats.design import Flags, Floats, Ints, TaskGrid
from dhrd_bench.stats.intervals import sources
from dhrd_bench.stats.significance import ALPHA, Differences, Signs, decide, drawn_signs, holm, signed
from dhrd_bench.stats.suite import Scored, SuiteScores

_CHUNK = 256  # pairs whose flips are held at a time


@dataclass(frozen=True)
class Pairwise:
    """Differences over the suite of every method (row) to every other, in points, on the seeds that both have.

    Attributes
    ----------
    value
        ``(M, M)`` differences; no number where two methods share no seed of some task.
    se, df
        ``(M, M)`` standard errors and degrees of freedom; None if a metric cannot be resampled.
    several
        ``(M, M)`` whether there is a task of which they share more than one seed.
    """

    value: Floats
    se: Floats | None
    df: Floats | None
    several: Flags

    def least_p(self) -> Floats:
        """Return ``(M, M)`` what the p of each pair is at least: that of Student's t, which asks about the seeds."""
        if self.se is None or self.df is None:
            return np.where(np.isnan(self.value), 1.0, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stdtr(self.df, -np.abs(self.value) / self.se)
        p = np.where(self.se > 0, p, self.value == 0)
        return np.where(np.isnan(self.value), 1.0, np.where(self.several, p, 0.0))


def compare(suite: SuiteScores) -> Pairwise:
    """Compare all pairs of the methods of `suite`."""
    parts = [_parts(task) for task in suite.tasks]
    count = len(parts)
    value = np.mean([part[0] for part in parts], axis=0)
    several = np.any([part[1][0] > 1 for part in parts], axis=0)
    columns = [columns for _, columns in parts]
    if any(len(one) == 1 for one in columns):
        return Pairwise(value, None, None, several)
    seeds, clusters, *rest = (np.stack(column) for column in zip(*columns, strict=True))
    examples, _, between, df = sources(seeds, clusters, *(column / count**2 for column in rest))
    return Pairwise(value, np.sqrt(examples + between), df, several)


def _parts(task: Scored) -> tuple[Floats, list[Floats]]:
    """Return a task's ``(M, M)`` differences, and the columns of `Part` for them.

    Of these there is only the number of seeds if the metric cannot be resampled.
    """
    shared = (task.present[:, None] & task.present[None]).astype(float)
    seeds = shared.sum(axis=-1)
    runs, fewer = np.where(task.present, task.point, 0.0), np.maximum(seeds - 1, 1)
    apart = (runs[:, None] - runs[None]) * shared
    with np.errstate(invalid="ignore"):
        value = apart.sum(axis=-1) / seeds
    if task.cells is None:
        return value, [seeds]
    count = np.maximum(seeds, 1)
    square = (((apart - np.nan_to_num(value)[..., None]) * shared) ** 2).sum(axis=-1) / fewer
    own = np.einsum("ija,ijb,iaib->ij", shared, shared, task.cells)
    cross = np.einsum("ija,ijb,iajb->ij", shared, shared, task.cells)
    examples = (own + own.T - 2 * cross) / count**2
    examples[examples <= 1e-12 * (np.sqrt(own) + np.sqrt(own.T)) ** 2 / count**2] = 0.0
    own, cross = (np.einsum(f"ija,{of}->ij", shared, task.cells) for of in ("iaia", "iaja"))
    interaction = np.maximum(own + own.T - 2 * cross - seeds * examples, 0.0) / fewer
    pair = np.zeros(len(value))
    pair[:2] = (1.0, -1.0)[: len(pair)]
    clusters, floor = (np.full_like(value, figure) for figure in (task.task.n_clusters, task.floor(pair)))
    return value, [seeds, clusters, examples, interaction, square, floor]


def shown_better(suite: SuiteScores, resamples: int, seed: int) -> Flags:
    """Return ``(M, M)`` which method was shown to beat which over the suite, Holm-corrected over all pairs.

    A pair's p is the larger of two. What Holm does not let pass by the one, which is at hand for all pairs, it
    does not let pass by the larger, so the sign flips are drawn for the other pairs only.
    """
    better = np.zeros((len(suite.methods),) * 2, dtype=bool)
    tasks = [task.task for task in suite.tasks]
    if not all(known(task.info.metrics) for task in tasks):
        return better
    pairs = np.stack(np.triu_indices(len(better), 1), axis=1)
    compared = compare(suite)
    p = compared.least_p()[tuple(pairs.T)]
    left = holm(p) <= ALPHA
    p[left] = np.maximum(p[left], SuiteFlips(tasks, resamples, seed).p(pairs[left]))
    first, second = pairs[left][holm(p)[left] <= ALPHA].T
    ahead = compared.value[first, second] > 0
    better[np.where(ahead, first, second), np.where(ahead, second, first)] = True
    return better


class SuiteFlips:
    """Sign flips of the mean over tasks, as `sign_flips` draws them, for many pairs of not so many methods.

    A difference of means of `LINEAR` metrics, with drawn signs, is the difference of what two methods have with
    these signs by themselves, so that is summed by method. A task of other metrics is summed by pair.
    """

    def __init__(self, tasks: Sequence[TaskGrid], resamples: int, seed: int) -> None:
        self.resamples = resamples
        self.share = 1 / len(tasks)
        self.linear: list[_Linear] = []
        self.others: list[tuple[Differences, list[Signs]]] = []
        for task in tasks:
            signs = drawn_signs(task.name, task.n_clusters, resamples, seed)
            if LINEAR.issuperset(task.info.metrics):
                self.linear.append(_Linear(task, signs, resamples))
            else:
                self.others.append((Differences(task), list(signs)))  # for every chunk of pairs anew

    def p(self, pairs: Ints) -> Floats:
        """Return the p of each of the ``(P, 2)`` pairs."""
        found = np.ones(len(pairs))
        for at in self._alike(pairs):
            methods, places = np.unique(pairs[at], return_inverse=True)
            places = places.reshape(-1, 2)
            clusters, flipped = np.zeros((len(methods), 0)), np.zeros((len(methods), self.resamples))
            for task in self.linear:
                shared = task.task.shared(pairs[at[0]])
                clusters = np.concatenate([clusters, self.share * task.means(task.own, methods, shared)], axis=1)
                flipped += self.share * task.means(task.signed, methods, shared)
            for start in range(0, len(at), _CHUNK):
                now, (first, second) = at[start : start + _CHUNK], places[start : start + _CHUNK].T
                parts, sums = [clusters[first] - clusters[second]], flipped[first] - flipped[second]
                for differences, signs in self.others:
                    parts.append(self.share * differences.of(pairs[now]))
                    sums += signed(parts[-1], signs, self.resamples)
                found[now] = [test.p for test in decide(np.concatenate(parts, axis=1), sums)]
        return found

    def _alike(self, pairs: Ints) -> Iterator[Ints]:
        """Yield the positions of pairs that share the same seeds of every task that is summed by method."""
        present = [task.task.present for task in self.linear]
        if not present or len(pairs) == 0:
            yield from [np.arange(len(pairs))] if len(pairs) else []
            return
        have = np.concatenate(present, axis=1)
        _, kind = np.unique(have[pairs[:, 0]] & have[pairs[:, 1]], axis=0, return_inverse=True)
        order = np.argsort(kind, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


class _Linear:
    """A task that is scored by means over clusters: what every cell has of them, and with drawn signs.

    Attributes
    ----------
    own, signed
        ``(M, S, F, C)`` counts and ``(M, S, F, R)`` their sums with signs, whole numbers.
    slopes
        ``(F,)`` what one more of each is worth.
    """

    def __init__(self, task: TaskGrid, signs: Iterable[Signs], resamples: int) -> None:
        self.task = task
        table = cluster_counts(task)
        self.own = table.own.T.reshape(*table.shape, -1, task.n_clusters)
        size = np.int16 if len(task.labels) < 1 << 15 else np.int32
        sums, start = np.empty((table.own.shape[1], resamples), dtype=size), 0
        for chunk in signs:
            for some in np.split(chunk, range(_CHUNK, len(chunk), _CHUNK)):
                sums[:, start : start + len(some)] = table.own.T @ some.T.astype(np.float32)
                start += len(some)
        self.signed = sums.reshape(*self.own.shape[:3], -1)
        one = np.zeros((1, 1, table.width))
        self.slopes = gradient(table, task.info.metrics, one, table.shared.astype(float).sum(0))[0][0, 0]

    def means(self, values: npt.NDArray[np.float32 | np.int16 | np.int32], methods: Ints, shared: Flags) -> Floats:
        """Return ``(m, X)`` means over the `shared` seeds of ``(M, S, F, X)`` `values`, in points."""
        sums = values[np.ix_(methods, np.flatnonzero(shared))].sum(axis=1, dtype=float)
        return np.asarray(np.einsum("f,mfx->mx", self.slopes / shared.sum(), sums))
