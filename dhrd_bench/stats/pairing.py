"""Rows of the long table, laid out as arrays without a gap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dhrd_bench.errors import UserError
from dhrd_bench.results.table import LongTable
from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import Grid, Group, Ints, TaskGrid


class Pairing:
    """The finished cells of one group."""

    def __init__(self, table: LongTable, group: Group) -> None:
        def here(frame: pd.DataFrame) -> pd.DataFrame:
            same = [frame[name] == getattr(group, name) for name in ("suite", "backbone", "budget")]
            mask: npt.NDArray[np.bool_] = (same[0] & same[1] & same[2]).to_numpy(dtype=bool)
            return frame.loc[mask]

        rows, cells = here(table.rows), here(table.cells)
        at = rows.groupby(["method", "task", "seed"], sort=False, observed=True).indices
        self.at = {cell: np.asarray(rows_, dtype=np.int64) for cell, rows_ in at.items()}
        self.infos = {task: info for (suite, task), info in table.tasks.items() if suite == group.suite}
        keys = zip(cells["method"], cells["task"], cells["seed"], strict=True)
        self.metrics: dict[tuple[str, str, int], dict[str, float]] = dict(zip(keys, cells["metrics"], strict=True))
        self.label = rows["label"].to_numpy(dtype=np.int64)
        self.prediction = rows["prediction"].to_numpy(dtype=np.int64)
        self.cluster, self.group = (pd.factorize(rows[name])[0] for name in ("cluster", "group"))
        # An example that two cells label differently is not the same example.
        names = pd.factorize(rows["example"], sort=True)[0]
        self.key = names * (int(self.label.max(initial=0)) + 1) + self.label

    def grid(self, methods: Sequence[str], seeds: dict[str, set[int]], notes: list[str]) -> Grid:
        """Return the `methods` on the tasks and seeds given; what falls out is added to `notes`.

        Raises
        ------
        UserError
            If nothing is left.
        """
        tasks = []
        for task in sorted(seeds):
            built = self._task(task, methods, sorted(seeds[task]), notes) if seeds[task] else None
            if built is None:
                notes.append(f"{task} left out: no seed or no example that all ranked methods have.")
            else:
                tasks.append(built)
        if not tasks:
            raise UserError("No task has a seed that all the methods share.", "Name fewer with --methods or --tasks.")
        return Grid(tuple(methods), tuple(tasks))

    def _task(self, task: str, methods: Sequence[str], seeds: Sequence[int], notes: list[str]) -> TaskGrid | None:
        cells = [(method, task, seed) for method in methods for seed in seeds]
        keys = {cell: self.key[self.at[cell]] for cell in cells}
        first = keys[cells[0]]
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
        rows = [self._rows(self.at[cell], keys[cell], common) for cell in cells]
        clusters, groups = (pd.factorize(codes[rows[0]])[0] for codes in (self.cluster, self.group))
        info = self.infos[task]
        shape = (len(methods), len(seeds))
        return TaskGrid(
            name=task,
            info=info,
            seeds=tuple(seeds),
            labels=self.label[rows[0]],
            predictions=self.prediction[np.stack(rows)].reshape(*shape, -1),
            clusters=_nested(clusters, groups),
            groups=groups,
            given={
                name: np.array([self.metrics[cell].get(name, np.nan) for cell in cells]).reshape(shape)
                for name in info.metrics
                if whole or not known(info.metrics)
            },
        )

    def _rows(self, at: Ints, keys: Ints, common: Ints) -> Ints:
        """Return the rows of a cell in the order of the `common` keys."""
        order = np.argsort(keys, kind="stable")
        return at[order[np.searchsorted(keys, common, sorter=order)]]


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
