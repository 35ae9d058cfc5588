"""Which files a method is to be kept from: those that hold test labels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhrd_bench import plugins, registry
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError


class SealedFileError(Exception):
    """A method has opened, or tried to open, a file that holds test labels."""


@dataclass(frozen=True)
class Seal:
    """Files and folders that are closed, and open ones within them; for any path the nearest of both decides.

    All are absolute, without links.
    """

    closed: frozenset[Path]
    open: frozenset[Path]

    def closer(self, path: Path) -> Path | None:
        """Return what of `closed` closes `path`, which has no links in it; None if it is open."""
        for place in (path, *path.parents):
            if place in self.open:
                return None
            if place in self.closed:
                return place
        return None

    def readable(self, folder: Path = Path("/"), *, is_open: bool = True) -> Iterator[Path]:
        """Yield files and folders that are open as a whole and together hold all that is open below `folder`."""
        marked = [place for place in self.closed | self.open if folder in place.parents]
        if not marked:
            if is_open:
                yield folder
            return
        inside = {folder.joinpath(place.relative_to(folder).parts[0]) for place in marked}
        if is_open:
            with suppress(OSError), os.scandir(folder) as entries:  # a link is nothing by itself
                inside |= {Path(entry.path) for entry in entries if not entry.is_symlink()}
        for place in sorted(inside):
            yield from self.readable(place, is_open=place in self.open or (is_open and place not in self.closed))


def seal(folders: Iterable[Path], results: Path | None = None) -> Seal:
    """Return what is closed while a method works.

    Closed are `folders`, what ``DHRD_DATA_DIR`` names, the files of all suites that carry their rows, the copies that
    the hub's client keeps of data sets, and records, which hold the label of every test row. Within these, what the
    program itself consists of stays open, plug-ins and cache included.

    Parameters
    ----------
    folders
        Where data lie.
    results
        Folder of the records of this run.
    """
    named = os.environ.get("DHRD_DATA_DIR")
    closed = {
        *folders,
        *_rows_of_suites(),
        *_hub_copies(),
        plugins.PACKAGE / "reference",
        *([results] if results else []),
    }
    if (plugins.PACKAGE.parent / "baselines").is_dir():  # a checkout
        closed.add(plugins.PACKAGE.parent / "results")
    closed |= {Path(named)} if named else set()
    program = {*map(Path, filter(None, sys.path)), Path(sys.prefix), Path(sys.base_prefix), cache_folder()}
    program |= {plugins.PACKAGE, plugins.builtin_folder("baselines"), *plugins.state.folders.values()}
    sealed = frozenset(Path(os.path.realpath(place)) for place in closed)
    left: set[Path] = set()
    for place in {Path(os.path.realpath(each)) for each in program}:
        # A folder that is both is closed but for its Python files.
        left |= set(place.rglob("*.py")) if place in sealed else {place}
    return Seal(sealed, frozenset(left))


def _rows_of_suites() -> Iterator[Path]:
    for name in registry.suites.names():
        with suppress(UserError):  # a suite with a mistake in it is for whoever asks for it
            suite = Suite.named(name)
            for task in suite.card.tasks.values():
                yield from (suite.path.parent / file for _, file in task.files or () if file)


def _hub_copies() -> Iterator[Path]:
    from huggingface_hub import constants

    yield Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    yield from Path(constants.HF_HUB_CACHE).glob("datasets--*")


# ---------------------------------------------------------------- seen from inside Python


@dataclass
class _Watch:
    seal: Seal | None = None
    hooked: bool = False
    touched: str = ""


_watch = _Watch()


@contextmanager
def refusing(what: Seal) -> Iterator[None]:
    """Refuse what is closed to Python's own ``open`` while the block runs.

    An attempt is remembered: the block fails even if the error was swallowed. What opens a file without Python, as
    Arrow, a library in C or another program does, is not seen.

    Raises
    ------
    SealedFileError
        With the file.
    """
    if not _watch.hooked:
        sys.addaudithook(_audit)  # it stays for the life of the process
        _watch.hooked = True
    _watch.seal, _watch.touched = what, ""
    try:
        yield
    except Exception as error:
        if _watch.touched and not isinstance(error, SealedFileError):
            raise SealedFileError(_watch.touched) from error
        raise
    finally:
        _watch.seal = None
    if _watch.touched:
        raise SealedFileError(_watch.touched)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or _watch.seal is None or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    try:
        path = Path(os.path.realpath(os.fsdecode(arguments[0])))
    except (ValueError, OSError):  # no path at all: let open say so
        return
    place = _watch.seal.closer(path)
    if place is not None:
        # From the closed folder on: what a record says tells of no other folder of this machine.
        name = path.relative_to(place.parent) if path != place else Path(*path.parts[-2:])
        _watch.touched = f"it opens {name.as_posix()!r}, where test labels may be had"
        raise SealedFileError(_watch.touched)
