"""The command line. Nothing heavy is imported before a command that needs it runs."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dhrd_bench import __version__
from dhrd_bench.commands.help import completed, dress, kinds_to_draw, kinds_to_list, kinds_to_make
from dhrd_bench.commands.rationales import app as rationales_app
from dhrd_bench.commands.records import app as records_app
from dhrd_bench.commands.study import app as study_app
from dhrd_bench.errors import UserError, shown

app = typer.Typer(
    name="dhrd-bench",
    help="Does training on rationales make a pooled classifier better, by how much, and at what speed?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TABLE = "From a table"

app.add_typer(rationales_app, name="rationales")
app.add_typer(records_app, name="records")
app.add_typer(study_app, name="study")
app.add_typer(records_app, name="results", hidden=True)  # what the group was called before


def _folder(text: str | Path) -> Path:
    from dhrd_bench.request import named_folder

    return named_folder(str(text))  # typer parses a default, too


Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file with a request, as --dry-run --format yaml prints it.")
]
Include = Annotated[
    list[Path] | None,
    typer.Option("--include", help="Folder with methods, suites, budgets of your own; repeatable."),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Comma-separated, from 'dhrd-bench list'; settings as in 'NAME\\[alpha=0.5,beta=1]'.",
        autocompletion=completed("methods"),
    ),
]
SuiteName = Annotated[
    str | None,
    typer.Option(
        "--suite",
        help="Suite; settings as in 'superglue7\\[prompt=paper,unshared=true]'.",
        show_default="mini7",
        autocompletion=completed("suites"),
    ),
]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Prompt of the suite, if not its default one.")]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated; all tasks of the suite by default.")]
BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="Name, hub id or local folder; 'NAME\\[dtype=float32]'.",
        show_default="smollm2-135m",
        autocompletion=completed("backbones"),
    ),
]
BudgetName = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Named limits; 'NAME\\[epochs=1]' changes one.",
        show_default="smoke",
        autocompletion=completed("budgets"),
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", help="A count (5), a list (0,3,7) or a range (2-4).", show_default="the budget's"),
]
Results = Annotated[Path, typer.Option("--results", help="Folder of the records.", parser=_folder)]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", help="Folder of the records.", show_default="results", parser=_folder)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Folder with a suite's files in their release layout; or DHRD_DATA_DIR.", parser=_folder
    ),
]

Studies = Annotated[
    Path | None,
    typer.Option(help="Folder of the studies that a site shows.", show_default="studies, where there is one"),
]
Stores = Annotated[
    list[str] | None,
    typer.Option("--store", help="A store that METHOD@NAME learns from: NAME=FOLDER. May be given several times."),
]
KeepRows = Annotated[
    bool,
    typer.Option(
        "--keep-rows", help="Keep the train rows that another store lacks; a method taught with it goes without."
    ),
]
Paired = Annotated[
    str | None,
    typer.Option(
        "--paired",
        help="Stores and treatments whose rows count, too: train rows have a rationale in every one of them.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dhrd-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


@app.command()
def demo(
    results: Results = Path("dhrd-bench-demo"),
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Name, hub id or local folder.", show_default="smollm2-135m", autocompletion=completed("backbones")
        ),
    ] = None,
) -> None:
    """Fine-tune a small backbone with three methods on a few rows, and print the leaderboard: a first look."""
    from rich.console import Console

    from dhrd_bench.commands.demo import demo_command

    raise typer.Exit(demo_command(results, backbone, Console()))


@app.command()
def run(
    methods: Methods = None,
    suite: SuiteName = None,
    tasks: Tasks = None,
    backbone: BackboneName = None,
    budget: BudgetName = None,
    seeds: Seeds = None,
    prompt: Prompt = None,
    data_dir: DataDir = None,
    rationales: Annotated[
        str | None, typer.Option(help="Store to train on instead of the suite's own rationales: FOLDER or NAME.")
    ] = None,
    store: Stores = None,
    paired: Paired = None,
    keep_rows: KeepRows = False,
    allow_missing_rationales: Annotated[
        bool,
        typer.Option("--allow-missing-rationales", help="Run methods of rationales on tasks that have none, too."),
    ] = False,
    results: ResultsOption = None,
    include: Include = None,
    throughput: Annotated[
        str | None, typer.Option(help="Then time what was fitted: offline, single-stream, server.")
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(
            help="Where methods work: process (cannot read test labels), audit (here, watched), none.",
            show_default="auto: process for plug-ins where it can be had",
        ),
    ] = None,
    cell_timeout: Annotated[
        str | None, typer.Option(help="Time that a cell may take: 90 (seconds), 30m, 1h30m; longer is a failure.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run cells again that have a record.")] = False,
    executor: Annotated[
        str | None, typer.Option(help="Who runs the cells: local, or ray (a Ray cluster).", show_default="local")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Cells to run at a time, in processes of their own.", show_default="1; what a Ray cluster has room for"
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes that train each cell together, a GPU each.", show_default="1")
    ] = None,
    shard: Annotated[str | None, typer.Option(help="Run a part of the cells only: 2/8 is the second of eight.")] = None,
    track: Annotated[
        str | None, typer.Option(help="Comma-separated trackers to tell of each cell: mlflow, trackio, wandb.")
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(
            help="Where joules come from: counters (the hardware's own, if they can be read), codecarbon (estimated).",
            show_default="counters",
        ),
    ] = None,
    tuned: Annotated[
        Path | None, typer.Option(help="File of 'tune': methods have the settings that were chosen there.")
    ] = None,
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan with an estimate and stop.")] = False,
    format_: Annotated[
        str,
        typer.Option("--format", help="How --dry-run prints the plan: table or json; yaml for the complete request."),
    ] = "table",
) -> None:
    """Run the cells that have no record yet: methods x tasks x seeds."""
    from rich.console import Console

    from dhrd_bench.commands.places import check_places
    from dhrd_bench.request import Options, read_request

    options = Options(
        methods=methods, suite=suite, prompt=prompt, tasks=tasks, backbone=backbone, budget=budget, seeds=seeds,
        data_dir=data_dir, rationales=rationales, stores=store, paired=paired, keep_rows=keep_rows or None,
        allow_missing_rationales=allow_missing_rationales or None, include=include, results=results,
        throughput=throughput, isolation=isolation, cell_timeout=cell_timeout, force=force or None, executor=executor,
        workers=workers, processes=processes, shard=shard, track=track, energy=energy,
        tuned=tuned,
    )  # fmt: skip
    request = read_request(config, options)
    check_places(request)
    from dhrd_bench.commands.listing import wide_console
    from dhrd_bench.commands.run import dry_run_command, run_command

    if dry_run:
        raise typer.Exit(dry_run_command(request, format_, Console()))
    raise typer.Exit(run_command(request, wide_console() if request.throughput else Console()))


@app.command()
def tune(
    trials: Annotated[int, typer.Option(min=2, help="Trials of every method, its own settings first.")],
    output: Annotated[Path, typer.Option(help="File of the trials, and to go on from; 'run --tuned' reads it.")],
    methods: Methods = None,
    suite: SuiteName = None,
    tasks: Tasks = None,
    backbone: BackboneName = None,
    budget: BudgetName = None,
    seeds: Seeds = None,
    dev_rows: Annotated[
        int | None, typer.Option(min=1, help="dev rows of a trial.", show_default="the budget's")
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="YAML file of what to draw from.", show_default="learning rate, epochs, a method's own"),
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="random, grid (lists only), or tpe: Optuna's, where earlier trials were good.")
    ] = "random",
    random_seed: Annotated[int, typer.Option(help="What draws settings.")] = 0,
    prompt: Prompt = None,
    data_dir: DataDir = None,
    rationales: Annotated[
        str | None, typer.Option(help="Store to train on instead of the suite's own rationales: FOLDER or NAME.")
    ] = None,
    include: Include = None,
    isolation: Annotated[
        str | None, typer.Option(help="Where methods work: process, audit, none.", show_default="auto")
    ] = None,
    cell_timeout: Annotated[str | None, typer.Option(help="Time that a cell may take: 90 (seconds), 30m.")] = None,
    workers: Annotated[int | None, typer.Option(help="Cells to run at a time.", show_default="1")] = None,
    config: Config = None,
) -> None:
    """Search settings for every method by the same number of trials, on dev rows only."""
    from rich.console import Console

    from dhrd_bench.commands.places import check_places
    from dhrd_bench.request import Options, parse_sampler, read_request

    options = Options(
        methods=methods, suite=suite, prompt=prompt, tasks=tasks, backbone=backbone, budget=budget, seeds=seeds,
        data_dir=data_dir, rationales=rationales, include=include, isolation=isolation, cell_timeout=cell_timeout,
        workers=workers,
    )  # fmt: skip
    request = read_request(config, options)
    how = parse_sampler(sampler)
    check_places(request)
    from dhrd_bench.commands.tune import tune_command
    from dhrd_bench.search.space import read_space
    from dhrd_bench.search.tune import SearchSettings

    settings = SearchSettings(trials, how, random_seed, read_space(space) if space else None)
    raise typer.Exit(tune_command(request, settings, output, dev_rows, Console()))


@app.command()
def rerun(
    record: Annotated[Path, typer.Argument(help="Record of a cell, as results/.../seed-0.json.")],
    data_dir: DataDir = None,
    include: Include = None,
    rationales: Annotated[str | None, typer.Option(help="The rationale store that the cell was trained on.")] = None,
    store: Stores = None,
    backbone: Annotated[str | None, typer.Option(help="Folder of the backbone, if it was a local one.")] = None,
    verify: Annotated[
        str | None, typer.Option(help="Your name: note beside the records that this one came out the same.")
    ] = None,
) -> None:
    """Run a record's cell again, compare its predictions, and say what differs in the surroundings."""
    from rich.console import Console

    from dhrd_bench.commands.rerun import rerun_command
    from dhrd_bench.request import Options

    options = Options(
        data_dir=data_dir, include=include, rationales=rationales, stores=store or None, backbone=backbone
    )
    raise typer.Exit(rerun_command(record, options, Console(), verify))


