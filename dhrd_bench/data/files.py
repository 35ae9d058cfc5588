"""Rows from what people keep them in: CSV, TSV, JSON, JSON lines, Parquet, and what the datasets library saves."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TextIO

from dhrd_bench.errors import UserError
from dhrd_bench.untrusted import leads_out, parse_json

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

ROW_LIMIT = 64 * 2**20
"""Characters of a row. A compressed file may hold far more than it seems to."""
LIST_LIMIT = 512 * 2**20
"""Characters of a file that is one JSON list, which is in memory as a whole."""

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
        return [str(name) for name in parse_json((path / SPLITS_MARK).read_bytes())["splits"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []


Odd = Callable[[UserError], None]
"""Told of a line that is no row; it may raise the error."""


def _refuse(error: UserError) -> None:
    raise error


def read_records(path: Path, odd: Odd = _refuse) -> Iterator[Record]:
    """Yield the rows of a file in one of `FORMATS`, or of a data set's folder, each with its place.

    Parameters
    ----------
    path
        What to read.
    odd
        Told of a line of JSON lines or a line of CSV that is no row, after which the next one is read.

    Raises
    ------
    UserError
        If the file cannot be read any further, with file and line; unless `odd` says otherwise, at a line that is no
        row.
    """
    readers: dict[str, Callable[[Path], Iterator[Record]]] = {
        ".jsonl": partial(_jsonl, odd=odd), ".json": _json, ".csv": partial(_csv, odd=odd),
        ".tsv": partial(_csv, odd=odd), ".parquet": _parquet, "": _saved,
    }  # fmt: skip
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


def _jsonl(path: Path, odd: Odd) -> Iterator[Record]:
    with _open(path) as stream:
        for number, line in enumerate(_lines(stream, path), 1):
            if line.strip():
                place = f"{path}:{number}"
                try:
                    row = _object(_parsed(line, place), place)
                except UserError as error:
                    odd(error)
                    continue
                yield place, row


def _parsed(line: str, place: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {_reason(error)}.", "One object a line.") from error


def _json(path: Path) -> Iterator[Record]:
    try:
        with _open(path) as stream:
            text = stream.read(LIST_LIMIT + 1)
        if len(text) > LIST_LIMIT:
            raise UserError(f"{path} is too long to be read as a whole.", "Write JSON lines (.jsonl).")
        rows = parse_json(text)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise UserError(f"{path}:{line}: not JSON: {_reason(error)}.") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}:1: not a list of rows.", "Write a JSON list of objects, or JSON lines (.jsonl).")
    for number, row in enumerate(rows, 1):
        place = f"{path}: item {number}"
        yield place, _object(row, place)


def _lines(stream: TextIO, path: Path) -> Iterator[str]:
    number = 1
    while line := stream.readline(ROW_LIMIT + 1):
        if len(line) > ROW_LIMIT:
            raise UserError(f"{path}:{number}: the line has more than {ROW_LIMIT:,} characters.", "Is it one row?")
        yield line
        number += 1


def _reason(error: ValueError) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _object(row: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{place}: not an object but {type(row).__name__}.", "Each row is an object of named fields.")
    return row


def _csv(path: Path, odd: Odd) -> Iterator[Record]:
    csv.field_size_limit(ROW_LIMIT)  # a cell may be a whole document; the module's own limit is 128 KiB
    delimiter = "\t" if (format_of(path) or "").startswith(".tsv") else _delimiter(path)
    with _open(path) as stream:
        reader = csv.reader(_lines(stream, path), delimiter=delimiter, strict=True)
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
                    odd(UserError(message, "Put cells that hold a comma or a line break in double quotes."))
                    continue
                yield place, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: not CSV: {error}.") from error


def _delimiter(path: Path) -> str:
    """Return what separates the cells: the comma, or what separates a header that has none.

    Spreadsheets write semicolons where the comma is the decimal mark.
    """
    with _open(path) as stream:
        header = next(_lines(stream, path), "")
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
    except (ArrowException, ValueError, LookupError, TypeError, AttributeError) as error:  # of its metadata, too
        raise UserError(f"{path} cannot be read as Parquet: {_first_line(error)}.") from error


def _saved(path: Path) -> Iterator[Record]:
    if splits := saved_splits(path):
        raise UserError(f"{path} holds several splits: {', '.join(splits)}.", f"Name one, as in {path / splits[0]}.")
    if not holds_rows(path):
        raise UserError(
            f"{path} is no data set.", "Name a file, or a folder that save_to_disk of the datasets library wrote."
        )
    from datasets import load_from_disk

    if outside := next((each for each in path.rglob("*") if leads_out(each, path)), None):
        raise UserError(f"{outside} is a link that leads out of the data set.", "Put a copy of the file there.")
    try:
        state = parse_json((path / FOLDER_MARKS[1]).read_bytes())
        names = [part["filename"] for part in state["_data_files"]]
        if any(Path(name).name != name for name in names):
            raise ValueError(f"one of its files is not in its folder: {', '.join(names)}")
        data = load_from_disk(str(path))
        # As Arrow tables, so that images and sounds in columns that nobody asked for stay undecoded.
        rows = (row for table in data.with_format("arrow").iter(BATCH) for row in table.to_pylist())
        yield from _numbered(rows, data.features, str(path))
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # Arrow's errors are ValueErrors
        raise UserError(f"{path} cannot be read as a saved data set: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


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
