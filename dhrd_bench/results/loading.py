"""Records for who uses them: everything that a folder of results holds as one long table, or one cell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dhrd_bench.errors import UserError
from dhrd_bench.results.guests import introductions, seated
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import read_noted, read_record
from dhrd_bench.results.table import LongTable, long_table
from dhrd_bench.results.timed import read_timed
from dhrd_bench.results.tuned import kept_tuned
from dhrd_bench.results.verified import is_verified, read_verified


def load_results(path: Path | str) -> LongTable:
    """Read every record and every throughput run below the folder `path`.

    A file that cannot be read is in the table's ``problems``; the others are still read.

    Raises
    ------
    UserError
        If there is no such folder, it has records of which none can be read, or its verifications cannot be.
    """
    folder = Path(path)
    records, unread, notes = read_noted(folder)
    if not records and unread:
        first = f"{unread[0].path}: {unread[0].reason}"
        raise UserError(f"No record below {folder} can be read: {first}.", "Delete it and run its cell again.")
    timed, unread_runs = read_timed(folder)
    table = long_table(seated(records))
    searches, odd = kept_tuned(folder)
    entries = read_verified(folder)
    verified = frozenset(record.identity for record in records if is_verified(record, entries))
    return replace(
        table,
        timed=tuple(timed),
        problems=(*unread, *unread_runs),
        notes=(*notes, *odd, *introductions(records)),
        searches=tuple(searches),
        folder=folder,
        verified=verified,
    )


def read_cell(path: Path) -> CellRecord:
    """Read the record of a cell that went through.

    Raises
    ------
    UserError
        If the file is no record, or that of a failed cell.
    """
    try:
        record = read_record(path)
    except ValueError as error:
        raise UserError(f"{path} is no record: {error}.", "Name a file like results/.../seed-0.json.") from error
    if record.rows is None:
        raise UserError(f"{path} is the record of a failed cell: {record.error}.", "The run command tries it again.")
    return record