@app.command()
def report(
    results: Results = Path("results"),
    suite: Annotated[str | None, typer.Option(help="Only this suite.", autocompletion=completed("suites"))] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Only this backbone.", autocompletion=completed("backbones"))
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Only this budget.", autocompletion=completed("budgets"))] = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, comma-separated.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Only these methods, comma-separated.", autocompletion=completed("methods"))
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Method that gains are taken over, if not the one of that role.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Method that QPS ratios are taken to.")] = None,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, json, csv, html or latex; parquet: the rows behind it.")
    ] = "terminal",
    output: Annotated[
        Path | None,
        typer.Option(help="File to write instead of the terminal. With html a folder for a site, or one page: x.html."),
    ] = None,
    data_dir: DataDir = None,
    studies: Studies = None,
    include: Include = None,
    against: Annotated[str | None, typer.Option(help="'paper': the paper's claims beside these results.")] = None,
    margin: Annotated[float | None, typer.Option(help="Margin in % for tests of equivalence.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="Score by this metric alone, on the tasks that have it, as accuracy.")
    ] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by: score, method, gain, p, qps or tokens.")] = "score",
    details: Annotated[
        bool,
        typer.Option("--details", help="More tables: calibration, slices, seed agreement, probabilities and others."),
    ] = False,
    wide: Annotated[bool, typer.Option("--wide", help="All columns, however narrow the terminal is.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the JSON schema of --format json, and nothing else.")
    ] = False,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples and permutations.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
) -> None:
    """Print the leaderboard of the records, with intervals and tests, or write it as a site."""
    import gc

    _include(include)

    gc.disable()  # a thousand records are a million small objects that live to the end: looking for waste is waste
    from dhrd_bench.cards import split_references
    from dhrd_bench.commands.report import ReportRequest, report_command, schema_command
    from dhrd_bench.report.leaderboard import Choice, as_format

    if schema:
        raise typer.Exit(schema_command(output))
    choice = Choice(
        suite=suite,
        backbone=backbone,
        budget=budget,
        tasks=tuple(split_references(tasks or "")),
        methods=tuple(split_references(methods or "")),
        baseline=baseline,
        reference=reference,
        metric=metric,
        sort=sort,
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
        details=details,
        wide=wide,
        data_dir=data_dir,
        studies=studies,
    )
    raise typer.Exit(report_command(request))


