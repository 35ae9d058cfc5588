"""The command line. Nothing heavy is imported before a command that needs it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dhrd_bench.commands.rationales import app as rationales_app
from dhrd_bench.errors import UserError

app = typer.Typer(
    name="dhrd-bench",
    help="Does training on rationales make a pooled classifier better, by how much, and at what speed?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(rationales_app, name="rationales")

Include = Annotated[
    list[Path] | None, typer.Option("--include", help="Folder with methods, suites, budgets of your own; repeatable.")
]
Methods = Annotated[str, typer.Option("--methods", help="Comma-separated; settings as in 'NAME[alpha=0.5,beta=1]'.")]
Suite = Annotated[str, typer.Option("--suite", help="Suite; a prompt as in 'superglue7[prompt=paper]'.")]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated; all tasks of the suite by default.")]
Backbone = Annotated[str, typer.Option("--backbone", help="Name, hub id or local folder; 'NAME[dtype=float32]'.")]
Budget = Annotated[str, typer.Option("--budget", help="Named limits; 'NAME[epochs=1]' changes one.")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="A count (5), a list (0,3,7) or a range (2-4).")]
Results = Annotated[Path, typer.Option("--results", help="Folder of the records.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="DHRD_DATA_DIR", help="Folder with a suite's files in their release layout."),
]


@app.command()
def run(
    methods: Methods,
    suite: Suite = "mini7",
    tasks: Tasks = None,
    backbone: Backbone = "smollm2-135m",
    budget: Budget = "smoke",
    seeds: Seeds = None,
    data_dir: DataDir = None,
    rationales: Annotated[
        Path | None, typer.Option(help="Rationale store to train on instead of the suite's own.")
    ] = None,
    results: Results = Path("results"),
    include: Include = None,
    throughput: Annotated[
        str | None, typer.Option(help="Then time what was fitted: offline, single-stream, server.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan with an estimate and stop.")] = False,
) -> None:
    """Run the cells that have no record yet: methods x tasks x seeds."""
    _include(include)
    from functools import partial

    from rich.console import Console

    from dhrd_bench.commands.run import run_command

    command, console = run_command, Console()
    if throughput is not None:
        from dhrd_bench.commands.listing import wide_console
        from dhrd_bench.commands.throughput import run_and_time

        command, console = partial(run_and_time, scenarios=throughput), console if dry_run else wide_console()
    raise typer.Exit(
        command(
            console=console,
            dry_run=dry_run,
            methods=methods,
            suite=suite,
            tasks=tasks,
            backbone=backbone,
            budget=budget,
            seeds=seeds,
            data_dir=data_dir,
            rationales=rationales,
            results=results,
        )
    )


@app.command()
def report(
    results: Results = Path("results"),
    suite: Annotated[str | None, typer.Option(help="Only this suite.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Only this backbone.")] = None,
    budget: Annotated[str | None, typer.Option(help="Only this budget.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, comma-separated.")] = None,
    methods: Annotated[str | None, typer.Option(help="Only these methods, comma-separated.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Method that gains are taken over, if not the one of that role.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Method that QPS ratios are taken to.")] = None,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, json, csv, html or latex.")
    ] = "terminal",
    output: Annotated[Path | None, typer.Option(help="File to write instead of the terminal.")] = None,
    against: Annotated[str | None, typer.Option(help="'paper': the paper's claims beside these results.")] = None,
    margin: Annotated[float | None, typer.Option(help="Margin in % for tests of equivalence.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples and permutations.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
) -> None:
    """Print the leaderboard of the records, with intervals and tests."""
    import gc

    gc.disable()  # a thousand records are a million small objects that live to the end: looking for waste is waste
    from dhrd_bench.cards import split_references
    from dhrd_bench.commands.report import ReportRequest, report_command
    from dhrd_bench.report.leaderboard import Choice, as_format

    choice = Choice(
        suite=suite,
        backbone=backbone,
        budget=budget,
        tasks=tuple(split_references(tasks or "")),
        methods=tuple(split_references(methods or "")),
        baseline=baseline,
        reference=reference,
    )
    request = ReportRequest(
        results=results,
        choice=choice,
        format=as_format(format_),
        output=output,
        resamples=resamples,
        seed=seed,
        against=against,
        margin=margin,
    )
    raise typer.Exit(report_command(request))


@app.command()
def throughput(
    methods: Methods,
    suite: Suite = "mini7",
    tasks: Tasks = None,
    backbone: Backbone = "smollm2-135m",
    budget: Budget = "smoke",
    seeds: Seeds = "0",
    scenarios: Annotated[str, typer.Option(help="offline, single-stream, server.")] = "offline",
    rounds: Annotated[int, typer.Option(min=2, help="Rounds in which every method has its turn.")] = 10,
    block: Annotated[int, typer.Option(min=1, help="Examples a turn.")] = 48,
    queries: Annotated[int, typer.Option(min=1, help="Queries of single-stream and server.")] = 128,
    p99_bound: Annotated[float, typer.Option(help="Seconds that p99 must stay within under server.")] = 1.0,
    margin: Annotated[float, typer.Option(help="Margin in % of the equivalence test.")] = 5.0,
    data_dir: DataDir = None,
    results: Results = Path("results"),
    include: Include = None,
) -> None:
    """Time fitted methods against each other: QPS and ratios with intervals."""
    _include(include)
    from dhrd_bench.commands.listing import wide_console
    from dhrd_bench.commands.throughput import throughput_command

    raise typer.Exit(
        throughput_command(
            console=wide_console(),
            scenarios=scenarios,
            results=results,
            settings={"rounds": rounds, "block": block, "queries": queries, "p99_bound": p99_bound, "margin": margin},
            methods=methods,
            suite=suite,
            tasks=tasks,
            backbone=backbone,
            budget=budget,
            seeds=seeds,
            data_dir=data_dir,
        )
    )


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="methods, suites, tasks, backbones or budgets.")] = "methods",
    include: Include = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what is registered."""
    _include(include)
    from dhrd_bench.commands.listing import show

    show(kind, as_json=as_json)


@app.command()
def check(
    methods: Annotated[list[str] | None, typer.Argument(help="Names, with settings as in 'NAME[alpha=0.5]'.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every method there is.")] = False,
    backbone: Annotated[str, typer.Option(help="Name, hub id or local folder.")] = "tiny",
    include: Include = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run the conformance kit on methods; exit code 1 if one fails."""
    _include(include)
    from rich.console import Console

    from dhrd_bench.commands.check import check_command

    raise typer.Exit(
        check_command(methods or [], everything=all_, backbone=backbone, as_json=as_json, console=Console())
    )


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="method or suite.")],
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    into: Annotated[Path, typer.Option(help="Folder to write into; name it with --include later.")] = Path("plugins"),
    include: Include = None,
) -> None:
    """Write a commented starting file for a method or a suite of your own."""
    _include(include)
    from dhrd_bench.commands.new import create

    files, next_step = create(kind, name, into)
    for path in files:
        typer.echo(f"wrote {path}")
    typer.echo(f"Edit it, then: {next_step}")


@app.command()
def doctor(
    data_dir: DataDir = None,
    include: Include = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine can run: packages, device, speed by dtype, data and backbones present."""
    _include(include)
    from dhrd_bench.commands.doctor import examine

    raise typer.Exit(examine(data_dir, as_json=as_json))


def _include(folders: list[Path] | None) -> None:
    from dhrd_bench import plugins

    for folder in folders or []:
        plugins.include(folder)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    # Threads that wait by spinning take the processor from whom they wait for as soon as anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
