"""``dhrd-bench results``: migrate, schema."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Bring records up to date; print the schema they keep to.")


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
            typer.echo(f"{migration.path}: left as it is: {migration.reason}")
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