@app.command()
def plot(
    kind: Annotated[
        str, typer.Argument(help="pareto, gains, curves, power, calibration or seeds.", autocompletion=kinds_to_draw)
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="File to write; its suffix says the form: pdf, svg or png.", show_default="KIND.pdf"),
    ] = None,
    data: Annotated[bool, typer.Option("--data", help="Write what is drawn beside the figure, as CSV.")] = False,
    results: Results = Path("results"),
    suite: Annotated[str | None, typer.Option(help="Only this suite.", autocompletion=completed("suites"))] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Only this backbone.", autocompletion=completed("backbones"))
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Only this budget.", autocompletion=completed("budgets"))] = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, comma-separated.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Only these methods, comma-separated.", autocompletion=completed("methods"))
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Method that gains are taken over, if not the one of that role.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Score by this metric alone, on the tasks that have it, as accuracy.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Smallest difference of interest, in % of the baseline.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples and permutations.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
) -> None:
    """Draw a figure of the records for a paper, by matplotlib."""
    from dhrd_bench.cards import split_references
    from dhrd_bench.commands.plot import PlotRequest, plot_command
    from dhrd_bench.report.leaderboard import Choice

    choice = Choice(
        suite=suite,
        backbone=backbone,
        budget=budget,
        tasks=tuple(split_references(tasks or "")),
        methods=tuple(split_references(methods or "")),
        baseline=baseline,
        metric=metric,
    )
    request = PlotRequest(
        kind=kind,
        output=output,
        results=results,
        choice=choice,
        resamples=resamples,
        seed=seed,
        margin=margin,
        data=data,
    )
    raise typer.Exit(plot_command(request))


