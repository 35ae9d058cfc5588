"""``dhrd-bench results``: predictions, migrate, schema."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from dhrd_bench.errors import shown

app = typer.Typer(
    no_args_is_help=True, help="Take predictions out of records; bring records up to date; print their schema."
)


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
