"""From the long table to paired arrays: which cells of a comparison may be set side by side.

One `Grid` holds methods x seeds x examples for every task, with no gap in it. Gaps in the records are
closed by intersection, and each thing that falls out leaves a sentence in `Selection.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.results.schema import TaskInfo
from dhrd_bench.results.table import LongTable

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Group:
    """What one leaderboard is about; results of different groups are never in one table."""

    suite: str
    backbone: str
    budget: str


@dataclass(frozen=True)
class TaskGrid:
    """One task's outcomes, paired by seed and example.

    Attributes
    ----------
    name, info
        The task and its card's labels and metrics.
    seeds
        ``(S,)`` seed numbers that every method has.
    labels
        ``(n,)`` true class ids.
    predictions
        ``(M, S, n)`` predicted class ids, -1 where no answer could be read.
    clusters, groups
        ``(n,)`` codes from 0: examples that are resampled, and that are scored by exact match, together.
    given
        ``(M, S)`` values of each metric as the records state it, 0-100.
    """

    name: str
    info: TaskInfo
    seeds: tuple[int, ...]
    labels: Ints
    predictions: Ints
    clusters: Ints
    groups: Ints
    given: dict[str, Floats] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.info.labels)

    @cached_property
    def n_clusters(self) -> int:
        """Number of clusters C, the units of resampling."""
        return int(self.clusters.max()) + 1

    def take(self, methods: Sequence[int]) -> TaskGrid:
        """Return the same task with only `methods` (positions), in that order."""
        at = list(methods)
        given = {name: values[at] for name, values in self.given.items()}
        return TaskGrid(
            self.name, self.info, self.seeds, self.labels, self.predictions[at], self.clusters, self.groups, given
        )


@dataclass(frozen=True)
class Grid:
    """Methods on tasks without a gap; `methods[i]` is row i of every task's arrays."""

    methods: tuple[str, ...]
    tasks: tuple[TaskGrid, ...]