@app.command()
def serve(
    results: Results = Path("results"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on, on this machine; 0 takes any.")] = 8000,
    data_dir: DataDir = None,
    studies: Studies = None,
    include: Include = None,
    against: Annotated[str | None, typer.Option(help="'paper': the paper's claims beside these results.")] = None,
    margin: Annotated[float | None, typer.Option(help="Margin in % for tests of equivalence.")] = None,
) -> None:
    """Show the leaderboard in a browser while a grid runs: on this machine only, made anew when records change."""
    _include(include)
    from rich.console import Console

    from dhrd_bench.commands.serve import ServeRequest, serve_command

    request = ServeRequest(
        results=results, port=port, data_dir=data_dir, against=against, margin=margin, studies=studies
    )
    raise typer.Exit(serve_command(request, Console()))


@app.command()
def power(
    methods: Methods = None,
    suite: SuiteName = None,
    tasks: Tasks = None,
    backbone: BackboneName = None,
    budget: BudgetName = None,
    seeds: Seeds = None,
    prompt: Prompt = None,
    data_dir: DataDir = None,
    include: Include = None,
    config: Config = None,
    margin: Annotated[float, typer.Option(help="Difference of two methods, in points, that matters.")] = 2.0,
    discordance: Annotated[
        float, typer.Option(help="Share of the examples that one of two methods has right and the other wrong.")
    ] = 0.15,
    lasting: Annotated[float, typer.Option(help="Share of that which is so at every seed.")] = 0.5,
    seed_sd: Annotated[float, typer.Option(help="Standard deviation of a score between seeds, in points.")] = 1.0,
) -> None:
    """Say, before anything is run, what differences a request could find."""
    from dhrd_bench.commands.places import check_places
    from dhrd_bench.request import Options, read_request

    options = Options(
        methods=methods, suite=suite, prompt=prompt, tasks=tasks, backbone=backbone, budget=budget, seeds=seeds,
        data_dir=data_dir, include=include,
    )  # fmt: skip
    request = read_request(config, options)
    check_places(request)
    from dhrd_bench.commands.listing import wide_console
    from dhrd_bench.commands.power import power_command
    from dhrd_bench.stats.power import Assumed

    assumed = Assumed(discordance=discordance, lasting=lasting, seed_sd=seed_sd)
    raise typer.Exit(power_command(request, margin, assumed, wide_console()))


@app.command()
def throughput(
    methods: Methods = None,
    suite: SuiteName = None,
    tasks: Tasks = None,
    backbone: BackboneName = None,
    budget: BudgetName = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="A count (5), a list (0,3,7) or a range (2-4).", show_default="0")
    ] = None,
    prompt: Prompt = None,
    scenarios: Annotated[
        str | None, typer.Option(help="Load scenarios: offline, single-stream, server.", show_default="offline")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds in which every method has its turn.")] = 10,
    block: Annotated[int, typer.Option(min=1, help="Examples that a method answers in one turn.")] = 48,
    queries: Annotated[int, typer.Option(min=1, help="Queries of single-stream and server.")] = 128,
    store: Stores = None,
    paired: Paired = None,
    keep_rows: KeepRows = False,
    p99_bound: Annotated[float, typer.Option(help="Seconds that p99 must stay within under server.")] = 1.0,
    margin: Annotated[float, typer.Option(help="Margin in % of the equivalence test.")] = 5.0,
    data_dir: DataDir = None,
    results: ResultsOption = None,
    include: Include = None,
    config: Config = None,
) -> None:
    """Time fitted methods against each other: QPS and ratios with intervals."""
    from dhrd_bench.commands.places import check_places
    from dhrd_bench.request import Options, read_request

    options = Options(
        methods=methods, suite=suite, prompt=prompt, tasks=tasks, backbone=backbone, budget=budget, seeds=seeds,
        data_dir=data_dir, include=include, results=results, throughput=scenarios,
        stores=store, paired=paired, keep_rows=keep_rows or None,
    )  # fmt: skip
    request = read_request(config, options, Options(seeds="0", throughput="offline"))
    check_places(request)
    from dhrd_bench.commands.listing import wide_console
    from dhrd_bench.commands.throughput import throughput_command
    from dhrd_bench.throughput.timing import TimingSettings

    settings = TimingSettings(rounds=rounds, block=block, queries=queries, p99_bound=p99_bound, margin=margin)
    raise typer.Exit(throughput_command(request, settings, wide_console()))


