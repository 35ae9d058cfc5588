"""``dhrd-bench rationales``: generate, audit, show, merge, from-scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhrd_bench.errors import shown, shown_lines

if TYPE_CHECKING:
    from rich.console import Console

    from dhrd_bench.data.rationales import Rationale
    from dhrd_bench.data.suite import Suite
    from dhrd_bench.rationales.generate import Job, Summary

app = typer.Typer(no_args_is_help=True, help="Write, audit, look at and join teacher rationales.")

SuiteOption = Annotated[str, typer.Option(help="Name of the suite.")]
TasksOption = Annotated[
    list[str] | None, typer.Option("--task", "--tasks", help="Tasks, separated by commas; all if left out.")
]
DataOption = Annotated[Path | None, typer.Option(help="Folder with the release's files; or DHRD_DATA_DIR.")]
IncludeOption = Annotated[list[Path] | None, typer.Option(help="Folder with your own suites or backbones.")]
StoreOption = Annotated[
    str | None,
    typer.Option("--rationales", help="A store: FOLDER or NAME, pinned FOLDER@FINGERPRINT. Else the suite's own."),
]


@app.command()
def generate(
    suite: SuiteOption,
    teacher: Annotated[str, typer.Option(help="openai:MODEL (any OpenAI-compatible endpoint) or local:BACKBONE.")],
    task: TasksOption = None,
    prompt: Annotated[str, typer.Option(help="paper (gold label shown), blind (hidden), or a YAML file.")] = "paper",
    output: Annotated[Path | None, typer.Option(help="Folder of the store.  [default: rationales/SUITE]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Train rows per task, drawn by a fixed seed.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Usable rationales wanted per row.")] = 1,
    attempts: Annotated[int, typer.Option(min=1, help="Replies asked for per row at most, usable or not.")] = 1,
    settings: Annotated[Path | None, typer.Option(help="YAML file with the teacher's settings and prices.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Address of the endpoint, as http://HOST:PORT/v1.")] = None,
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the key.  [default: OPENAI_API_KEY]")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests under way at once.  [default: 4]")] = None,
    max_requests: Annotated[int | None, typer.Option(help="Budget of this call in requests.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Budget of this call in money, by the settings' prices.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens that a local teacher may write.  [default: 256]")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of a local teacher; 0 is greedy.  [default: 0]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Prompts that a local teacher answers at a time.  [default: 16]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the requests and show the first; send none.")
    ] = False,
    data_dir: DataOption = None,
    include: IncludeOption = None,
) -> None:
    """Have a teacher write rationales for train rows.

    Every reply is on the disk before the next is counted; the same command goes on where an earlier
    call ended, and asks nothing that has been answered.
    """
    from dhrd_bench.data.rationales import RationaleStore
    from dhrd_bench.rationales.generate import Job, choose
    from dhrd_bench.rationales.prompts import load_prompt
    from dhrd_bench.rationales.rows import load_rows, teacher_rows
    from dhrd_bench.rationales.teachers.choose import make_teacher
    from dhrd_bench.rationales.teachers.teacher import read_settings

    chosen = _suite(suite, include)
    writer = make_teacher(
        teacher,
        read_settings(
            settings,
            base_url=base_url,
            key_env=key_env,
            concurrency=concurrency,
            max_requests=max_requests,
            max_cost=max_cost,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            batch_size=batch_size,
        ),
        dry_run=dry_run,
    )
    template = load_prompt(prompt)
    store = RationaleStore(output or Path("rationales") / chosen.name)
    code = 0
    for name in chosen.resolve_tasks(_names(task)):
        loaded = load_rows(chosen, name, data_dir)
        rows = choose(teacher_rows(chosen, loaded), limit, chosen.name, name)
        shown = f"{loaded.card.prompt}@{loaded.card.prompt_version}"
        job = Job(store, name, rows, loaded.card.answers, template, writer, shown, samples, attempts)
        if dry_run:
            _preview(job)
            continue
        summary = _run(job)
        if summary.failed or summary.stopped:
            code = 130 if summary.stopped == "interrupted" else 1
        if summary.stopped:
            break
    raise typer.Exit(code)


@app.command()
def audit(
    suite: SuiteOption,
    task: TasksOption = None,
    rationales: StoreOption = None,
    data_dir: DataOption = None,
    without_rows: Annotated[
        bool, typer.Option("--without-rows", help="Look at the rationales alone; say what was not checked.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the JSON to this file, too.")] = None,
    max_contamination: Annotated[
        float, typer.Option(min=0, max=1, help="Share that may copy from evaluation inputs.")
    ] = 0.01,
    max_duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share that may repeat another row's.")] = 0.05,
    include: IncludeOption = None,
) -> None:
    """Measure what a store holds and what it gives away; exit code 1 if it is unusable."""
    from rich.console import Console
    from rich.text import Text

    from dhrd_bench.rationales.audit import Thresholds, badge, tables
    from dhrd_bench.rationales.audit import audit as measure
    from dhrd_bench.results.store import write_text_atomically

    chosen = _suite(suite, include)
    with Console(stderr=True).status("reading") as status:
        result = measure(
            chosen,
            tasks=_names(task),
            store=chosen.store(rationales) if rationales else None,
            data_dir=data_dir,
            without_rows=without_rows,
            thresholds=Thresholds(contamination=max_contamination, duplicates=max_duplicates),
            progress=lambda name: status.update(f"auditing {name}"),
        )
    # The badge travels with the figures: a report prints it without knowing how an audit is made.
    text = json.dumps(result.model_dump(mode="json") | {"badge": badge(result)}, indent=2) + "\n"
    if output:
        write_text_atomically(output, text)
    if as_json:
        typer.echo(text, nl=False)
    else:
        console = _console()
        for part in tables(result):
            console.print(part, soft_wrap=isinstance(part, Text))  # a line is the terminal's to wrap
    if not result.usable:
        raise typer.Exit(1)


@app.command()
def show(
    suite: Annotated[
        str | None, typer.Option(help="Name of the suite, to show its own rationales or one of its stores.")
    ] = None,
    rationales: StoreOption = None,
    task: TasksOption = None,
    limit: Annotated[int, typer.Option(min=0, help="Rationales per task.")] = 3,
    row: Annotated[str | None, typer.Option("--id", help="Show only the rationales of this row.")] = None,
    data_dir: DataOption = None,
    include: IncludeOption = None,
) -> None:
    """Show a store's card and some of its rationales."""
    from rich.markdown import Markdown

    from dhrd_bench.data.rationales import RationaleStore
    from dhrd_bench.data.suite import own_store
    from dhrd_bench.errors import UserError, did_you_mean
    from dhrd_bench.rationales.audit import inline
    from dhrd_bench.rationales.card import make_card, to_markdown
    from dhrd_bench.rationales.rows import load_rows

    if suite is None and rationales is None:
        raise UserError("Name --rationales or --suite.")
    console = _console()
    chosen = _suite(suite, include) if suite else None
    store = own_store(chosen) if chosen else None
    if rationales:
        store = chosen.store(rationales) if chosen else RationaleStore.open(rationales)
    if store:
        console.print(Markdown(shown_lines(to_markdown(make_card(store))), hyperlinks=False))
        names = _names(task) or store.tasks()
        by_folded = {name.casefold(): name for name in store.tasks()}
        for name in names:
            if name.casefold() not in by_folded:
                raise UserError(f"The store has no task {name!r}.", did_you_mean(name, store.tasks()))
            _show(console, by_folded[name.casefold()], store.rows(by_folded[name.casefold()]), limit, row)
    elif chosen:
        for name in chosen.resolve_tasks(_names(task)):
            _show(console, name, inline(chosen, load_rows(chosen, name, data_dir)), limit, row)


