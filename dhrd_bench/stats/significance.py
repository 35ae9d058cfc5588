"""Tests of one method against another, and corrections for making many.

Two things can make a difference look real that is not: the test examples that happened to be drawn and
the seeds that happened to be run. `sign_flips` answers for the first, exactly, with the trained models
as they are; `crossed_p` for both, by Student's t. A difference counts if it passes both, so a
comparison's p is the larger of the two. With one seed only the first question can be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.counts import cluster_counts, gradient
from dhrd_bench.stats.design import Floats, Ints, TaskGrid
from dhrd_bench.stats.intervals import Estimate, tail

Signs = npt.NDArray[np.int8]

ALPHA = 0.05
SUITE = "suite of all tasks"
_CHUNK = 1 << 20
_EXACT = 12  # up to so many discordant clusters all sign patterns are listed


@dataclass(frozen=True)
class Flips:
    """A sign-flip test.

    Attributes
    ----------
    p
        Two-sided, exact where at most 12 clusters are discordant, else ``(1 + count) / (1 + resamples)``,
        or Hoeffding's bound if that is lower and no resample was as extreme.
    units
        Number of discordant clusters.
    """

    p: float
    units: int

    @property
    def attainable(self) -> float:
        """The smallest p that so many discordant clusters can give."""
        return min(1.0, 2.0 ** (1 - self.units))


@dataclass(frozen=True)
class Test:
    """A test's outcome.

    Attributes
    ----------
    p
        Uncorrected p-value.
    attainable
        The smallest p that this many discordant clusters could have given.
    adjusted
        p after correction.
    decidable
        False if the correction would have let even `attainable` not pass.
    """

    p: float
    attainable: float
    adjusted: float
    decidable: bool

    @property
    def significant(self) -> bool:
        """Whether the corrected p is at most 5 %."""
        return self.adjusted <= ALPHA


# ---------------------------------------------------------------- the two questions


def crossed_p(difference: Estimate) -> float | None:
    """Return the two-sided p of no difference, seeds and examples both drawn anew; None without a variance."""
    if difference.se is None or difference.df is None:
        return None
    if difference.se == 0:
        return float(difference.value == 0)
    return min(1.0, 2 * tail(abs(difference.value) / difference.se, difference.df))


class Differences:
    """What each cluster of a task adds to the difference of two methods, on the seeds that both have.

    For accuracy and exact match that sums to the difference itself. Other metrics are linearised
    midway between the two methods, which leaves the figures unchanged, but for the sign, when the two
    swap their answers on a cluster: what a sign-flip test needs.
    """

    def __init__(self, task: TaskGrid) -> None:
        self.task = task
        self.table = cluster_counts(task)
        own = self.table.own.reshape(task.n_clusters, len(task.predictions), -1)
        self.own = own.swapaxes(0, 1).astype(float, order="C")
        self.totals = self.own.sum(axis=1).reshape(*self.table.shape, -1)

    def of(self, pairs: Sequence[tuple[int, int]] | Ints) -> Floats:
        """Return ``(P, C)`` the shares of the clusters in the difference of each pair of methods."""
        first, second = np.asarray(pairs, dtype=int).reshape(-1, 2).T
        midway = (self.totals[first] + self.totals[second]) / 2
        slopes, _ = gradient(self.table, self.task.info.metrics, midway, self.table.shared.astype(float).sum(0))
        shared = self.task.present[first] & self.task.present[second]
        slopes *= (shared / np.maximum(shared.sum(axis=1, keepdims=True), 1))[..., None]
        differences = np.empty((len(first), self.own.shape[1]))
        for p, (method, other) in enumerate(zip(first, second, strict=True)):
            differences[p] = (self.own[method] - self.own[other]) @ slopes[p].ravel()
        return differences


def pair_differences(task: TaskGrid, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Return ``(P, C)`` of `Differences`."""
    return Differences(task).of(pairs)


def sign_flips(differences: Mapping[str, Floats], resamples: int, seed: int) -> dict[str, list[Flips]]:
    """Paired permutation test: swap two methods' answers on whole clusters, for all seeds at once.

    Parameters
    ----------
    differences
        By task ``(P, C)`` of `pair_differences`. A task's statistic is the sum over clusters, the
        suite's the mean of the tasks'.

    Returns
    -------
    dict
        By task, and for the `SUITE` of them all, the tests of the P pairs.
    """
    tests: dict[str, list[Flips]] = {}
    mean: Floats | float = 0.0
    for task, part in differences.items():
        flipped = signed(part, drawn_signs(task, part.shape[1], resamples, seed), resamples)
        tests[task] = decide(part, flipped)
        flipped /= len(differences)
        mean = mean + flipped
    if differences:
        together = np.concatenate([part / len(differences) for part in differences.values()], axis=1)
        tests[SUITE] = decide(together, np.asarray(mean))
    return tests