@app.command("list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            help="What to list: methods, suites, tasks, backbones or budgets.", autocompletion=kinds_to_list
        ),
    ] = "methods",
    include: Include = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what is registered."""
    _include(include)
    from dhrd_bench.commands.listing import show

    show(kind, as_json=as_json)


@app.command()
def check(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Names, with settings as in 'NAME\\[alpha=0.5]'.", autocompletion=completed("methods")),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every method there is.")] = False,
    backbone: Annotated[
        str, typer.Option(help="Name, hub id or local folder.", autocompletion=completed("backbones"))
    ] = "tiny",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with data that methods are to leave alone.", parser=_folder)
    ] = None,
    include: Include = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run the conformance kit on methods; exit code 1 if one fails."""
    _include(include)
    from rich.console import Console

    from dhrd_bench.commands.check import check_command

    raise typer.Exit(
        check_command(
            methods or [], everything=all_, backbone=backbone, data_dir=data_dir, as_json=as_json, console=Console()
        )
    )


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="What to write: method or suite.", autocompletion=kinds_to_make)],
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits and hyphens.")],
    into: Annotated[Path, typer.Option(help="Folder to write into; name it with --include later.")] = Path("plugins"),
    include: Include = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Make the suite from this table: CSV, TSV, JSON, JSON lines (.gz, too), Parquet, or a folder that "
            "save_to_disk of the datasets library wrote.",
            rich_help_panel=TABLE,
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the input; repeatable.", rich_help_panel=TABLE)
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the class.", rich_help_panel=TABLE)] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", help="Column of the rows' names; they are numbered without.", rich_help_panel=TABLE),
    ] = None,
    rationale: Annotated[
        str | None, typer.Option(help="Column that says why a row is of its class.", rich_help_panel=TABLE)
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="Table of the test rows, or a split of the saved data set. Without it some rows of every class are "
            "set aside.",
            rich_help_panel=TABLE,
        ),
    ] = None,
    test_fraction: Annotated[float, typer.Option(help="Share of the rows to set aside.", rich_help_panel=TABLE)] = 0.2,
    seed: Annotated[int, typer.Option(help="What draws them.", rich_help_panel=TABLE)] = 0,
) -> None:
    """Write a commented starting file for a method or a suite of your own, or a suite from your table."""
    _include(include)
    from dhrd_bench.commands.new import create

    table = None
    if source is not None:
        from dhrd_bench.data.from_table import Table

        table = Table(
            source=source, test=test, text=tuple(text or ()), label=label or "", id=id_, rationale=rationale,
            test_fraction=test_fraction, seed=seed,
        )  # fmt: skip
    elif text or label or id_ or rationale or test:
        raise UserError("Columns were named, but no table.", "Name its file with --from.")
    made = create(kind, name, into, table)
    for path in made.files:
        typer.echo(f"wrote {path}")
    for note in made.notes:
        typer.echo(shown(f"note: {note}"))
    typer.echo(f"{'Run it' if table else 'Edit it, then'}: {made.next_step}")


