"""Foreign records beside our own: they stand in every table that has their rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from dhrd_bench.cards import Reference
from dhrd_bench.results.schema import CellRecord, Foreign

Table = tuple[str, str, str]
"""Suite, backbone and budget."""


def seated(records: Sequence[CellRecord]) -> list[CellRecord]:
    """Return `records` with each foreign one in all tables whose rows of its task are its own.

    Where there is no such table, foreign records have one of themselves.
    """
    tables: defaultdict[Table, list[CellRecord]] = defaultdict(list)
    for record in records:
        if record.foreign is None:
            tables[record.cell.suite, record.cell.backbone, record.cell.budget].append(record)
    out = [record for record in records if record.foreign is None]
    for record in records:
        if record.foreign is not None:
            out += list(_seats(record, tables)) or [record]
    return out


def _seats(guest: CellRecord, tables: dict[Table, list[CellRecord]]) -> Iterator[CellRecord]:
    task = guest.parts.task
    for (suite, backbone, budget), own in tables.items():
        hosts = [
            record for record in own
            if record.cell.task == guest.cell.task and record.parts.task.fingerprint == task.fingerprint
        ]  # fmt: skip
        if not hosts or Reference.parse(suite).name != Reference.parse(guest.cell.suite).name:
            continue
        versions = {
            "version": Counter(record.parts.version for record in own).most_common(1)[0][0],
            "data_version": Counter(record.parts.data_version for record in hosts).most_common(1)[0][0],
        }
        cell = {"suite": suite, "backbone": backbone, "budget": budget}
        yield guest.model_copy(
            update={
                "cell": guest.cell.model_copy(update=cell),
                "parts": guest.parts.model_copy(update=versions),
                "task": hosts[0].task,
            }
        )


def introductions(records: Sequence[CellRecord]) -> list[str]:
    """Say of each foreign method what it is."""
    said = {record.cell.method: _introduced(record.foreign) for record in records if record.foreign is not None}
    return [f"{method} is foreign: {about}" for method, about in said.items()]


def _introduced(foreign: Foreign) -> str:
    run_by = f"run by {foreign.tool} {foreign.version}".rstrip()
    return f"{foreign.model or 'a model that its log does not name'}, {run_by}"
