"""Where raw rows come from: a data folder, the suite's own folder, the hub."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dhrd_bench.data.cards import FilesCard, HubCard, SuiteCard
from dhrd_bench.errors import UserError

Record = tuple[str, Mapping[str, Any]]
"""A raw row and the place (``file:line``) where it stands."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which source was used; `revision` is the hub's."""

    kind: Literal["data-dir", "embedded", "hub"]
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A source with the records of its splits: ``train`` and ``test``, or ``all``."""

    source: Source
    splits: dict[str, Iterable[Record]]


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder of the user's.

    Attributes
    ----------
    path
        Where it is.
    named
        Whether it was named for this run, and not by the environment for every run.
    alone
        Whether one task only is read from it, whose files may then lie in it without a folder of their own.
    """

    path: Path
    named: bool = True
    alone: bool = False


def find(suite: SuiteCard, task: str, folder: Path, data: DataFolder | None) -> Found:
    """Find the rows of `task`.

    The order is: `data`, the suite's own `folder`, the hub. In `data` are looked at: the release's folder, a folder
    of the suite's name, the folder itself (``BoolQ/train.jsonl``), and for a task by itself the files without
    their folder (``train.jsonl``). A folder that was named is read or refused, never passed over; one that the
    environment names for every suite is read for a suite with files of its own under the suite's name only.

    Raises
    ------
    UserError
        If there are none, with both ways to get them.
    """
    definition = suite.tasks[task]
    files, hub = definition.files, definition.hub
    own = files and _files(folder, files)
    if data is not None:
        if not data.path.is_dir():
            raise UserError(
                f"No data folder at {data.path}.", "Name an existing folder with --data-dir or DHRD_DATA_DIR."
            )
        if files and (found := _in_data_folder(suite, task, files, data, embedded=bool(own))):
            return Found(Source("data-dir"), found)
        if data.named or (files and not own):
            wanted = files and (files.train or files.all)
            hint = f"Name the folder that holds {wanted}, or leave it out." if wanted else "Leave it out."
            raise UserError(f"No files of task {task!r} of {suite.name!r} in {data.path}.", hint)
    if own:
        return Found(Source("embedded"), own)
    if hub and hub.path:
        return Found(Source("hub", hub.revision or ""), _hub(hub, suite, task))
    raise UserError(f"No rows for task {task!r} of {suite.name!r}.", _ways(suite, task))


def _in_data_folder(
    suite: SuiteCard, task: str, files: FilesCard, data: DataFolder, *, embedded: bool
) -> dict[str, Iterable[Record]] | None:
    bases = [data.path / name for name in (suite.release, suite.name) if name]
    if data.named or not embedded:
        bases.append(data.path)
    for base in bases:
        if found := _files(base, files):
            return found
    if not data.named or not (data.alone or data.path.name.casefold() == task.casefold()):
        return None
    bare = {name: PurePosixPath(path).name for name, path in files if path}
    return _files(data.path, FilesCard(**bare)) if len(set(bare.values())) == len(bare) else None


def _ways(suite: SuiteCard, task: str) -> str:
    definition = suite.tasks[task]
    ways = []
    if definition.files:
        wanted = definition.files.train or definition.files.all
        ways.append(f"unpack the release and name the folder that holds {wanted} with --data-dir or DHRD_DATA_DIR")
    if definition.hub and definition.hub.path:
        ways.append(f"let the data set {definition.hub.path} be downloaded from the Hugging Face hub (needs a network)")
    text = ", or ".join(ways)
    return f"{text[:1].upper()}{text[1:]}."


def _files(base: Path, files: FilesCard) -> dict[str, Iterable[Record]] | None:
    """Return the records of the files below `base`; None if there are none of them."""
    paths = {name: base / path for name, path in files if path}
    absent = [path for path in paths.values() if not path.is_file()]
    if len(absent) == len(paths):
        return None
    if absent:
        raise UserError(f"{absent[0]} is missing, though the task's other file is there.", "Complete the folder.")
    return {name: read_records(path) for name, path in paths.items()}


def _hub(card: HubCard, suite: SuiteCard, task: str) -> dict[str, Iterable[Record]]:
    from datasets import ClassLabel, load_dataset

    splits: dict[str, Iterable[Record]] = {}
    for name in ("train", "test", "all"):
        split = getattr(card, name)
        if split is None:
            continue
        try:
            with _quiet("huggingface_hub"):  # its retries are told line by line; the error below says it all
                data = load_dataset(card.path, card.config, split=split, revision=card.revision)
        except Exception as error:  # the hub client raises dozens of kinds; all mean the same to the user
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            where = f"{card.path} ({card.config or 'default'}, {split})"
            message = f"Cannot read task {task!r} of {suite.name!r} from the hub, {where}: {reason}"
            raise UserError(f"{message.rstrip('.')}.", _ways(suite, task)) from error
        classes = {column: kind.names for column, kind in data.features.items() if isinstance(kind, ClassLabel)}
        splits[name] = _hub_records(data, classes, f"{card.path} {card.config or 'default'} {split}")
    return splits


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _hub_records(data: Iterable[Mapping[str, Any]], classes: Mapping[str, list[str]], name: str) -> Iterator[Record]:
    for number, row in enumerate(data):
        named = {
            column: names[row[column]] if row[column] is not None and row[column] >= 0 else None
            for column, names in classes.items()
        }
        yield f"{name} row {number}", {**row, **named}


# ---------------------------------------------------------------- files


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a JSON-lines, JSON, CSV or TSV file, each with its place.

    Raises
    ------
    UserError
        At a row that cannot be read, with file and line.
    """
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv}
    try:
        yield from readers[path.suffix](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}).", "Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error


def _jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as stream:
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
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
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
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
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
