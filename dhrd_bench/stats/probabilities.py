"""Class probabilities of the rows of a grid, read from the scores that the records hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from dhrd_bench.results.table import LongTable
from dhrd_bench.stats.design import Flags, Floats, Selection, TaskGrid
from dhrd_bench.stats.pairing import Pairing

LEAST = 1e-5
"""The least probability: records hold five decimals, so a share of 0 may be anything below."""


@dataclass(frozen=True)
class Probabilities:
    """One task's class probabilities.

    Attributes
    ----------
    task
        Rows in the order of `values`.
    values
        ``(M, S, n, K)``; of no meaning for a method that is left out, nor where it lacks a seed.
    left_out
        By method that has no probabilities in one of its cells, the reason.
    """

    task: TaskGrid
    values: Floats
    left_out: dict[str, str]

    def answers(self, method: int) -> tuple[Floats, Flags]:
        """Return ``(S, n)``, of the seeds that a method has: how sure it was of each answer, and whether it was right.

        An answer that could not be read is wrong, and as sure as its likeliest class.
        """
        seeds = np.flatnonzero(self.task.present[method])
        answers, shares = self.task.predictions[method, seeds], self.values[method, seeds]
        own = np.take_along_axis(shares, np.maximum(answers, 0)[..., None], axis=2)[..., 0]
        return np.where(answers >= 0, own, shares.max(axis=2)), np.asarray(answers == self.task.labels)


def probabilities(table: LongTable, selection: Selection) -> list[Probabilities]:
    """Return the class probabilities of the ranked methods, by task of the selection's grid."""
    pairing, cells = Pairing(table, selection.group), selection.cells
    scores = dict(zip(zip(cells["method"], cells["task"], cells["seed"], strict=True), cells["scores"], strict=True))
    return [_of_task(pairing, scores, selection.grid.methods, task) for task in selection.grid.tasks]


def _of_task(
    pairing: Pairing, scores: dict[tuple[str, str, int], Floats | None], methods: tuple[str, ...], task: TaskGrid
) -> Probabilities:
    # Cells that the grid holds, and no others that there are records of: a selection may have left some out.
    cells = {(m, s): (methods[m], task.name, task.seeds[s]) for m, s in np.argwhere(task.present).tolist()}
    keys = {at: pairing.keys(cell) for at, cell in cells.items()}
    common = reduce(np.intersect1d, keys.values())  # the grid's rows, in the grid's order
    values = np.full((*task.predictions.shape, task.classes), 1 / task.classes)
    left_out: dict[str, str] = {}
    for at, (method, _, seed) in cells.items():
        read = as_probabilities(scores.get(cells[at]), len(keys[at]), task.classes)
        if isinstance(read, str):
            left_out.setdefault(method, f"seed {seed}: {read}")
        else:
            order = np.argsort(keys[at], kind="stable")
            values[at] = read[order[np.searchsorted(keys[at], common, sorter=order)]]
    return Probabilities(task, values, left_out)


def as_probabilities(scores: Floats | None, rows: int, classes: int) -> Floats | str:
    """Read ``(n, K)`` class scores as probabilities; where they cannot be, say why.

    Rows that are all shares (from 0 to 1, adding up to 1: class frequencies, votes) are probabilities as
    they stand; else they are logits or log-probabilities, and their softmax is taken. A cell in which rows
    only say which class was answered (0 for it and -1 for the others, where nothing else was known) has none.
    """
    if scores is None:
        return "no class scores"
    if scores.shape != (rows, classes):
        return "class scores of another shape than its rows and classes"
    if not np.isfinite(scores).all():
        return "a class score is no number"
    marks = ((scores == 0).sum(axis=1) == 1) & ((scores == -1).sum(axis=1) == classes - 1)
    if marks.any():
        return f"{int(marks.sum())} of {rows} rows only say which class was answered"
    if (scores >= 0).all() and (np.abs(scores.sum(axis=1) - 1) < 1e-4 * classes).all():
        shares = np.maximum(scores, LEAST)
    else:
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