@app.command()
def merge(
    sources: Annotated[
        list[str], typer.Argument(help="Stores, FOLDER or FOLDER@FINGERPRINT, the preferred one first.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the new store.")],
) -> None:
    """Join stores into a new one: more tasks, more rows, several rationales per row."""
    from dhrd_bench.data.rationales import RationaleStore
    from dhrd_bench.rationales.merge import merge as join

    card = join(output, [RationaleStore.open(source) for source in sources])
    for name, held in card.contents.items():
        typer.echo(shown(f"{name}: {held.usable} rationales for {held.rows} rows"))
    typer.echo(f"{output}: fingerprint {card.fingerprint[:16]}")


@app.command()
def from_scores(
    predictions: Annotated[Path, typer.Argument(help="What 'dhrd-bench records predictions --format json' wrote.")],
    suite: SuiteOption,
    task: Annotated[str, typer.Option(help="The task whose train rows were predicted.")],
    teacher: Annotated[str, typer.Option(help="Name of the model that the scores are of.")],
    output: Annotated[Path, typer.Option(help="Folder of the store.")],
    data_dir: DataOption = None,
    include: IncludeOption = None,
) -> None:
    """Make a store of soft labels from a fitted model's scores for train rows."""
    from dhrd_bench.data.rationales import RationaleStore
    from dhrd_bench.errors import UserError
    from dhrd_bench.rationales.rows import load_rows, teacher_rows
    from dhrd_bench.rationales.scores import soft_lines

    chosen, store = _suite(suite, include), RationaleStore(output)
    loaded = load_rows(chosen, task, data_dir)
    name = loaded.card.name
    if store.path(name).exists():
        raise UserError(f"There is {store.path(name)} already.", "Name another folder; 'merge' joins stores.")
    lines = soft_lines(predictions, teacher_rows(chosen, loaded), teacher)
    with store.writer(name) as writer:
        writer.extend(lines)
    typer.echo(shown(f"{name}: soft labels of {len(lines)} train rows, fingerprint {store.fingerprint(name)[:16]}"))


