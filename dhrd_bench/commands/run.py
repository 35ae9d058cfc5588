"""The ``run`` command."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dhrd_bench.contracts import Method
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, PlannedCell, make_plan
from dhrd_bench.grid.progress import show_progress
from dhrd_bench.results.store import keep_current

INTERRUPTED = 130
"""Exit code of a command that was interrupted, as a shell has it."""


def run_command(
    *,
    console: Console,
    dry_run: bool,
    results: Path,
    keep: Callable[[Method, PlannedCell], object] = lambda method, planned: None,
    **wanted: Any,
) -> int:
    """Plan, run what is missing, say how it went; `keep` is given each fitted method.

    Returns
    -------
    int
        0 if every cell has a record, 1 if cells failed, 130 after an interrupt.
    """
    plan = make_plan(results=results, **wanted)
    _notes(plan, console)
    if dry_run:
        _show(plan, console)
        return 0
    _check_writable(results)
    done, missing = len(plan.cells) - len(plan.missing), len(plan.missing)
    console.print(f"{len(plan.cells)} cells: {done} have a record, {missing} to run.", highlight=False)
    for planned in plan.cells:
        if planned.record is not None:
            keep_current(results, planned.record, planned.parts)
    if not missing:
        return 0
    from dhrd_bench.grid.run import run_grid

    try:
        with show_progress(console, missing) as progress:
            records = run_grid(plan, results, progress, keep)
    except KeyboardInterrupt:
        console.print("Interrupted. Finished cells are kept; the same command goes on with the missing ones.")
        return INTERRUPTED
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        cell = record.cell
        what = escape(f"{cell.task} seed {cell.seed} {cell.method}: {record.error}")
        console.print(f"[red]failed[/] {what}", soft_wrap=True, highlight=False)
    if failed:
        console.print(f"{len(failed)} of {missing} cells failed; the same command tries them again.", highlight=False)
    return 1 if failed else 0


def _notes(plan: Plan, console: Console) -> None:
    for note in dict.fromkeys(f"{c.cell.task}: {note}" for c in plan.cells for note in c.loaded.notes):
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)


def _check_writable(results: Path) -> None:
    """Find out before hours of work, not after."""
    probe = results
    while not probe.exists():
        probe = probe.parent
    if not probe.is_dir() or not os.access(probe, os.W_OK):
        raise UserError(f"The results folder {results} is not writable.", "Choose another with --results.")


def _show(plan: Plan, console: Console) -> None:
    from dhrd_bench.grid.estimate import estimate_seconds

    seconds = estimate_seconds(plan)
    table = Table(title=f"{plan.suite.name}, {plan.backbone.name} ({plan.backbone.dtype}), budget {plan.budget.name}")
    for column in ("task", "seed", "method", "train", "dev", "test", "state", "estimate"):
        table.add_column(column, justify="right" if column in ("seed", "train", "dev", "test", "estimate") else "left")
    for planned, cost in zip(plan.cells, seconds, strict=True):
        per_row = planned.test.candidates
        table.add_row(
            planned.cell.task,
            str(planned.cell.seed),
            escape(planned.cell.method),
            str(len(planned.data.train) // per_row),
            str(len(planned.data.dev) // per_row),
            str(len(planned.test)),
            "has a record" if planned.record else "to run",
            "" if planned.record else _duration(cost),
        )
    console.print(table)
    total = sum(cost for planned, cost in zip(plan.cells, seconds, strict=True) if planned.record is None)
    console.print(f"{len(plan.missing)} of {len(plan.cells)} cells to run, about {_duration(total)}.", highlight=False)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
