"""Which cells of the long table belong in one leaderboard, and what is left out of it.

Gaps in the records are closed by intersection; each thing that falls out leaves a sentence in
`Selection.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.results.table import LongTable
from dhrd_bench.stats.design import Grid, Group, Selection
from dhrd_bench.stats.pairing import Pairing


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
        raise UserError(
            f"No finished cell of {group.suite}, {group.backbone}, {group.budget} is left.", " ".join(notes)
        )
    baseline = _by_role(cells, "baseline", baseline, notes)
    reference = _by_role(cells, "reference", reference, notes)
    if baseline is None:
        notes.append("No method has the role of the baseline, so there are no gains; name one with --baseline.")
    if reference is None:
        notes.append("No method has the role of the reference, so there are no QPS ratios; name one with --reference.")

    have: dict[str, dict[str, set[int]]] = {}
    for method, task, seed in zip(cells["method"], cells["task"], cells["seed"], strict=True):
        have.setdefault(str(method), {}).setdefault(str(task), set()).add(int(seed))
    yardstick = have[baseline or min(have, key=lambda m: (-sum(map(len, have[m].values())), m))]
    ranked = [
        method
        for method in sorted(have)
        if all(2 * len(have[method].get(task, set()) & seeds) >= len(seeds) for task, seeds in yardstick.items())
    ]
    lacking = [method for method in sorted(have) if method not in ranked]
    pairing = Pairing(table, group)
    grid = pairing.grid(ranked, {t: set.intersection(*(have[m][t] for m in ranked)) for t in yardstick}, notes)
    _say_seeds(ranked, have, {task.name: set(task.seeds) for task in grid.tasks}, notes)
    for method in ranked:
        if extra := sorted(set(have[method]) - set(yardstick)):
            notes.append(
                f"{method}: {', '.join(extra)} left out, as {baseline or 'the fullest method'} has no such cell."
            )
    partial: dict[str, Grid] = {}
    for method in lacking:
        gaps = [
            f"{t} (seeds {_numbers(miss)})"
            for t, s in sorted(yardstick.items())
            if (miss := s - have[method].get(t, set()))
        ]
        common = {t: s & have[method].get(t, set()) for t, s in yardstick.items() if s & have[method].get(t, set())}
        about = f"{method} is not ranked: it has no result for {', '.join(gaps)}."
        if common and baseline:
            partial[method] = pairing.grid([baseline, method], common, notes)
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
        if cells[column].nunique() < 2:
            continue
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
            notes.append(
                f"{task}: seeds {_numbers(unpaired)} left out, as not all methods have them ({', '.join(lacking)})."
            )


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))


def _first_line(text: object) -> str:
    return (str(text).strip().splitlines() or [""])[0][:160].rstrip(".")
