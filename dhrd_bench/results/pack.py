"""Records of several machines brought together: packed into one file, and merged into a folder."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from dhrd_bench.errors import UserError
from dhrd_bench.results.check import record_files
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import (
    find,
    read_record,
    read_regular,
    record_path,
    superseded_path,
    write_text_atomically,
)
from dhrd_bench.results.timed import read_timed, timed_path

LARGEST, ALL_TOGETHER, MOST = 64 << 20, 4 << 30, 200_000
"""Bytes of a file in an archive, bytes of all of them, and how many: more is none of our archives."""


def pack(results: Path, output: Path, extra: Mapping[str, str] | None = None) -> int:
    """Write the records below `results`, throughput records too, into the archive `output`.

    Texts that methods wrote stay out of it: they may quote a suite that may not be passed on. The same records make
    the same archive, to the byte.

    Parameters
    ----------
    results
        Folder of the records.
    output
        A file that ends in ``.tar.gz``, ``.tgz`` or ``.zip``.
    extra
        Further files by name, with their texts.

    Returns
    -------
    int
        How many files of records were packed.

    Raises
    ------
    UserError
        If there are no records, the file has another ending, or it cannot be written.
    """
    if not output.name.endswith((".tar.gz", ".tgz", ".zip")):
        raise UserError(f"{output} is no kind of archive.", "Name a file that ends in .tar.gz or .zip.")
    files = [*record_files([results]), *results.rglob("throughput/*/*.json")]
    if not files:
        raise UserError(f"There are no records below {results}.", "Name the folder that a run wrote to.")
    contents = {path.relative_to(results).as_posix(): read_regular(path) for path in sorted(files)}
    contents |= {name: text.encode() for name, text in (extra or {}).items()}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(_zip(contents) if output.suffix == ".zip" else _tar(contents))
    except OSError as error:
        raise UserError(f"Cannot write {output}: {error.strerror or error}.", "Choose another file.") from error
    return len(files)


def _tar(contents: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


def _zip(contents: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


# ---------------------------------------------------------------- unpacking


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """Lend the folder that `source` is, or what its archive holds as a folder for the while.

    Raises
    ------
    UserError
        If it is neither, or the archive holds a link, a device, a name that leads out of it, or too much.
    """
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            if zipfile.is_zipfile(source):
                _unzip(source, Path(folder))
            else:
                _untar(source, Path(folder))
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            message = f"{source} is neither a folder of records nor an archive of them: {reason}."
            raise UserError(message, "Name what `records pack` wrote.") from error
        yield Path(folder)


def _untar(source: Path, folder: Path) -> None:
    with tarfile.open(source) as archive:
        size = 0
        for number, member in enumerate(archive):
            size += member.size
            _admit(source, member.name, member.size, size, number, plain=member.isreg() or member.isdir())
            if member.isreg():
                archive.extract(member, folder, filter="data")


def _unzip(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        size = 0
        for number, member in enumerate(archive.infolist()):
            size += member.file_size
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            _admit(source, member.filename, member.file_size, size, number, plain=plain)
            if not member.is_dir():
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))  # reads no more than it was said to hold


def _admit(source: Path, name: str, size: int, together: int, number: int, *, plain: bool) -> None:
    """Refuse a member of an archive that no archive of records has."""
    path = PurePosixPath(name.replace("\\", "/"))
    reason = None
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        reason = "leads out of the archive"
    elif not plain:
        reason = "is a link or a device"
    elif size > LARGEST or together > ALL_TOGETHER or number >= MOST:
        reason = f"is too much: files may have {LARGEST >> 20} MiB, all together {ALL_TOGETHER >> 30} GiB"
    if reason:
        raise UserError(f"{source}: {name!r} {reason}.", "Nothing of it was taken over; ask whoever made it.")


# ---------------------------------------------------------------- merging


@dataclass(frozen=True)
class Merged:
    """What became of one file.

    Attributes
    ----------
    state
        ``added``; ``same``: it was there; ``beside``: its cell has a record of another identity, which stays the
        current one; ``left``: it is of a failed cell that has a record; ``conflict``: the same identity with another
        content; ``unreadable``.
    path
        The file, in its source.
    reason
        What there is to say of it.
    """

    state: Literal["added", "same", "beside", "left", "conflict", "unreadable"]
    path: Path
    reason: str = ""


def merge(source: Path, results: Path, *, replace: bool = False) -> Iterator[Merged]:
    """Bring the records of `source`, a folder, into the folder `results`.

    A record is put where it belongs, wherever it lay. Of two with one identity the one in `results` stays, unless
    `replace`; a failed cell gives way to one that went through.
    """
    # The current record of a cell goes before those that it took the place of.
    for path in sorted(record_files([source]), key=lambda path: not path.stem.removeprefix("seed-").isdigit()):
        shown = path.relative_to(source)
        try:
            record, content = read_record(path), read_regular(path).decode()
        except (ValueError, OSError) as error:
            yield Merged("unreadable", shown, str(error))
            continue
        yield _merge_record(shown, record, content, results, replace=replace)
    timed, unread = read_timed(source)
    for problem in unread:
        yield Merged("unreadable", problem.path.relative_to(source), problem.reason)
    for run in timed:
        target = timed_path(results, run)
        content = run.model_dump_json(indent=1) + "\n"
        shown = timed_path(Path(), run)
        if not target.exists():
            write_text_atomically(target, content)
            yield Merged("added", shown)
        elif target.read_text(encoding="utf-8") == content:
            yield Merged("same", shown)
        else:
            yield _conflict(shown, target, content, "it is another throughput run", replace=replace)


def _merge_record(shown: Path, record: CellRecord, content: str, results: Path, *, replace: bool) -> Merged:
    current = record_path(results, record.cell)
    there = None
    if current.exists():
        try:
            there = read_record(current)
        except ValueError as error:
            return _conflict(shown, current, content, f"what is here is no record ({error})", replace=replace)
    if there is None or (there.status == "failed" and record.status == "ok"):
        write_text_atomically(current, content)
        return Merged("added", shown)
    if there == record:
        return Merged("same", shown)
    if record.status == "failed":
        return Merged("left", shown, "its cell failed there")
    beside = superseded_path(current, record.identity)
    known = there if there.identity == record.identity else find(results, record.cell, record.identity)
    if known is None:
        write_text_atomically(beside, content)
        return Merged("beside", shown, f"its cell has another record here, which stays; it is {beside.name} now")
    if known == record:
        return Merged("same", shown)
    target = current if known is there else beside
    return _conflict(shown, target, content, _difference(known, record), replace=replace)


def _conflict(shown: Path, target: Path, content: str, what: str, *, replace: bool) -> Merged:
    if replace:
        write_text_atomically(target, content)
    return Merged("conflict", shown, f"{what}; {'it took the place of' if replace else 'kept'} {target}")


def _difference(here: CellRecord, there: CellRecord) -> str:
    """Say how two records of one identity differ."""
    assert here.rows is not None
    assert there.rows is not None
    if here.rows.id != there.rows.id:
        return "the two were tested on different rows"
    flips = sum(a != b for a, b in zip(here.rows.prediction, there.rows.prediction, strict=True))
    if flips:
        return f"{flips} of {len(here.rows.id)} predictions differ"
    return "the predictions are the same, other fields differ"
