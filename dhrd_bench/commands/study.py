"""``dhrd-bench study``: freeze, run, report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from dhrd_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from dhrd_bench.studies.frozen import Frozen
    from dhrd_bench.studies.plan import Planned
    from dhrd_bench.studies.study import Study
    from dhrd_bench.studies.verdict import Judged

app = typer.Typer(
    no_args_is_help=True,
    help="Studies: a hypothesis with its contrasts, frozen before anything is scored, run and judged.",
)

File = Annotated[Path, typer.Argument(help="YAML file of the study, as studies/NAME.yaml.")]
Results = Annotated[Path | None, typer.Option(help="Folder of the records.", show_default="the study's, or results")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder with a suite's files in their release layout; or DHRD_DATA_DIR.")
]
Include = Annotated[
    list[Path] | None, typer.Option(help="Folder with methods, suites, budgets of your own; repeatable.")
]


@app.command()
def freeze(
    file: File,
    results: Results = None,
    data_dir: DataDir = None,
    include: Include = None,
    amend: Annotated[
        str | None, typer.Option(help="Why a frozen study is changed: it is exploratory from then on.")
    ] = None,
) -> None:
    """Write down what decides the study's outcome, before any of its cells is scored."""
    from dhrd_bench.studies.frozen import frozen_path, read_frozen, write_frozen
    from dhrd_bench.studies.study import read_study

    study, path = read_study(file), frozen_path(file)
    planned = _planned(study, file, {"results": results, "data_dir": data_dir, "include": include})
    cells = len(planned.frozen.cells)
    if path.exists():
        old = read_frozen(path)
        changes = old.changes(planned.frozen)
        if not changes:
            typer.echo(f"{path} is of {old.time} and still holds: {cells} cells.")
            return
        frozen = _amended(old, planned.frozen, changes, amend, path)
    elif amend is not None:
        raise UserError(f"There is no {path} to amend.", "Leave --amend out.")
    else:
        _require_unscored(planned)
        frozen = planned.frozen.model_copy(update=_now())
    write_frozen(frozen, path)
    contrasts = len(frozen.primary)
    typer.echo(f"wrote {path}: {cells} cells, {contrasts} primary contrast{'' if contrasts == 1 else 's'}.")
    typer.echo(f"Commit it, so that its time can be believed. Run: dhrd-bench study run {file}")


