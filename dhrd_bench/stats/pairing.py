"""Rows of the long table, laid out as arrays in which all methods answer the same examples."""

from __future__ import annotations

import itertools
from functools import reduce

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dhrd_bench.errors import UserError
from dhrd_bench.results.table import LongTable
from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import ABSENT, Grid, Group, Ints, TaskGrid

CellKey = tuple[str, str, int]
"""Method, task and seed."""


class Pairing:
    """The rows of the finished cells of one group.

    A full table has some ten million rows, so columns are views of the table's, and what can be computed
    task by task is not kept.
    """

    def __init__(self, table: LongTable, group: Group) -> None:
        rows = table.rows
        here = [rows[name] == getattr(group, name) for name in ("suite", "backbone", "budget")]
        mask = (here[0] & here[1] & here[2]).to_numpy(dtype=bool)
        if not mask.all():
            rows = rows.loc[mask]
        self.at = _places(rows)
        self.infos = {task: info for (suite, task), info in table.tasks.items() if suite == group.suite}
        cells = table.cells
        keys = zip(cells["method"], cells["task"], cells["seed"], strict=True)
        same = (cells[["suite", "backbone", "budget"]] == [group.suite, group.backbone, group.budget]).all(axis=1)
        self.metrics: dict[CellKey, dict[str, float]] = {
            key: metrics for key, metrics, ours in zip(keys, cells["metrics"], same, strict=True) if ours
        }
        self.label, self.prediction = (rows[name].to_numpy(dtype=np.int64) for name in ("label", "prediction"))
        self.example, self.cluster, self.group = (
            rows[name].cat.codes.to_numpy() for name in ("example", "cluster", "group")
        )

    def grid(self, cells: dict[str, dict[str, set[int]]], notes: list[str]) -> Grid:
        """Return the methods on the tasks and seeds of `cells`; what falls out is added to `notes`.

        Raises
        ------
        UserError
            If nothing is left.
        """
        tasks = []
        for task in sorted(set().union(*cells.values())):
            built = self._task(task, {method: seeds.get(task, set()) for method, seeds in cells.items()}, notes)
            if built is None:
                notes.append(f"{task} left out: no example that all ranked methods have.")
            else:
                tasks.append(built)
        if not tasks:
            raise UserError(
                "No task has an example that all the methods share.", "Name fewer with --methods or --tasks."
            )
        return Grid(tuple(cells), tuple(tasks))

    def rows_of(self, cell: CellKey) -> Ints:
        """Return the positions of a cell's rows."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.at[cell]])

    def _task(self, task: str, have: dict[str, set[int]], notes: list[str]) -> TaskGrid | None:
        seeds = sorted(set().union(*have.values()))
        cells = {
            (m, s): (method, task, seed)
            for m, (method, own) in enumerate(have.items())
            for s, seed in enumerate(seeds)
            if seed in own
        }
        keys = {at: self.keys(cell) for at, cell in cells.items()}
        first = next(iter(keys.values()))
        whole = all(np.array_equal(first, other) for other in keys.values())
        if whole:
            common = np.unique(first)
        else:
            common = reduce(np.intersect1d, keys.values())
            seen = len(reduce(np.union1d, keys.values()))
            if len(common) < seen:
                notes.append(f"{task}: {seen - len(common)} of {seen} examples left out, as not all cells have them.")
        if len(common) == 0:
            return None
        info = self.infos[task]
        predictions = np.full((len(have), len(seeds), len(common)), ABSENT, dtype=np.int32)
        given = {
            name: np.full(predictions.shape[:2], np.nan) for name in info.metrics if whole or not known(info.metrics)
        }
        rows = np.zeros(0, dtype=np.int64)
        for at, cell in cells.items():
            order = np.argsort(keys[at], kind="stable")
            rows = self.rows_of(cell)[order[np.searchsorted(keys[at], common, sorter=order)]]
            predictions[at] = self.prediction[rows]
            for name, values in given.items():
                values[at] = self.metrics[cell].get(name, np.nan)
        clusters, groups = (pd.factorize(codes[rows])[0] for codes in (self.cluster, self.group))
        clusters = _nested(clusters, groups)
        return TaskGrid(task, info, tuple(seeds), self.label[rows], predictions, clusters, groups, given)

    def keys(self, cell: CellKey) -> Ints:
        """Name a cell's rows by example and label: one that two cells label differently is not the same example."""
        at = self.rows_of(cell)
        return np.asarray(self.example[at].astype(np.int64) << 32 | self.label[at])


def _places(rows: pd.DataFrame) -> dict[CellKey, list[tuple[int, int]]]:
    """Return where each cell's rows begin and end; they mostly stand together."""
    names = [rows[name].cat.categories for name in ("method", "task", "seed")]
    codes = [rows[name].cat.codes.to_numpy() for name in ("method", "task", "seed")]
    changed = np.zeros(len(rows), dtype=bool)
    changed[:1] = True
    for column in codes:
        changed[1:] |= column[1:] != column[:-1]
    edges = [*np.flatnonzero(changed).tolist(), len(rows)]
    places: dict[CellKey, list[tuple[int, int]]] = {}
    for start, stop in itertools.pairwise(edges):
        method, task, seed = (name[column[start]] for name, column in zip(names, codes, strict=True))
        places.setdefault((str(method), str(task), int(seed)), []).append((start, stop))
    return places


def _nested(clusters: Ints, groups: Ints) -> Ints:
    """Join clusters that share a group, so that a group is never torn apart by resampling."""
    pairs = np.unique(np.stack([groups, clusters]), axis=1)
    if len(np.unique(pairs[0])) == pairs.shape[1]:
        return clusters
    size = int(groups.max()) + 1
    edges = (np.ones(pairs.shape[1]), (pairs[0], size + pairs[1]))
    total = size + int(clusters.max()) + 1
    _, parts = connected_components(coo_array(edges, shape=(total, total)), directed=False)
    return np.asarray(pd.factorize(parts[size + clusters])[0], dtype=np.int64)
