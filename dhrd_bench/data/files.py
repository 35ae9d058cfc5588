"""Rows from what people keep them in: CSV, TSV, JSON, JSON lines, Parquet, and what the datasets library saves."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TextIO

from dhrd_bench.errors import UserError

if TYPE_CHECKING:
    from datasets import Features

Record = tuple[str, Mapping[str, Any]]
"""A raw row and the place (``file:line``) where it stands."""

TEXTS = (".jsonl", ".json", ".csv", ".tsv")
FORMATS = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".parquet")
"""How the name of a file of rows ends, in small or capital letters. A folder's has no such end."""

FOLDER_MARKS = ("dataset_info.json", "state.json")
SPLITS_MARK = "dataset_dict.json"
"""What `save_to_disk` of the datasets library leaves in the folder of a data set, and in that of several splits."""

BATCH = 1000
"""Rows of Parquet and of a saved data set that are in memory as Python objects at a time."""


def format_of(path: PurePath) -> str | None:
    """Return which of `FORMATS` the name of `path` has; "" for a name without an end, a folder's; else None."""
    name = path.name.lower()
    known = next((suffix for suffix in FORMATS if name.endswith(suffix) and name != suffix), None)
    return known if known or path.suffix else ""


def holds_rows(path: Path) -> bool:
    """Whether a file, or the folder of a saved data set, is at `path`."""
    return path.is_file() or all((path / mark).is_file() for mark in FOLDER_MARKS)


def in_any_format(path: Path) -> Path | None:
    """Return `path`, or what has its name in another format, if that is there.

    Raises
    ------
    UserError
        If several have.
    """
    if holds_rows(path):
        return path
    known = format_of(path) or ""
    stem = path.name[: len(path.name) - len(known)]
    found = [other for end in (*FORMATS, "") if holds_rows(other := path.with_name(stem + end))]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1].name} could both be meant.", "Leave one of them there.")
    return found[0] if found else None


def saved_splits(path: Path) -> list[str]:
    """Return the names of the splits that `save_to_disk` has written into the folder `path`; none for one data set."""
    try:
        return [str(name) for name in json.loads((path / SPLITS_MARK).read_text(encoding="utf-8"))["splits"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a file in one of `FORMATS`, or of a data set's folder, each with its place.

    Raises
    ------
    UserError
        At a row that cannot be read, with file and line.
    """
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet, "": _saved}
    kind = "" if path.is_dir() else format_of(path)
    if kind is None:
        known = f"Known: {', '.join(FORMATS)}, and a folder that save_to_disk of the datasets library wrote."
        raise UserError(f"{path} has no known format.", known)
    try:
        yield from readers[kind.removesuffix(".gz")](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}).", "Save it as UTF-8.") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}.", "Compress or download it anew.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error


def _open(path: Path) -> TextIO:
    """Open a text, compressed or not; the mark with which spreadsheets begin it is passed over."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


# ---------------------------------------------------------------- texts


def _jsonl(path: Path) -> Iterator[Record]:
    with _open(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                place = f"{path}:{number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(
                        f"{place}: not JSON: {error.msg} at column {error.colno}.", "One object a line."
                    ) from error
                yield place, _object(row, place)


def _json(path: Path) -> Iterator[Record]:
    try:
        with _open(path) as stream:
            rows = json.load(stream)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}.") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}:1: not a list of rows.", "Write a JSON list of objects, or JSON lines (.jsonl).")
    for number, row in enumerate(rows, 1):
        place = f"{path}: item {number}"
        yield place, _object(row, place)


def _object(row: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{place}: not an object but {type(row).__name__}.", "Each row is an object of named fields.")
    return row


def _csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)  # a cell may be a whole document; the module's own limit is 128 KiB
    delimiter = "\t" if (format_of(path) or "").startswith(".tsv") else _delimiter(path)
    with _open(path) as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise UserError(f"{path}:1: two columns have the same name.", "Rename one of them.")
            line = reader.line_num + 1
            for cells in reader:
                place, line = f"{path}:{line}", reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    message = f"{place}: {len(cells)} cells where the header has {len(header)}."
                    raise UserError(message, "Put cells that hold a comma or a line break in double quotes.")
                yield place, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: not CSV: {error}.") from error


def _delimiter(path: Path) -> str:
    """Return what separates the cells: the comma, or what separates a header that has none.

    Spreadsheets write semicolons where the comma is the decimal mark.
    """
    with _open(path) as stream:
        header = stream.readline()
    return next((mark for mark in ",;\t" if len(next(csv.reader([header], delimiter=mark), [])) > 1), ",")


# ---------------------------------------------------------------- Parquet and saved data sets


def _parquet(path: Path) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            features = None
            if b"huggingface" in (file.schema_arrow.metadata or {}):
                from datasets import Features

                features = Features.from_arrow_schema(file.schema_arrow)
            rows = (row for batch in file.iter_batches(BATCH) for row in batch.to_pylist())
            yield from _numbered(rows, features, str(path))
    except ArrowException as error:
        raise UserError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0].rstrip('.')}.") from error


def _saved(path: Path) -> Iterator[Record]:
    if splits := saved_splits(path):
        raise UserError(f"{path} holds several splits: {', '.join(splits)}.", f"Name one, as in {path / splits[0]}.")
    if not holds_rows(path):
        raise UserError(
            f"{path} is no data set.", "Name a file, or a folder that save_to_disk of the datasets library wrote."
        )
    from datasets import load_from_disk

    try:
        data = load_from_disk(str(path))
        # As Arrow tables, so that images and sounds in columns that nobody asked for stay undecoded.
        rows = (row for table in data.with_format("arrow").iter(BATCH) for row in table.to_pylist())
        yield from _numbered(rows, data.features, str(path))
    except (ValueError, KeyError, TypeError) as error:  # Arrow's errors are ValueErrors
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a saved data set: {reason}.") from error


def _numbered(rows: Iterable[Mapping[str, Any]], features: Features | None, name: str) -> Iterator[Record]:
    for number, row in enumerate(with_class_names(rows, features), 1):
        yield f"{name}: row {number}", row


def with_class_names(rows: Iterable[Mapping[str, Any]], features: Features | None) -> Iterator[Mapping[str, Any]]:
    """Yield `rows` with the names of their classes where `features` of the datasets library have numbers for them."""
    if features is None:
        yield from rows
        return
    from datasets import ClassLabel

    classes = {column: kind.names for column, kind in features.items() if isinstance(kind, ClassLabel)}
    for row in rows:
        named = {
            column: names[row[column]] if row[column] is not None and row[column] >= 0 else None
            for column, names in classes.items()
        }
        yield {**row, **named}