@app.command()
def generate(
    suite: Annotated[str, typer.Argument(help="Suite whose rows are generated.", autocompletion=completed("suites"))],
    output: Annotated[Path, typer.Option(help="Folder to make; the new suite has its name.", parser=_folder)],
    tasks: Tasks = None,
    rows: Annotated[int | None, typer.Option(help="Train rows a task.", show_default="the suite's")] = None,
    test_rows: Annotated[int | None, typer.Option(help="Test rows a task.", show_default="the suite's")] = None,
    hops: Annotated[
        str | None, typer.Option(help="Steps of a derivation: 4, or 2-4 in equal shares.", show_default="the suite's")
    ] = None,
    test_hops: Annotated[
        str | None, typer.Option(help="Steps in the test rows, if others.", show_default="the suite's")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="What draws them.", show_default="the suite's")] = None,
    include: Include = None,
) -> None:
    """Write the rows of a generated suite as files: more of them, deeper ones, or of another seed."""
    _include(include)
    from dhrd_bench.cards import split_references
    from dhrd_bench.commands.generate import generate_command

    changes = {"train": rows, "test": test_rows, "hops": hops, "test_hops": test_hops, "seed": seed}
    named = None if tasks is None else list(split_references(tasks))
    given = {key: value for key, value in changes.items() if value is not None}
    for path in generate_command(suite, named, output, given):
        typer.echo(f"wrote {path}")


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