def drawn_signs(task: str, clusters: int, resamples: int, seed: int) -> Iterator[Signs]:
    """Draw signs of the clusters; yield ``(r, C)`` in chunks of the R resamples."""
    rng = np.random.default_rng(derive_seed("flips", task, str(seed)))
    rows = max(1, _CHUNK // clusters)
    for start in range(0, resamples, rows):
        signs = rng.integers(0, 2, size=(min(rows, resamples - start), clusters), dtype=np.int8)
        signs *= 2
        signs -= 1
        yield signs


def signed(values: Floats, signs: Iterable[Signs], resamples: int) -> Floats:
    """Return ``(P, R)`` sums of ``(P, C)`` `values` with the chunks of ``(R, C)`` `signs`."""
    sums, start = np.empty((len(values), resamples)), 0
    for chunk in signs:
        sums[:, start : start + len(chunk)] = values @ chunk.T.astype(float)
        start += len(chunk)
    return sums


def decide(differences: Floats, flipped: Floats) -> list[Flips]:
    """Return the tests of ``(P, C)`` `differences` whose sums with drawn signs are ``(P, R)`` `flipped`."""
    size = np.abs(differences)
    scale = size.max(axis=1, initial=0.0)
    moved = size > 1e-9 * scale[:, None]
    units, total = moved.sum(axis=1), differences.sum(axis=1)
    seen = np.abs(total) - 1e-9 * scale * np.maximum(units, 1)
    count = (np.abs(flipped) >= seen[:, None]).sum(axis=1)
    p = (1 + count) / (1 + flipped.shape[1])
    # Hoeffding's bound of the exact p, so that the number of resamples is no floor
    bound = 2 * np.exp(-(total**2) / (2 * np.maximum((size**2).sum(axis=1), np.finfo(float).tiny)))
    p = np.where(count == 0, np.minimum(p, bound), p)
    for at in np.flatnonzero(units <= _EXACT):
        p[at] = _exact(differences[at, moved[at]], seen[at])
    return [Flips(float(one), int(many)) for one, many in zip(p, units, strict=True)]


def _exact(moved: Floats, seen: float) -> float:
    """Return the p of few discordant clusters, by all patterns of signs."""
    every = np.zeros(1)
    for value in moved:
        every = np.concatenate([every + value, every - value])
    return float(np.mean(np.abs(every) >= seen))


def mcnemar(task: TaskGrid, method: int, other: int) -> tuple[int, int, float] | None:
    """Return (won, lost, exact p) of McNemar's test of two trained models.

    None where rows come in clusters, as they are then not independent, and with several seeds, whose own
    variance it does not know of.
    """
    shared = task.shared([method, other])
    if task.n_clusters != len(task.labels) or shared.sum() != 1:
        return None
    right = task.predictions[:, np.flatnonzero(shared)[0]] == task.labels
    won, lost = int((right[method] & ~right[other]).sum()), int((right[other] & ~right[method]).sum())
    p = min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0
    return won, lost, p


# ---------------------------------------------------------------- many tests


def holm(p: Floats) -> Floats:
    """Return Holm's (1979) adjusted p-values: family-wise error."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _back(order, np.minimum(steps, 1.0))


def benjamini_hochberg(p: Floats) -> Floats:
    """Return Benjamini and Hochberg's (1995) adjusted p-values: false discovery rate."""
    order = np.argsort(p)
    steps = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    return _back(order, np.minimum(steps, 1.0))


def _back(order: Ints, values: Floats) -> Floats:
    back = np.empty_like(values)
    back[order] = values
    return back


def corrected(p: Sequence[float], floors: Sequence[float], family: str) -> list[Test]:
    """Correct a family of tests by ``holm`` or ``bh`` and say which of them could not have passed."""
    adjust = holm if family == "holm" else benjamini_hochberg
    values = np.array(p, dtype=float)
    adjusted = adjust(values)
    tests = []
    for i, floor in enumerate(floors):
        best = values.copy()
        best[i] = min(floor, values[i])
        decidable = bool(adjusted[i] <= ALPHA or adjust(best)[i] <= ALPHA)
        tests.append(Test(float(values[i]), float(floor), float(adjusted[i]), decidable))
    return tests
