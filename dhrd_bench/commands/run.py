"""The ``run`` command."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.interrupts import INTERRUPTED, always, second_interrupt_leaves
from dhrd_bench.progress import literal, show_progress
from dhrd_bench.request import RunRequest
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import broken_path, keep_current, read_record, record_path
from dhrd_bench.results.tuned import keep_tuned, read_tuned

if TYPE_CHECKING:
    from dhrd_bench.grid.datacheck import DataCheck


def run_command(request: RunRequest, console: Console) -> int:
    """Plan, run what is missing, say how it went, then time what was fitted if the request asks for it.

    Cells that had a record but whose fitted method was not kept are fitted once more for the timing;
    cells that failed are left out.

    Returns
    -------
    int
        0 if every cell has a record and every timing is VALID, 1 if not, 130 after an interrupt.
    """
    plan = make_plan(request)
    print_notes(plan, console)
    code = run_missing(plan, console)
    if not plan.request.throughput or code == INTERRUPTED:
        _print_report_command(plan, console)
        return code
    from dhrd_bench.commands.throughput import time_and_print
    from dhrd_bench.throughput.timing import TimingSettings

    # It knows which cells have a record by now.
    planned_anew = make_plan(request.model_copy(update={"results": plan.results, "force": False}))
    finished = tuple(planned for planned in planned_anew.cells if planned.record is not None)
    code = time_and_print(replace(planned_anew, cells=finished), TimingSettings(), console) or code
    _print_report_command(plan, console)
    return code


def dry_run_command(request: RunRequest, format_: str, console: Console) -> int:
    """Print the plan with a check of its data and an estimate as tables or JSON, or the complete request as YAML.

    Raises
    ------
    UserError
        If there is no such format.
    """
    if format_ not in ("table", "yaml", "json"):
        raise UserError(f"A plan has no format {format_!r}.", "Write table, yaml or json.")
    plan = make_plan(request)
    if format_ == "yaml":
        console.file.write(plan.request.to_yaml())
        return 0
    from dhrd_bench.backbones.loading import load
    from dhrd_bench.commands.datacheck import print_checks
    from dhrd_bench.grid.datacheck import check_data
    from dhrd_bench.grid.estimate import estimate_seconds

    checks = check_data(plan, load(plan.backbone)) if plan.missing else []
    seconds = estimate_seconds(plan)
    if format_ == "json":
        console.file.write(_plan_as_json(plan, checks, seconds))
        return 0
    print_notes(plan, console)
    if checks:
        print_checks(checks, console)
    _print_plan(plan, seconds, console)
    return 0


def run_missing(plan: Plan, console: Console, goes_on: Callable[[], bool] = always) -> int:
    """Run the cells of `plan` that have no record, and say which have failed; none begins once `goes_on` is false.

    Returns
    -------
    int
        0, 1 if a cell has failed, 130 after an interrupt.
    """
    _check_writable(plan)
    if plan.request.tuned:  # for reports, which say that methods were tuned
        keep_tuned(plan.results, plan.request.tuned)
    if plan.request.throughput:
        _check_cache()
    done, missing = len(plan.cells) - len(plan.missing), len(plan.missing)
    known = "records aside" if plan.request.force else f"{done} have a record"
    console.print(f"{len(plan.cells)} cells: {known}, {missing} to run.", highlight=False)
    for planned in plan.cells:
        if planned.record is not None:
            keep_current(plan.results, planned.record, planned.parts)
    if not missing:
        return 0
    from dhrd_bench.grid.run import run_plan
    from dhrd_bench.throughput.fitted import save_fitted

    try:
        with second_interrupt_leaves(), show_progress(console, missing, "cells") as display:
            records = run_plan(plan, display, save_fitted if plan.request.throughput else None, goes_on)
    except KeyboardInterrupt:
        console.print("Interrupted. Finished cells are kept; the same command goes on with the missing ones.")
        return INTERRUPTED
    return _print_failures(records, console)


def _print_failures(records: list[CellRecord], console: Console) -> int:
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        cell = record.cell
        what = literal(f"{cell.task} seed {cell.seed} {cell.method}: {record.error}")
        console.print(f"[red]failed[/] {what}", soft_wrap=True, highlight=False)
    if failed:
        many = f"{len(failed)} of {len(records)} cells failed"
        console.print(f"{many}; the same command tries them again.", highlight=False)
    return 1 if failed else 0


def _print_report_command(plan: Plan, console: Console) -> None:
    """Say how the records of this run are reported, if there is one."""
    from dhrd_bench.commands.report import ReportRequest
    from dhrd_bench.report.leaderboard import Choice

    if not plan.cells:  # a shard of a small grid
        return
    cell = plan.cells[0].cell
    if any(record_path(plan.results, planned.cell).is_file() for planned in plan.cells):
        choice = Choice(suite=cell.suite, backbone=cell.backbone, budget=cell.budget)
        line = ReportRequest(results=plan.results, choice=choice).command_line()
        console.print(f"Report: {line}", highlight=False, markup=False, soft_wrap=True)


def print_notes(plan: Plan, console: Console) -> None:
    """Say what is odd about the cells of `plan`."""
    notes = [f"{c.cell.task}: {note}" for c in plan.cells for note in c.notes]
    for note in dict.fromkeys([*_plugin_notes(plan), *_tuned_notes(plan), *notes, *_broken_notes(plan)]):
        console.print(f"[yellow]note[/] {literal(note)}", highlight=False, soft_wrap=True)


def _plugin_notes(plan: Plan) -> Iterator[str]:
    """Say which plug-ins have not been checked, and which can be kept from test labels less well."""
    from dhrd_bench.grid.checked import has_passed
    from dhrd_bench.grid.isolation import is_plugin, why_no_process

    for spec in {planned.method.name: planned.method for planned in plan.missing}.values():
        if not is_plugin(spec):
            continue
        if not has_passed(spec):
            yield f"{spec.name}: has not passed 'dhrd-bench check' as it stands"
        if plan.request.isolation == "auto" and (reason := why_no_process(spec)):
            yield f"{spec.name}: works in this process, where only what Python opens is watched: {reason}"


def _tuned_notes(plan: Plan) -> Iterator[str]:
    """Say where settings were chosen for something else than they are run for."""
    if plan.request.tuned and plan.cells:
        cell, search = plan.cells[0].cell, read_tuned(plan.request.tuned)
        for what in ("suite", "backbone", "budget"):
            if getattr(search, what) != getattr(cell, what):
                yield f"{plan.request.tuned}: settings were chosen under {what} {getattr(search, what)}"
        if others := sorted(set(plan.request.tasks or ()) - set(search.tasks)):
            yield f"{plan.request.tuned}: settings were chosen without {', '.join(others)}"


def _broken_notes(plan: Plan) -> Iterator[str]:
    """Name the files that lie where records of missing cells will, and are none."""
    for planned in plan.missing:
        path = record_path(plan.results, planned.cell)
        if path.exists():
            try:
                read_record(path)
            except ValueError as error:
                yield f"{path}: {error}. Its cell is run again, and the file kept as {broken_path(path).name}"


def _check_writable(plan: Plan) -> None:
    """Find out before hours of work, not after."""
    folders = [plan.results, *(record_path(plan.results, planned.cell).parent for planned in plan.missing)]
    for folder in dict.fromkeys(folders):
        probe = folder
        while not probe.exists():
            probe = probe.parent
        if not probe.is_dir() or not os.access(probe, os.W_OK):
            raise UserError(f"The results folder {folder} is not writable.", "Choose another with --results.")


def _check_cache() -> None:
    """Refuse a cache that cannot hold what will be timed; a file is tried, as permissions do not tell all."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"Cannot write the cache {folder}: {reason}.", "Set DHRD_CACHE to another folder.") from error


def _plan_as_json(plan: Plan, checks: Sequence[DataCheck], seconds: Sequence[float]) -> str:
    document = {
        "request": plan.request.model_dump(mode="json"),
        "data": [asdict(check) for check in checks],
        "cells": [
            {
                "cell": planned.cell.model_dump(),
                "identity": planned.identity,
                "has_record": planned.record is not None,
                "seconds": round(cost, 1),
                "notes": list(planned.notes),
            }
            for planned, cost in zip(plan.cells, seconds, strict=True)
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _print_plan(plan: Plan, seconds: Sequence[float], console: Console) -> None:
    title = f"{plan.suite.name}, {plan.backbone.name} ({plan.backbone.dtype}), budget {plan.budget.name}"
    table = Table(title=literal(title))
    for column in ("task", "seed", "method", "train", "dev", "test", "state", "estimate"):
        table.add_column(column, justify="right" if column in ("seed", "train", "dev", "test", "estimate") else "left")
    for planned, cost in zip(plan.cells, seconds, strict=True):
        per_row = planned.test.candidates
        table.add_row(
            planned.cell.task,
            str(planned.cell.seed),
            literal(planned.cell.method),
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