@app.command()
def export(
    record: Annotated[Path, typer.Argument(help="Record of a cell, as results/.../seed-0.json.")],
    output: Annotated[Path, typer.Option(help="Folder to make.", parser=_folder)],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Keep the adapters apart from the backbone, in the form of peft.")
    ] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX graph, too (extra onnx).")] = False,
    data_dir: DataDir = None,
    include: Include = None,
    rationales: Annotated[str | None, typer.Option(help="The rationale store that the cell was trained on.")] = None,
    store: Stores = None,
    backbone: Annotated[str | None, typer.Option(help="Folder of the backbone, if it was a local one.")] = None,
) -> None:
    """Write a record's classifier as a folder that transformers loads, with its prompt and a model card."""
    from rich.console import Console

    from dhrd_bench.commands.export import export_command
    from dhrd_bench.request import Options

    options = Options(
        data_dir=data_dir, include=include, rationales=rationales, stores=store or None, backbone=backbone
    )
    raise typer.Exit(export_command(record, output, options, Console(), adapter=adapter, onnx=onnx))


@app.command()
def predict(
    rows: Annotated[Path, typer.Argument(help="File of rows: JSON lines, JSON, CSV, TSV (.gz, too) or Parquet.")],
    model: Annotated[Path, typer.Option(help="Folder that 'export' wrote.", parser=_folder)],
    output: Annotated[Path | None, typer.Option(help="File to write instead of the terminal.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Inputs to read together.")] = 32,
    device: Annotated[str, typer.Option(help="Where to work: cpu, cuda.")] = "cpu",
    backbone: Annotated[
        str | None, typer.Option(help="What exported adapters are put on.", show_default="the one they belong to")
    ] = None,
) -> None:
    """Answer rows with an exported classifier: class and probabilities, a line of JSON a row."""
    from rich.console import Console

    from dhrd_bench.commands.predict import predict_command

    console = Console(stderr=True)
    raise typer.Exit(predict_command(rows, model, output, console, batch=batch, device=device, backbone=backbone))


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder that 'export' wrote.", parser=_folder)],
    repository: Annotated[str, typer.Argument(help="Repository on the Hugging Face hub: OWNER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository a private one.")] = False,
) -> None:
    """Send an exported folder to the Hugging Face hub; the token is that of HF_TOKEN."""
    from rich.console import Console

    from dhrd_bench.commands.push import push_command

    raise typer.Exit(push_command(folder, repository, Console(), private=private))


@app.command("import")
def import_(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOGS...", help="Per-sample logs, or folders of them; one a seed.")
    ],
    task: Annotated[str, typer.Option(help="Task of the suite; without a suite, the logs' own name for it.")],
    method: Annotated[str, typer.Option(help="What the model is called in tables.")],
    suite: Annotated[
        str | None,
        typer.Option(
            help="Suite whose test rows were answered.",
            show_default="the logs' own rows",
            autocompletion=completed("suites"),
        ),
    ] = None,
    log_task: Annotated[
        str | None, typer.Option(help="What the logs call the task.", show_default="the one they hold")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Which score says what is right: acc,none or the name of a scorer.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first log; the next ones count on.")] = 0,
    data_dir: DataDir = None,
    include: Include = None,
    results: Results = Path("results"),
) -> None:
    """Make records of logs of lm-evaluation-harness or Inspect: models that ran elsewhere, in the same tables."""
    _include(include)
    from rich.console import Console

    from dhrd_bench.commands.import_ import import_command
    from dhrd_bench.importing.logs import Wanted

    wanted = Wanted(task=task, method=method, suite=suite, log_task=log_task, score=score, seed=seed)
    raise typer.Exit(import_command(logs, wanted, data_dir, results, Console()))


dress(app)


def _include(folders: list[Path] | None) -> None:
    from dhrd_bench import plugins

    for folder in folders or []:
        plugins.include(folder)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    # Threads that wait by spinning take the processor from whom they wait for as soon as anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not sys.stderr.isatty():  # a bar in a log is a line a step; tqdm reads this when it is imported
        os.environ.setdefault("TQDM_DISABLE", "1")
    for stream in (sys.stdout, sys.stderr):  # a redirect on Windows may lack the minus sign: "?" is better than none
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
