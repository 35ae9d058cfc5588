"""Where raw rows come from: a data folder, the suite's own folder, the hub, a generator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from dhrd_bench.data.cards import FilesCard, HubCard, SuiteCard
from dhrd_bench.data.files import Record, holds_rows, in_any_format, read_records, with_class_names
from dhrd_bench.data.generated import generate
from dhrd_bench.errors import UserError
from dhrd_bench.untrusted import leads_out

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class Source:
    """Which source was used; `revision` is the hub's."""

    kind: Literal["data-dir", "embedded", "hub", "generated"]
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A source with the records of its splits: ``train`` and ``test``, or ``all``."""

    source: Source
    splits: Mapping[str, Iterable[Record]]


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

    The order is: `data`, the suite's own `folder`, its generator, the hub. In `data` are looked at: the release's
    folder, a folder of the suite's name, the folder itself (``BoolQ/train.jsonl``), and for a task by itself the
    files without their folder (``train.jsonl``); a file may be there in another format (``train.csv``). A folder
    that was named is read or refused, never passed over; one that the environment names for every suite is read
    for a suite with files of its own under the suite's name only.

    Raises
    ------
    UserError
        If there are none, with both ways to get them.
    """
    definition = suite.tasks[task]
    files, hub = definition.files, definition.hub
    own = files and _files(folder, files, partial(_of_suite, folder))
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
    if definition.generated:
        return Found(Source("generated"), generate(definition.generated))
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
        if found := _files(base, files, in_any_format):
            return found
    if not data.named or not (data.alone or data.path.name.casefold() == task.casefold()):
        return None
    bare = {name: PurePosixPath(path).name for name, path in files if path}
    return _files(data.path, FilesCard(**bare), in_any_format) if len(set(bare.values())) == len(bare) else None


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


def _of_suite(folder: Path, path: Path) -> Path | None:
    """Return `path`, if it is there; a suite is a stranger's, and has no file that is not in its folder."""
    if not holds_rows(path):
        return None
    if leads_out(path, folder):
        raise UserError(f"{path} is a link that leads out of the suite's folder.", "Name that folder with --data-dir.")
    return path


def _files(base: Path, files: FilesCard, look: Callable[[Path], Path | None]) -> dict[str, Iterable[Record]] | None:
    """Return the records of the files that `look` finds below `base`; None if it finds none of them."""
    found = {name: look(base / path) for name, path in files if path}
    if not any(found.values()):
        return None
    for name, path in found.items():
        if path is None:
            absent = base / getattr(files, name)
            raise UserError(f"{absent} is missing, though the task's other file is there.", "Complete the folder.")
    return {name: read_records(path) for name, path in found.items() if path}


def _hub(card: HubCard, suite: SuiteCard, task: str) -> dict[str, Iterable[Record]]:
    from datasets import load_dataset

    assert card.path is not None
    if Path(card.path).exists():  # the library would read it, and not the hub
        raise UserError(f"{card.path} is on this machine, too: the hub's is not read.", "Run it in another folder.")
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
        splits[name] = _hub_records(data, f"{card.path} {card.config or 'default'} {split}")
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


def _hub_records(data: Dataset, name: str) -> Iterator[Record]:
    for number, row in enumerate(with_class_names(data, data.features)):
        yield f"{name} row {number}", row
