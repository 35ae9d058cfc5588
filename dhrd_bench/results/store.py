"""Records on disk: one JSON a cell, written atomically."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from dhrd_bench.errors import UserError, first_misfit, shown
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.results.schema import SCHEMA_VERSION, Cell, CellRecord, IdentityParts
from dhrd_bench.untrusted import leads_out, parse_json

NAME_LIMIT = 240
"""Bytes of a folder's name: file systems take 255, some a few less."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


LEADS_OUT = "is a link that leads out of its folder"


@dataclass(frozen=True)
class Problem:
    """A file under the results folder that could not be read as a record."""

    path: Path
    reason: str


def record_path(root: Path, cell: Cell) -> Path:
    """Return where the record of `cell` lives below `root`."""
    parts = (cell.suite, cell.backbone, cell.budget, cell.method, cell.task)
    folder = root.joinpath(*(part.replace("/", "--").replace("..", "--") for part in parts))
    return folder / f"seed-{cell.seed}.json"


def results_of(path: Path) -> Path:
    """Return the folder of results that a record at its place lies in."""
    return Path(*path.resolve().parts[: -len(Cell.model_fields)])


def superseded_path(path: Path, identity: str) -> Path:
    """Return where a record of another identity is kept beside the current one of its cell at `path`."""
    return path.with_name(f"{path.stem}.{identity[:12]}.json")


def broken_path(path: Path) -> Path:
    """Return where what lies at `path` and is no record is kept when its cell is run again."""
    return path.with_suffix(".broken.json")


def write_text_atomically(path: Path, text: str, *, below: Path | None = None) -> None:
    """Write `text` to `path` as `write_bytes_atomically` does."""
    write_bytes_atomically(path, text.encode("utf-8"), below=below)


def write_bytes_atomically(path: Path, content: bytes, *, below: Path | None = None) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises
    ------
    UserError
        If the folder cannot be written to, or a link on the way leads out of the folder `below` which it has to be.
    """
    if below is not None and leads_out(path, below):
        raise UserError(f"{path} {LEADS_OUT}.", "Remove the link, or name the folder where it leads to.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        cure = "Make room, or choose another folder." if error.errno in _FULL else "Choose another folder."
        raise UserError(f"Cannot write {path}: {error.strerror or error}.", cure) from error


def write_record(root: Path, record: CellRecord) -> Path:
    """Write `record` below `root`; an older record of the same cell but another identity is kept beside it.

    So is a file that is no record. Whatever goes wrong, what was at the record's place is there or beside it.
    """
    path = record_path(root, record.cell)
    if path.exists() and not leads_out(path, root):
        try:
            old = read_record(path)
        except ValueError:
            with suppress(FileNotFoundError):  # another run has put it aside
                path.replace(broken_path(path))
        else:
            if old.identity != record.identity and old.status == "ok":
                # A copy: on a full disk the old one is to stay where it is.
                old_text = path.read_text(encoding="utf-8")
                write_text_atomically(superseded_path(path, old.identity), old_text, below=root)
    write_text_atomically(path, text_of(record), below=root)
    return path


def text_of(record: CellRecord) -> str:
    """Return what the file of `record` holds."""
    return with_checksum(record.model_dump_json(exclude_none=True))


def read_record(path: Path) -> CellRecord:
    """Read and validate one record.

    Raises
    ------
    ValueError
        If the file is no record of this schema's major version, or not as it was written; the message says what is
        wrong.
    """
    try:
        return parse_record(without_checksum(read_regular(path)))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def parse_record(content: bytes) -> CellRecord:
    """Return the record that the JSON `content` is, without a checksum.

    Raises
    ------
    ValueError
        As `read_record` has it.
    """
    try:
        record = validated(CellRecord, content, SCHEMA_VERSION)
    except ValidationError as error:
        raise ValueError(str(first_misfit(error))) from error
    if record.schema_version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise ValueError(f"schema version {record.schema_version}; this release reads {SCHEMA_VERSION}")
    if record.checksum is not None:  # where it is not the last key, as the run had written it
        raise ValueError("edited: its checksum stands elsewhere than where it was written")
    return record


def read_below(root: Path, path: Path) -> CellRecord:
    """Read a record that lies in the folder `root`, and no file to which a link leads out of it.

    Raises
    ------
    ValueError
        If it does, or is no record.
    """
    if leads_out(path, root):
        raise ValueError(LEADS_OUT)
    return read_record(path)


def read_regular(path: Path) -> bytes:
    """Return the content of a file; what is none, as a named pipe, is not waited for.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return path.read_bytes()


