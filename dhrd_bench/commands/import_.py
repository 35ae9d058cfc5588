"""The ``import`` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dhrd_bench.importing.files import open_logs
from dhrd_bench.importing.logs import Wanted
from dhrd_bench.importing.record import records_of
from dhrd_bench.results.store import write_record


def import_command(
    places: Sequence[Path], wanted: Wanted, data_dir: Path | None, results: Path, console: Console
) -> int:
    """Write records of logs, and name what of the logs is not in them.

    Returns
    -------
    int
        0, or 1 if a sample has no row.
    """
    logs = open_logs(places, wanted)
    left = False
    for imported in records_of(logs, wanted, data_dir):
        record = imported.record
        path = write_record(results, record)
        assert record.rows is not None
        lines = [f"wrote {path}: {len(record.rows.id)} rows, score {record.score:.2f} ({imported.log.path})"]
        lines += [
            f"  {count} samples {why}, the first at {imported.first[why]}" for why, count in imported.left.items()
        ]
        if imported.absent:
            lines.append(f"  {imported.absent} test rows of the task are not in the log")
        if record.unparsable:
            lines.append(f"  {record.unparsable:.1%} of the answers name no class")
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        left |= bool(imported.left)
    return int(left)