@app.command()
def run(
    file: File,
    results: Results = None,
    data_dir: DataDir = None,
    include: Include = None,
    workers: Annotated[int | None, typer.Option(help="Cells to run at a time, in processes of their own.")] = None,
    executor: Annotated[str | None, typer.Option(help="Who runs the cells: local, or ray (a Ray cluster).")] = None,
    isolation: Annotated[str | None, typer.Option(help="Where methods work: process, audit, none.")] = None,
    cell_timeout: Annotated[str | None, typer.Option(help="Time that a cell may take: 90 (seconds), 30m.")] = None,
    stop_after: Annotated[
        str | None, typer.Option(help="Begin no cell after this time, as 2h or 30m; the same command goes on.")
    ] = None,
) -> None:
    """Run what is missing of a frozen study until its rule stops it; exit code 1 as long as it has not."""
    from rich.console import Console

    from dhrd_bench.interrupts import INTERRUPTED
    from dhrd_bench.request import parse_duration
    from dhrd_bench.studies.frozen import frozen_path, read_frozen, shortened
    from dhrd_bench.studies.page import state
    from dhrd_bench.studies.study import read_study

    study, path = read_study(file), frozen_path(file)
    end = None if stop_after is None else time.monotonic() + parse_duration(stop_after)
    frozen = read_frozen(path)
    places = {
        "results": results, "data_dir": data_dir, "include": include, "workers": workers, "executor": executor,
        "isolation": isolation, "cell_timeout": cell_timeout,
    }  # fmt: skip
    planned = _planned(study, file, places)
    if changes := frozen.changes(planned.frozen):
        raise UserError(
            f"The plan of {file} is not the one that was frozen: {shortened(changes)}.",
            f"Undo that, give the changed study a file of its own, or: dhrd-bench study freeze {file} --amend 'why'.",
        )
    console = Console()
    judged = _run(study, frozen, planned, lambda: end is None or time.monotonic() < end, console)
    if judged is None:
        raise typer.Exit(INTERRUPTED)
    words = ["dhrd-bench", "study", "report", str(file), *(["--results", str(results)] if results else [])]
    for line in (state(judged), f"Report: {shlex.join(words)}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(0 if judged.stopped else 1)


@app.command()
def report(
    file: File,
    results: Results = None,
    data_dir: DataDir = None,
    include: Include = None,
    format_: Annotated[str, typer.Option("--format", help="terminal, markdown or json.")] = "terminal",
    output: Annotated[Path | None, typer.Option(help="File to write instead of the terminal.")] = None,
) -> None:
    """Say what the records show of a study's hypothesis: each contrast better, worse, equivalent or undecided."""
    from rich.console import Console

    from dhrd_bench.report.terminal import print_document
    from dhrd_bench.results.store import write_text_atomically
    from dhrd_bench.studies.frozen import frozen_path, read_frozen
    from dhrd_bench.studies.page import document, render
    from dhrd_bench.studies.study import read_study
    from dhrd_bench.studies.verdict import judge

    study, path, console = read_study(file), frozen_path(file), Console()
    places = {"results": results, "data_dir": data_dir, "include": include}
    frozen = read_frozen(path) if path.exists() else _planned(study, file, places).frozen
    judged = judge(study, frozen, results or study.requests[0].results)
    if output is not None:
        write_text_atomically(output, render(judged, format_, file))
        console.print(f"Wrote {output}", highlight=False, markup=False, soft_wrap=True)
    elif format_ == "terminal":
        print_document(document(judged, file), console)
    else:
        console.file.write(render(judged, format_, file))


def _planned(study: Study, file: Path, places: dict[str, Any]) -> Planned:
    """Plan a study with the options that were given for where and how it is run."""
    from dhrd_bench.commands.places import check_places
    from dhrd_bench.request import Options, read_request
    from dhrd_bench.studies.plan import plan_study

    given = {key: value for key, value in places.items() if value is not None}
    parsed = read_request(None, cast(Options, given))
    update = {key: getattr(parsed, key) for key in given} | {
        "results": given.get("results") or study.requests[0].results
    }
    for request in study.requests:
        check_places(request.model_copy(update=update))
    return plan_study(study, file.stem, update)


def _amended(old: Frozen, new: Frozen, changes: list[str], why: str | None, path: Path) -> Frozen:
    from dhrd_bench.studies.frozen import Amendment, shortened

    if not why:
        raise UserError(
            f"{path} is of {old.time}, and the plan has changed since: {shortened(changes)}.",
            "Give the changed study a file of its own, or say --amend 'why': then it is exploratory.",
        )
    amendment = Amendment(time=_now()["time"], why=why, changed=tuple(changes))
    update = {"time": old.time, "commit": old.commit, "amendments": (*old.amendments, amendment)}
    return new.model_copy(update=update)


def _now() -> dict[str, Any]:
    from dhrd_bench.grid.environment import git_revision

    return {"time": datetime.now(UTC).isoformat(timespec="seconds"), "commit": git_revision()}


def _require_unscored(planned: Planned) -> None:
    scored = [cell for plan in planned.plans for cell in plan.cells if cell.record is not None]
    if scored:
        seeds = sorted({cell.cell.seed for cell in scored})
        raise UserError(
            f"{len(scored)} of {len(planned.frozen.cells)} cells have been scored before, as {scored[0].name} in "
            f"{planned.plans[0].results}.",
            f"A hypothesis is tested on what nobody has seen: plan other seeds than {', '.join(map(str, seeds))}.",
        )


def _run(
    study: Study, frozen: Frozen, planned: Planned, goes_on: Callable[[], bool], console: Console
) -> Judged | None:
    """Run look by look, and judge after each; return the last judgement, None after an interrupt."""
    from dataclasses import replace

    from dhrd_bench.commands.run import print_notes, run_missing
    from dhrd_bench.interrupts import INTERRUPTED
    from dhrd_bench.studies.verdict import judge

    seen: set[str] = set()
    for look in frozen.looks:
        for plan in planned.until(look):
            rest = replace(plan, cells=tuple(cell for cell in plan.cells if cell.identity not in seen))
            if not rest.cells or not goes_on():
                continue
            if not seen:
                print_notes(rest, console)
            if run_missing(rest, console, goes_on) == INTERRUPTED:
                return None
        seen |= {each.identity for each in frozen.stage(look)}
        judged = judge(study, frozen, planned.plans[0].results)
        if judged.stopped or judged.look != look:
            break
    return judged