R = TypeVar("R", bound=BaseModel)


def validated(model: type[R], content: bytes, version: str) -> R:
    """Validate a record of `model`; what another minor version of its schema has added to it is left out.

    Raises
    ------
    ValidationError
        If there is anything else wrong with it.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        unknown = [each["loc"] for each in error.errors() if each["type"] == "extra_forbidden"]
        if not unknown:
            raise
        raw = parse_json(content)
        if str(raw.get("schema_version")).partition(".")[0] != version.partition(".")[0]:
            raise
        try:
            for *way, key in unknown:
                reduce(lambda inner, step: inner[step], way, raw).pop(key)
        except LookupError:  # no such key in the file: the model shows control characters in another form
            raise error from None
    return model.model_validate_json(json.dumps(raw))


def check_names(cell: Cell) -> None:
    """Refuse a cell whose record could not be written, as a folder cannot have so long a name.

    Raises
    ------
    UserError
        With the part of the name that is too long.
    """
    for what, name in cell:
        if isinstance(name, str) and len(name.encode()) > NAME_LIMIT:
            message = f"The name of the {what} is too long for a folder ({len(name)} characters): {name[:60]}..."
            raise UserError(message, f"Give it fewer settings, or a card of its own; {NAME_LIMIT} bytes are possible.")


def find(root: Path, cell: Cell, identity: str) -> CellRecord | None:
    """Return the finished record of `cell` with this `identity`, if there is one."""
    path = record_path(root, cell)
    for candidate in (path, superseded_path(path, identity)):
        try:
            record = read_below(root, candidate)
        except ValueError:
            continue
        if record.identity == identity and record.status == "ok":
            return record
    return None


def keep_current(root: Path, record: CellRecord, parts: IdentityParts) -> None:
    """Make a record that is reused the current one of its cell, described by today's `parts`.

    It may have been put aside for another identity since; and hashes over its parts that tell which
    cells go into one table may be formed differently by now. Its identity and outcome stay as they are.
    """
    path = record_path(root, record.cell)
    try:
        current = read_record(path).identity == record.identity
    except ValueError:
        current = False
    if not current or record.parts != parts:
        write_record(root, record.model_copy(update={"parts": parts}))
        superseded_path(path, record.identity).unlink(missing_ok=True)


def read_records(root: Path, suite: str | None = None) -> tuple[list[CellRecord], list[Problem]]:
    """Read every current record below `root`.

    Superseded records (``seed-N.<identity>.json``) are left out, and all but one of several of a cell; see
    `read_noted`. A file that cannot be read is returned as a `Problem`; the others are still read.
    """
    records, problems, _ = read_noted(root, suite)
    return records, problems


def read_noted(root: Path, suite: str | None = None) -> tuple[list[CellRecord], list[Problem], list[str]]:
    """Read as `read_records` does, and say where a cell has several records: a copied folder holds such.

    The one at the cell's own place counts, or else the one that was finished last.
    """
    if not root.is_dir():
        raise UserError(f"No results folder at {root}.", "Run a benchmark first, or name the folder with --results.")
    by_cell: defaultdict[Path, list[tuple[Path, CellRecord]]] = defaultdict(list)
    problems: list[Problem] = []
    for path in _record_files(root, suite):
        try:
            record = read_below(root, path)
        except ValueError as error:
            problems.append(Problem(path, str(error)))
        else:
            by_cell[record_path(root, record.cell)].append((path, record))
    records: list[CellRecord] = []
    passed_over: list[Path] = []
    for place, found in by_cell.items():
        chosen = max(found, key=lambda pair: (pair[0] == place, pair[1].finished))
        records.append(chosen[1])
        passed_over += [path for path, record in found if record is not chosen[1]]
    if not passed_over:
        return records, problems, []
    note = shown(f"{len(passed_over)} records are passed over, as their cells have another: {passed_over[0]}")
    return records, problems, [note + (", ..." if len(passed_over) > 1 else "")]


def _record_files(root: Path, suite: str | None) -> Iterator[Path]:
    base = root / suite if suite else root
    for path in sorted(base.rglob("seed-*.json")):
        if path.stem.removeprefix("seed-").isdigit():
            yield path