@dataclass(frozen=True)
class Selection:
    """What one leaderboard is computed from.

    Attributes
    ----------
    grid
        The methods that are ranked, on the tasks of the table.
    partial
        For every method that lacks cells of the table: itself and the baseline on the cells both have.
    cells
        The cells that were kept, failed ones left out.
    baseline, reference
        Names of the methods that gains and QPS ratios are taken to.
    notes
        What was left out, and why.
    """

    group: Group
    grid: Grid
    partial: dict[str, Grid]
    cells: pd.DataFrame
    baseline: str | None
    reference: str | None
    notes: tuple[str, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Return all methods, the ranked ones first."""
        return self.grid.methods + tuple(self.partial)


def groups(
    table: LongTable, suite: str | None = None, backbone: str | None = None, budget: str | None = None
) -> list[Group]:
    """Return the groups of `table` that fit the names given.

    Raises
    ------
    UserError
        If there are none; a near name is suggested.
    """
    cells = table.cells
    if cells.empty:
        raise UserError("There are no records to report.", "Run a benchmark first.")
    for column, wanted in (("suite", suite), ("backbone", backbone), ("budget", budget)):
        if wanted is not None:
            known = set(cells[column])
            cells = cells[cells[column].str.lower() == wanted.lower()]
            if cells.empty:
                raise UserError(f"No records of {column} {wanted!r}.", did_you_mean(wanted, known))
    keys = cells[["suite", "backbone", "budget"]].drop_duplicates()
    return sorted(Group(*row) for row in keys.itertuples(index=False))


def select(
    table: LongTable,
    group: Group,
    *,
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    baseline: str | None = None,
    reference: str | None = None,
) -> Selection:
    """Choose the cells of one leaderboard and pair them.

    The tasks of the table are the baseline's (without a baseline: those of the method with most
    cells). A method is ranked if it has every one of them, each with at least half of the baseline's
    seeds; the seeds of a task are those that all ranked methods have, its examples those that all
    have with the same label. A method with fewer cells is compared with the baseline on what both have.

    Raises
    ------
    UserError
        If a name is unknown or nothing is left.
    """
    notes: list[str] = []
    cells = table.cells
    cells = cells[(cells["suite"] == group.suite) & (cells["backbone"] == group.backbone)]
    others = sorted(set(cells["budget"]) - {group.budget})
    if others:
        notes.append(f"Other budgets of this suite and backbone, in tables of their own: {', '.join(others)}.")
    cells = cells[cells["budget"] == group.budget]
    cells = _only(cells, "task", tasks)
    named = [name for name in (baseline, reference) if name is not None]
    cells = _only(cells, "method", [*methods, *named] if methods else None)
    cells, dropped = _one_version(cells)
    notes += dropped
    failed = cells[cells["status"] != "ok"]
    notes += [
        f"Failed: {row.method} on {row.task}, seed {row.seed}: {_first_line(row.error)}."
        for row in failed.sort_values(["method", "task", "seed"]).itertuples()
    ]
    cells = cells[cells["status"] == "ok"]
    if cells.empty:
        raise UserError(f"No finished cell of {group.suite}, {group.backbone}, {group.budget} is left.", " ".join(notes))
    baseline = _by_role(cells, "baseline", baseline, notes)
    reference = _by_role(cells, "reference", reference, notes)
    if baseline is None:
        notes.append("No method has the role of the baseline, so there are no gains; name one with --baseline.")
    if reference is None:
        notes.append("No method has the role of the reference, so there are no QPS ratios; name one with --reference.")

    have = {
        method: {task: set(part["seed"]) for task, part in own.groupby("task")}
        for method, own in cells.groupby("method")
    }
    yardstick = have[baseline or min(have, key=lambda m: (-sum(map(len, have[m].values())), m))]
    ranked = [
        method
        for method in sorted(have)
        if all(2 * len(have[method].get(task, set()) & seeds) >= len(seeds) for task, seeds in yardstick.items())
    ]
    lacking = [method for method in sorted(have) if method not in ranked]
    arrays = _Arrays(table, group)
    grid = arrays.grid(ranked, {t: set.intersection(*(have[m][t] for m in ranked)) for t in yardstick}, notes)
    _say_seeds(ranked, have, {task.name: set(task.seeds) for task in grid.tasks}, notes)
    for method in ranked:
        if extra := sorted(set(have[method]) - set(yardstick)):
            notes.append(f"{method}: {', '.join(extra)} left out, as {baseline or 'the fullest method'} has no such cell.")
    partial: dict[str, Grid] = {}
    for method in lacking:
        gaps = [f"{t} (seeds {_numbers(miss)})" for t, s in sorted(yardstick.items()) if (miss := s - have[method].get(t, set()))]
        common = {t: s & have[method].get(t, set()) for t, s in yardstick.items() if s & have[method].get(t, set())}
        about = f"{method} is not ranked: it has no result for {', '.join(gaps)}."
        if common and baseline:
            partial[method] = arrays.grid([baseline, method], common, [])
            about += f" Its figures are over what it shares with {baseline}."
        notes.append(about)
    return Selection(group, grid, partial, cells, baseline, reference, tuple(notes))


def _only(cells: pd.DataFrame, column: str, wanted: Sequence[str] | None) -> pd.DataFrame:
    if not wanted:
        return cells
    known = {name.lower(): name for name in cells[column]}
    for name in wanted:
        if name.lower() not in known:
            raise UserError(f"No records of {column} {name!r}.", did_you_mean(name, known.values()))
    return cells[cells[column].isin([known[name.lower()] for name in wanted])]


def _one_version(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep one version of the table, of each task's data and of each method.

    It is the one that most cells have, of equals the newest.
    """
    notes = []
    for column, by, what in (
        ("version", ["suite"], "harness, suite, backbone or budget"),
        ("data_version", ["task"], "data, prompt or rationales"),
        ("method_version", ["method"], "method"),
    ):
        kept = []
        for _, own in cells.groupby(by):
            sizes = own.groupby(column).agg(cells=("status", "size"), newest=("finished", "max"))
            chosen = sizes.sort_values(["cells", "newest"]).index[-1]
            other = own[own[column] != chosen]
            kept.append(own[own[column] == chosen])
            for method, part in other.groupby("method"):
                where = ", ".join(f"{task} ({_numbers(seeds)})" for task, seeds in part.groupby("task")["seed"])
                notes.append(f"{method}: cells of another version of {what} left out: {where}.")
        cells = pd.concat(kept).sort_index() if kept else cells
    return cells, notes


def _by_role(cells: pd.DataFrame, role: str, named: str | None, notes: list[str]) -> str | None:
    if named is not None:
        known = {name.lower(): name for name in cells["method"]}
        if named.lower() not in known:
            raise UserError(f"No finished cell of {role} {named!r}.", did_you_mean(named, known.values()))
        return str(known[named.lower()])
    sizes = cells[cells["role"] == role].groupby("method").size()
    found = sorted(sizes.index, key=lambda name: ("[" in name, -sizes[name], name))
    if len(found) > 1:
        notes.append(f"Several methods have the role {role!r}; {found[0]} is taken, --{role} takes another.")
    return str(found[0]) if found else None


def _say_seeds(
    methods: Iterable[str], have: dict[str, dict[str, set[int]]], kept: dict[str, set[int]], notes: list[str]
) -> None:
    for task, seeds in kept.items():
        spare = {method: have[method][task] - seeds for method in methods}
        unpaired = set().union(*spare.values())
        if unpaired:
            lacking = sorted(method for method in spare if not unpaired <= have[method][task])
            notes.append(f"{task}: seeds {_numbers(unpaired)} left out, as not all methods have them ({', '.join(lacking)}).")


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))


