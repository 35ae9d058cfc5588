"""Tests of one method against another, and corrections for making many.

Two things can make a difference look real that is not: the test examples that happened to be drawn and
the seeds that happened to be run. `sign_flips` answers for the first, exactly, with the trained models
as they are; `crossed_p` for both, by Student's t. A difference counts if it passes both, so a
comparison's p is the larger of the two. With one seed only the first question can be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.counts import cluster_counts, gradient
from dhrd_bench.stats.design import Floats, Ints, TaskGrid
from dhrd_bench.stats.intervals import Estimate, tail

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


def pair_differences(task: TaskGrid, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Return ``(P, C)`` what each cluster adds to the difference of each pair of methods, mean over seeds.

    For accuracy and exact match the rows sum to the difference itself. Other metrics are linearised
    midway between the two methods, which leaves the figures unchanged, but for the sign, when the two
    swap their answers on a cluster: what a sign-flip test needs.
    """
    table = cluster_counts(task)
    own = table.own.astype(float).reshape(len(table.own), *table.shape, -1)
    totals, shared = own.sum(0), table.shared.astype(float).sum(0)
    first, second = (np.array([pair[side] for pair in pairs], dtype=int) for side in (0, 1))
    slopes, _ = gradient(table, task.info.metrics, (totals[first] + totals[second]) / 2, shared)
    differences = np.empty((len(pairs), len(own)))
    for p, (method, other) in enumerate(pairs):
        differences[p] = np.einsum("sf,csf->c", slopes[p], own[:, method] - own[:, other]) / table.shape[1]
    return differences


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
        flipped = _flipped(part, task, resamples, seed)
        tests[task] = [_flip_test(part[p], flipped[:, p]) for p in range(len(part))]
        flipped /= len(differences)
        mean = mean + flipped
    if differences:
        together = np.concatenate([part / len(differences) for part in differences.values()], axis=1)
        tests[SUITE] = [_flip_test(together[p], sums) for p, sums in enumerate(np.asarray(mean).T)]
    return tests


def _flipped(differences: Floats, name: str, resamples: int, seed: int) -> Floats:
    """Return ``(R, P)`` sums over clusters with random signs."""
    rng = np.random.default_rng(derive_seed("flips", name, str(seed)))
    clusters = differences.shape[1]
    rows = max(1, _CHUNK // clusters)
    sums = np.empty((resamples, len(differences)))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        signs = 2.0 * rng.integers(0, 2, size=(size, clusters), dtype=np.int8) - 1.0
        sums[start : start + size] = signs @ differences.T
    return sums


def _flip_test(differences: Floats, sums: Floats) -> Flips:
    scale = float(np.abs(differences).max(initial=0.0))
    moved = differences[np.abs(differences) > 1e-9 * scale] if scale > 0 else differences[:0]
    seen = abs(float(differences.sum())) - 1e-9 * scale * max(len(moved), 1)
    if len(moved) == 0:
        return Flips(1.0, 0)
    if len(moved) <= _EXACT:
        every = np.zeros(1)
        for value in moved:
            every = np.concatenate([every + value, every - value])
        return Flips(float(np.mean(np.abs(every) >= seen)), len(moved))
    count = int(np.sum(np.abs(sums) >= seen))
    p = (1 + count) / (1 + len(sums))
    if count == 0:  # Hoeffding's bound of the exact p, so that the number of resamples is no floor
        p = min(p, 2 * float(np.exp(-(differences.sum() ** 2) / (2 * (moved**2).sum()))))
    return Flips(p, len(moved))


def mcnemar(task: TaskGrid, method: int, other: int) -> tuple[int, int, float] | None:
    """Return (won, lost, exact p) of McNemar's test of two trained models.

    None where rows come in clusters, as they are then not independent, and with several seeds, whose own
    variance it does not know of.
    """
    if task.n_clusters != len(task.labels) or len(task.seeds) != 1:
        return None
    right = task.predictions[:, 0] == task.labels
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
