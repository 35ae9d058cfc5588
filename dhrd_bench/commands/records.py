"""``dhrd-bench records``: check, pack, merge, submit, predictions, migrate, schema."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhrd_bench.errors import shown

if TYPE_CHECKING:
    from rich.console import Console

    from dhrd_bench.grid.recordcheck import Check

app = typer.Typer(
    no_args_is_help=True,
    help="Check records, pack, merge and submit them; take predictions out of them; bring them up to date.",
)

DataDir = Annotated[
    Path | None, typer.Option(help="Folder with the files of suites that are not embedded; or DHRD_DATA_DIR.")
]
Include = Annotated[list[Path] | None, typer.Option(help="Folder with methods or suites of your own; repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(
    places: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Folders of records, or records.", show_default="results"),
    ] = None,
    data_dir: DataDir = None,
    include: Include = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Fail records made from a changed checkout, unless they are verified.")
    ] = False,
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option(help="File to write the JSON to, beside what is printed.")] = None,
) -> None:
    """Compute again what follows from records' predictions, rows and parts; exit code 1 if one cannot be as it says."""
    from rich.console import Console

    from dhrd_bench.results.store import write_text_atomically

    checked = _checked(places or [Path("results")], data_dir, include, clean=clean)
    if output is not None:
        write_text_atomically(output, _as_json(checked))
    if as_json:
        typer.echo(_as_json(checked), nl=False)
    else:
        _show(checked, Console())
    raise typer.Exit(int(checked.failed))


def _checked(places: list[Path], data_dir: Path | None, include: list[Path] | None, *, clean: bool) -> Check:
    from dhrd_bench import plugins
    from dhrd_bench.grid.recordcheck import check_records

    for folder in include or []:
        plugins.include(folder)
    return check_records(places, data_dir, clean=clean)


def _as_json(checked: Check) -> str:
    findings = [
        {"severity": f.severity, "check": f.kind, "path": f.path.as_posix(), "message": f.message, "cure": f.cure}
        for f in checked.findings
    ]
    body = {"records": checked.records, "failed": checked.failed, "findings": findings}
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def _show(checked: Check, console: Console) -> None:
    """Print a line a finding, the failures first; what is said of many files is said once."""
    from rich.markup import escape
    from rich.table import Table

    styles = {"failure": "red", "warning": "yellow", "note": "dim"}
    together: dict[tuple[str, str, str, str], list[Path]] = {}
    for finding in sorted(checked.findings, key=lambda finding: list(styles).index(finding.severity)):
        key = finding.severity, finding.kind, finding.message, finding.cure
        together.setdefault(key, []).append(finding.path)
    table = Table("", "check", show_edge=False, pad_edge=False)
    table.add_column("records", overflow="fold")
    for (severity, kind, message, cure), paths in together.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        text = f"{paths[0].as_posix()}{more}:\n{shown(f'{message}. {cure}').strip()}"
        table.add_row(f"[{styles[severity]}]{severity}[/]", kind, escape(text))
    if together:
        console.print(table)
    counts: Counter[str] = Counter(finding.severity for finding in checked.findings)
    said = ", ".join(f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in styles)
    console.print(f"{checked.records} records: {said}.", highlight=False)


@app.command()
def pack(
    results: Annotated[Path, typer.Argument(help="Folder of the records.")] = Path("results"),
    output: Annotated[Path, typer.Option(help="File to write: .tar.gz or .zip.")] = Path("records.tar.gz"),
) -> None:
    """Pack records into one file; texts that methods wrote stay out of it."""
    from dhrd_bench.results.pack import pack as pack_records

    typer.echo(f"packed {pack_records(results, output)} records into {output}")


@app.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Folders of records, or packed ones.")],
    results: Annotated[Path, typer.Option("--results", help="Folder to bring them to.")] = Path("results"),
    replace: Annotated[
        bool, typer.Option("--replace", help="Of two records of one identity take the one that comes.")
    ] = False,
) -> None:
    """Bring the records of several machines together; exit code 1 if two contradict each other or one is unreadable."""
    from dhrd_bench.results.pack import merge as merge_records
    from dhrd_bench.results.pack import opened

    counts: Counter[str] = Counter()
    for source in sources:
        with opened(source) as folder:
            for merged in merge_records(folder, results, replace=replace):
                counts[merged.state] += 1
                if merged.reason:
                    typer.echo(f"{source}: {merged.path}: {merged.state}: {merged.reason}")
    typer.echo(
        f"{counts['added']} added, {counts['same']} there already, {counts['beside']} put beside, "
        f"{counts['left']} left, {counts['conflict']} in conflict, {counts['unreadable']} unreadable."
    )
    raise typer.Exit(int(bool(counts["conflict"] or counts["unreadable"])))