# ---------------------------------------------------------------- helpers


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=120)  # a file has no width of its own


def _suite(name: str, include: list[Path] | None) -> Suite:
    from dhrd_bench import plugins
    from dhrd_bench.data.suite import Suite

    for folder in include or []:
        plugins.include(folder)
    return Suite.named(name)


def _names(tasks: list[str] | None) -> list[str] | None:
    return [name.strip() for given in tasks for name in given.split(",") if name.strip()] if tasks else None


def _preview(job: Job) -> None:
    todo = job.todo()
    typer.echo(f"{job.task}: {len(todo)} of {len(job.rows)} rows to ask {job.teacher.name} about")
    if todo:
        ask = job.ask(*todo[0])
        typer.echo(shown_lines(f"--- system\n{ask.system}\n--- user\n{ask.user}\n---"))


def _run(job: Job) -> Summary:
    from rich.console import Console

    from dhrd_bench.progress import bars

    with bars(Console(stderr=True)) as progress:
        line = progress.add_task(job.task, total=len(job.todo()), figures="")
        summary = job.run(lambda now: progress.update(line, completed=now.received + len(now.failed)))
    typer.echo(shown_lines(_report(job, summary)))
    return summary


def _report(job: Job, summary: Summary) -> str:
    parts = [f"{summary.usable} written", f"{summary.present} already there"]
    if summary.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.rejected.items())
        parts.append(f"{summary.rejected.total()} rejected ({reasons})")
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed (row {summary.failed[-1]})")
    if summary.open:
        parts.append(f"{summary.open} open")
    lines = [f"{job.task}: {', '.join(parts)}"]
    if summary.received:
        cost = "".join(f", {amount:.4f} {currency}" for currency, amount in summary.cost.items())
        lines.append(f"  tokens: {summary.tokens_in:,} in, {summary.tokens_out:,} out{cost}")
        if not job.prompt.label_seen:
            lines.append(f"  acceptance: {summary.acceptance:.1%} of the replies gave the gold label")
    if summary.stopped:
        lines.append(f"  stopped: {summary.stopped}")
    lines.append(f"  {job.store.path(job.task)}: fingerprint {job.store.fingerprint(job.task)[:16]}")
    return "\n".join(lines)


def _show(console: Any, task: str, rows: list[Rationale], limit: int, row: str | None) -> None:
    from rich.text import Text

    picked = [each for each in rows if row is None or each.key[0] == row]
    for each in picked[:limit] if row is None else picked:
        made = " ".join(filter(None, [each.teacher, each.prompt, each.rejected and f"REJECTED: {each.rejected}"]))
        console.print(Text(shown(f"{task} {each.key[0]}, label {each.label}, sample {each.sample} {made}"), "bold"))
        console.print(Text(shown_lines(each.rationale) + "\n"))
