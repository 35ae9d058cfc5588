"""Which cells of the long table belong in one leaderboard, and what is left out of it.

Gaps in the records are closed by intersection; each thing that falls out leaves a sentence in
`Selection.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.results.table import LongTable
from dhrd_bench.stats.design import Grid, Group, Selection
from dhrd_bench.stats.pairing import Pairing
from dhrd_bench.stats.usable import usable


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
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    baseline: str | None = None,
    reference: str | None = None,
) -> Selection:
    """Choose the cells of one leaderboard and pair them.

    The tasks of the table and their seeds are the baseline's (without a baseline: those of the method
    with most cells). A method is ranked if it has every task, each with at least half of the seeds; two
    methods are compared on the seeds that both have, so that none takes seeds from the others. The
    examples are those that all cells have with the same label. A method with fewer cells is compared
    with the baseline on what both have.

    Raises
    ------
    UserError
        If a name is unknown or nothing is left.
    """
    notes: list[str] = []
    pairing = Pairing(table, group)
    named = [*methods, *filter(None, (baseline, reference))] if methods else ()
    cells = _cells_of(table, group, tasks, named, notes)
    cells = usable(pairing, cells, notes)
    if cells.empty:
        raise UserError(
            f"No finished cell of {group.suite}, {group.backbone}, {group.budget} is left.", " ".join(notes)
        )
    baseline = _by_role(cells, "baseline", baseline, notes)
    reference = _by_role(cells, "reference", reference, notes)
    if baseline is None:
        notes.append("No method has the role of the baseline, so there are no gains; name one with --baseline.")
    if reference is None:
        notes.append("No method has the role of the reference, so there are no QPS ratios; name one with --reference.")
    coverage = Coverage.of(cells, baseline)
    grid = pairing.grid({method: coverage.shared(method) for method in coverage.ranked}, notes)
    notes += _fewer(coverage)
    yardstick = baseline or "the fullest method"
    notes += [
        f"{method}: {_listed(extra)} left out, as {yardstick} has no such cell."
        for method in coverage.ranked
        if (extra := coverage.beyond(method))
    ]
    partial: dict[str, Grid] = {}
    for method in coverage.lacking:
        shared = coverage.shared(method)
        about = f"{method} is not ranked: it has no result for {_listed(coverage.gaps(method))}."
        if shared and baseline:
            partial[method] = pairing.grid({baseline: shared, method: shared}, notes)
            about += f" Its figures are over what it shares with {baseline}."
        notes.append(about)
    return Selection(group, grid, partial, cells, baseline, reference, tuple(notes))


@dataclass(frozen=True)
class Coverage:
    """Which method has a finished cell of which task and seed.

    Attributes
    ----------
    seeds
        By method and task.
    yardstick
        By task, the seeds that a method should have: the baseline's, or those of the fullest method.
    """

    seeds: dict[str, dict[str, set[int]]]
    yardstick: dict[str, set[int]]

    @classmethod
    def of(cls, cells: pd.DataFrame, baseline: str | None) -> Coverage:
        """Return the coverage of `cells`."""
        seeds: dict[str, dict[str, set[int]]] = {}
        for method, task, seed in zip(cells["method"], cells["task"], cells["seed"], strict=True):
            seeds.setdefault(str(method), {}).setdefault(str(task), set()).add(int(seed))
        fullest = min(seeds, key=lambda method: (-sum(map(len, seeds[method].values())), method))
        return cls(seeds, seeds[baseline or fullest])

    @property
    def ranked(self) -> list[str]:
        """The methods that have at least half of the yardstick's seeds of every task."""
        return [
            method
            for method, have in sorted(self.seeds.items())
            if all(2 * len(have.get(task, set()) & seeds) >= len(seeds) for task, seeds in self.yardstick.items())
        ]

    @property
    def lacking(self) -> list[str]:
        """The other methods."""
        return sorted(set(self.seeds) - set(self.ranked))

    def shared(self, method: str) -> dict[str, set[int]]:
        """Return by task the seeds of the yardstick that `method` has, without tasks of which it has none."""
        both = {task: seeds & self.seeds[method].get(task, set()) for task, seeds in self.yardstick.items()}
        return {task: seeds for task, seeds in both.items() if seeds}

    def gaps(self, method: str) -> dict[str, set[int]]:
        """Return by task, in order of name, the seeds of the yardstick that `method` lacks."""
        missing = {task: seeds - self.seeds[method].get(task, set()) for task, seeds in sorted(self.yardstick.items())}
        return {task: seeds for task, seeds in missing.items() if seeds}

    def beyond(self, method: str) -> dict[str, set[int]]:
        """Return by task, in order of name, the seeds of `method` that the yardstick lacks."""
        more = {task: seeds - self.yardstick.get(task, set()) for task, seeds in sorted(self.seeds[method].items())}
        return {task: seeds for task, seeds in more.items() if seeds}