@app.command()
def submit(
    results: Annotated[Path, typer.Argument(help="Folder of the records that are yours.")],
    output: Annotated[Path, typer.Option(help="File to write: .tar.gz or .zip.")] = Path("records.tar.gz"),
    data_dir: DataDir = None,
    include: Include = None,
) -> None:
    """Check records as a pull request does, and pack them with what the check says; nothing is packed if one fails."""
    from rich.console import Console

    from dhrd_bench.errors import UserError
    from dhrd_bench.results.pack import pack as pack_records

    checked = _checked([results], data_dir, include, clean=True)
    _show(checked, Console())
    if checked.failed:
        raise UserError("Nothing was packed, as a record fails its check.", "Do what is said of it above.")
    count = pack_records(results, output, {"check.json": _as_json(checked)})
    typer.echo(f"packed {count} records and their check into {output}")
    typer.echo("Attach it to a pull request, or merge it into results/ in one (docs/contributing-results.md).")


@app.command()
def predictions(
    record: Annotated[
        str, typer.Argument(help="A record's file, or its cell below the results folder: SUITE/.../TASK/seed-0.")
    ],
    output: Annotated[Path | None, typer.Option(help="File to write instead of the terminal.")] = None,
    format_: Annotated[str, typer.Option("--format", help="csv or json.")] = "csv",
    results: Annotated[Path, typer.Option("--results", help="Folder of the records.")] = Path("results"),
) -> None:
    """Print what a record says of every test row: classes, scores, and what was written if that is kept beside it."""
    from dhrd_bench.errors import UserError, did_you_mean
    from dhrd_bench.results.loading import read_cell
    from dhrd_bench.results.predictions import as_csv, as_json, prediction_rows, read_texts
    from dhrd_bench.results.store import write_text_atomically

    forms = {"csv": as_csv, "json": as_json}
    if format_ not in forms:
        raise UserError(f"Predictions have no format {format_!r}.", did_you_mean(format_, forms))
    path = _record_file(record, results)
    text = forms[format_](prediction_rows(read_cell(path), read_texts(path)))
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_text_atomically(output, text)
        typer.echo(f"wrote {output}")


def _record_file(named: str, results: Path) -> Path:
    """Return the file of the record that is `named` by its path, or by its place below `results`."""
    from dhrd_bench.errors import UserError, did_you_mean

    for path in (Path(named), results / named, results / f"{named}.json"):
        if path.is_file():
            return path
    known = [path.relative_to(results).with_suffix("").as_posix() for path in results.rglob("seed-*.json")]
    hint = did_you_mean(named, known) if len(known) <= SHOWN else did_you_mean(named, known).partition("Known: ")[0]
    raise UserError(f"There is no record {named}.", hint or f"Name a file, or a cell below {results}.")


SHOWN = 10
"""So many cells are listed where none of them is near to what was named."""


@app.command()
def migrate(
    results: Annotated[Path, typer.Option("--results", help="Folder of the records.")] = Path("results"),
    include: Annotated[list[Path] | None, typer.Option(help="Folder with methods of your own; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and write nothing.")] = False,
) -> None:
    """Give records of an earlier release the identities of this one; their outcomes stay as they are."""
    from dhrd_bench import plugins
    from dhrd_bench.grid.migrate import migrate as migrate_records

    for folder in include or []:
        plugins.include(folder)
    counts: Counter[str] = Counter()
    for migration in migrate_records(results, write=not dry_run):
        counts[migration.state] += 1
        if migration.reason:
            typer.echo(shown(f"{migration.path}: left as it is: {migration.reason}"))
    verb = "to be migrated" if dry_run else "migrated"
    typer.echo(f"{counts['migrated']} {verb}, {counts['current']} current, {counts['changed']} left as they are.")
    raise typer.Exit(int(bool(counts["changed"] or counts["unreadable"])))


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option(help="File to write instead of the terminal.")] = None,
) -> None:
    """Print the JSON schema of cell records and throughput records."""
    from dhrd_bench.results.store import write_text_atomically

    text = json.dumps(record_schema(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_text_atomically(output, text)


def record_schema() -> dict[str, Any]:
    """Return the JSON schema of what lies in a results folder."""
    from pydantic import TypeAdapter

    from dhrd_bench.results.schema import CellRecord
    from dhrd_bench.results.timed import ThroughputRecord

    _, document = TypeAdapter.json_schemas(
        [("cell", "validation", TypeAdapter(CellRecord)), ("throughput", "validation", TypeAdapter(ThroughputRecord))],
        title="dhrd-bench records",
    )
    return document | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "anyOf": [{"$ref": "#/$defs/CellRecord"}, {"$ref": "#/$defs/ThroughputRecord"}],
    }