def _first_line(text: object) -> str:
    return (str(text).strip().splitlines() or [""])[0][:160].rstrip(".")


class _Arrays:
    """The rows of one group, by cell, and how to lay some of them out as a grid."""

    def __init__(self, table: LongTable, group: Group) -> None:
        rows = table.rows
        here = (rows["suite"] == group.suite) & (rows["backbone"] == group.backbone) & (rows["budget"] == group.budget)
        self.rows = rows[here.to_numpy(dtype=bool)].reset_index(drop=True)
        self.at = self.rows.groupby(["method", "task", "seed"], sort=False, observed=True).indices
        self.infos = {task: info for (suite, task), info in table.tasks.items() if suite == group.suite}
        cells = table.cells
        own = cells[
            (cells["suite"] == group.suite)
            & (cells["backbone"] == group.backbone)
            & (cells["budget"] == group.budget)
            & (cells["status"] == "ok")
        ]
        self.metrics = {(r.method, r.task, r.seed): r.metrics for r in own.itertuples()}
        self.columns = {
            name: self.rows[name].to_numpy() for name in ("example", "cluster", "group", "label", "prediction")
        }

    def grid(self, methods: Sequence[str], seeds: dict[str, set[int]], notes: list[str]) -> Grid:
        tasks = []
        for task in sorted(seeds):
            if not seeds[task]:
                notes.append(f"{task} left out: no seed that all ranked methods have.")
                continue
            built = self._task(task, methods, sorted(seeds[task]), notes)
            if built is not None:
                tasks.append(built)
        if not tasks:
            raise UserError("No task has a seed that all the methods share.", "Name fewer with --methods or --tasks.")
        return Grid(tuple(methods), tuple(tasks))

    def _task(self, task: str, methods: Sequence[str], seeds: Sequence[int], notes: list[str]) -> TaskGrid | None:
        keys = [(method, task, seed) for method in methods for seed in seeds]
        first = pd.MultiIndex.from_arrays([self.columns[c][self.at[keys[0]]] for c in ("example", "label")])
        aligned = [self.at[key] for key in keys]
        same = all(
            len(at) == len(aligned[0])
            and np.array_equal(self.columns["example"][at], self.columns["example"][aligned[0]])
            and np.array_equal(self.columns["label"][at], self.columns["label"][aligned[0]])
            for at in aligned[1:]
        )
        common = first
        if not same:
            indexes = [pd.MultiIndex.from_arrays([self.columns[c][at] for c in ("example", "label")]) for at in aligned]
            seen = set().union(*(set(index) for index in indexes))
            for index in indexes[1:]:
                common = common.intersection(index)
            if len(common) < len(seen):
                notes.append(f"{task}: {len(seen) - len(common)} of {len(seen)} examples left out, as not all cells have them.")
            if common.empty:
                return None
        order = common.sort_values()
        aligned = [at[self._positions(at, order)] if not same else at for at in aligned]
        if same:
            sort = first.get_indexer(order)
            aligned = [at[sort] for at in aligned]
        base = aligned[0]
        groups_ = pd.factorize(self.columns["group"][base])[0]
        clusters = pd.factorize(self.columns["cluster"][base])[0]
        predictions = self.columns["prediction"][np.stack(aligned)].astype(np.int64)
        info = self.infos[task]
        given = {
            metric: np.array([self.metrics[key].get(metric, np.nan) for key in keys], float).reshape(len(methods), -1)
            for metric in info.metrics
        }
        return TaskGrid(
            name=task,
            info=info,
            seeds=tuple(seeds),
            labels=self.columns["label"][base].astype(np.int64),
            predictions=predictions.reshape(len(methods), len(seeds), -1),
            clusters=_nested(clusters, groups_),
            groups=groups_,
            given=given,
        )

    def _positions(self, at: Ints, order: pd.MultiIndex) -> Ints:
        index = pd.MultiIndex.from_arrays([self.columns[c][at] for c in ("example", "label")])
        return np.asarray(index.get_indexer(order), dtype=np.int64)


def _nested(clusters: Ints, groups_: Ints) -> Ints:
    """Join clusters that share a group, so that a group is never torn apart by resampling."""
    pairs = pd.DataFrame({"cluster": clusters, "group": groups_}).drop_duplicates()
    if pairs["group"].is_unique:
        return clusters
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(clusters.max()) + 1
    ones = np.ones(len(pairs))
    cells = (pairs["cluster"].to_numpy(), size + pairs["group"].to_numpy())
    total = size + int(groups_.max()) + 1
    _, parts = connected_components(coo_array((ones, cells), shape=(total, total)), directed=False)
    return pd.factorize(parts[clusters])[0].astype(np.int64)