def _cells_of(
    table: LongTable, group: Group, tasks: Sequence[str], methods: Sequence[str], notes: list[str]
) -> pd.DataFrame:
    """Return the finished cells of `group` in one version, and say in `notes` what falls out."""
    cells = table.cells
    cells = cells[(cells["suite"] == group.suite) & (cells["backbone"] == group.backbone)]
    others = sorted(set(cells["budget"]) - {group.budget})
    if others:
        notes.append(f"Other budgets of this suite and backbone, in tables of their own: {', '.join(others)}.")
    cells = cells[cells["budget"] == group.budget]
    cells = _only(_only(cells, "task", tasks), "method", methods)
    cells, dropped = _one_version(cells)
    notes += dropped
    failed = cells[cells["status"] != "ok"]
    notes += [
        f"Failed: {row.method} on {row.task}, seed {row.seed}: {_first_line(row.error)}."
        for row in failed.sort_values(["method", "task", "seed"]).itertuples()
    ]
    return cells[cells["status"] == "ok"]


def _only(cells: pd.DataFrame, column: str, wanted: Sequence[str]) -> pd.DataFrame:
    if not wanted:
        return cells
    known = {name.lower(): name for name in cells[column]}
    for name in wanted:
        if name.lower() not in known:
            raise UserError(f"No records of {column} {name!r}.", did_you_mean(name, known.values()))
    return cells[cells[column].isin([known[name.lower()] for name in wanted])]


def _one_version(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep one version of the table, of each task's data, of each method and of what it is taught with.

    It is the one that most cells have, of equals the newest.
    """
    notes = []
    for column, by, what in (
        ("version", ["suite"], "harness, suite, backbone or budget"),
        ("data_version", ["task"], "data, prompt or rationales"),
        ("method_version", ["method"], "method"),
        ("rationales", ["task", "method"], "rationale store"),
    ):
        if cells[column].nunique() < 2:
            continue
        kept = []
        for _, alike in cells.groupby(by):
            if alike[column].nunique() < 2:
                kept.append(alike)
                continue
            sizes = alike.groupby(column).agg(cells=("status", "size"), newest=("finished", "max"))
            chosen = sizes.sort_values(["cells", "newest"]).index[-1]
            other = alike[alike[column] != chosen]
            kept.append(alike[alike[column] == chosen])
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
    names = sorted(sizes.index, key=lambda name: ("[" in name, -sizes[name], name))
    if len(names) > 1:
        notes.append(f"Several methods have the role {role!r}; {names[0]} is taken, --{role} takes another.")
    return str(names[0]) if names else None


def _fewer(coverage: Coverage) -> list[str]:
    """Say which ranked methods lack seeds, and so which comparisons are over fewer."""
    alike: dict[str, list[str]] = {}
    for method in coverage.ranked:
        if gaps := coverage.gaps(method):
            alike.setdefault(_listed(gaps), []).append(method)
    return [
        f"No result of {', '.join(methods)} for {gaps}: figures there are over the other seeds, comparisons with any "
        "method over the seeds that both have."
        for gaps, methods in alike.items()
    ]


def _listed(cells: dict[str, set[int]]) -> str:
    return ", ".join(f"{task} (seeds {_numbers(seeds)})" for task, seeds in cells.items())


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))


def _first_line(text: object) -> str:
    return (str(text).strip().splitlines() or [""])[0][:160].rstrip(".")
