"""A frozen study: what decides its outcome, written down before any of its cells was scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, first_misfit
from dhrd_bench.results.checksum import parted, with_checksum
from dhrd_bench.results.schema import Cell, Revision
from dhrd_bench.results.store import read_regular, write_text_atomically
from dhrd_bench.stats.design import Group

SCHEMA_VERSION = "1.0.0"
MOST_CHANGES = 5
"""Changes that a message names."""


class Comparison(Card):
    """A contrast at one place, in the names of records.

    Attributes
    ----------
    suite, backbone, budget
        The place.
    method, baseline, tasks
        What is compared, over which tasks.
    point
        Where on the study's curve, if it has one.
    """

    suite: str
    backbone: str
    budget: str
    method: str
    baseline: str
    tasks: tuple[str, ...] = Field(min_length=1)
    point: float | None = None

    @property
    def group(self) -> Group:
        """The place."""
        return Group(self.suite, self.backbone, self.budget)


class FrozenCell(Card):
    """A cell and its identity.

    Cells of several budgets share an identity where these differ in what a method is not given.
    """

    cell: Cell
    identity: str = Field(pattern=r"^[\w-]+$")  # it is a part of a file's name

    @property
    def key(self) -> tuple[str, ...]:
        """What no other cell has."""
        return (self.identity, *map(str, self.cell.model_dump().values()))


class Amendment(Card):
    """A change of the plan after it had been frozen."""

    time: str
    why: str
    changed: tuple[str, ...]


class Frozen(Card):
    """What `Study` comes to with everything said.

    Attributes
    ----------
    study
        Its name: that of its file.
    content
        What the file says.
    made_of
        What else decides the outcome, by what it is: code of methods, fingerprints of data, versions, settings.
    looks
        Numbers of seeds at which one looks; a single one if the study has no sequential test.
    seeds
        In the order in which they are run; those of a look are the first ones. Empty without a sequential test.
    primary, secondary
        The contrasts, place by place.
    cells
        All that may be run.
    time, commit
        When it was frozen, and the checkout of the harness; empty for a plan that is not frozen.
    amendments
        What was changed afterwards.
    """

    schema_version: str = SCHEMA_VERSION
    study: str
    content: dict[str, Any]
    made_of: dict[str, str]
    looks: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = ()
    primary: tuple[Comparison, ...]
    secondary: tuple[Comparison, ...]
    cells: tuple[FrozenCell, ...]
    time: str = ""
    commit: Revision | None = None
    amendments: tuple[Amendment, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Frozen:
        if len(self.looks) > 1 and self.looks[-1] != len(self.seeds):
            raise ValueError("its last look is not at all its seeds")
        there = {(group_of(each.cell), each.cell.method, each.cell.task) for each in self.stage(self.looks[0])}
        for each in (*self.primary, *self.secondary):
            names = (each.method, each.baseline)
            if names[0] == names[1] or any((each.group, n, task) not in there for n in names for task in each.tasks):
                raise ValueError(f"it has no cells of {each.method} and {each.baseline} that could be compared")
        return self

    def stage(self, look: int) -> tuple[FrozenCell, ...]:
        """Return the cells that are to be there at a look."""
        if len(self.looks) == 1:
            return self.cells
        return tuple(each for each in self.cells if each.cell.seed in self.seeds[:look])

    def changes(self, now: Frozen) -> list[str]:
        """Name what is not as it was frozen in the plan of `now`."""
        changed = [f"{place}: {there}, not {here}" for place, here, there in _differing(self.content, now.content)]
        changed += [f"{place}: {there}, not {here}" for place, here, there in _differing(self.made_of, now.made_of)]
        here, there = ({each.key: each.cell for each in frozen.cells} for frozen in (self, now))
        if other := [cell for key, cell in there.items() if key not in here]:
            first = f"{other[0].task} seed {other[0].seed} {other[0].method}"
            changed.append(f"{len(other)} cells are others, as {first}")
        if gone := [cell for key, cell in here.items() if key not in there]:
            changed.append(f"{len(gone)} of {len(here)} cells are not planned any more")
        return changed


def group_of(cell: Cell) -> Group:
    """Return the place of a cell."""
    return Group(cell.suite, cell.backbone, cell.budget)


def frozen_path(study: Path) -> Path:
    """Return where the study of the file `study` is frozen: beside it."""
    return study.with_name(f"{study.stem}.frozen.json")


def shortened(changes: list[str]) -> str:
    """Return the first of `changes` in one sentence."""
    more = len(changes) - MOST_CHANGES
    return "; ".join(changes[:MOST_CHANGES]) + (f"; and {more} more" if more > 0 else "")


def write_frozen(frozen: Frozen, path: Path) -> None:
    """Write `frozen` to `path`, with a checksum."""
    write_text_atomically(path, with_checksum(json.dumps(frozen.model_dump(mode="json"), indent=1, ensure_ascii=False)))


def read_frozen(path: Path) -> Frozen:
    """Read what `write_frozen` wrote.

    Raises
    ------
    UserError
        If there is no such file, or it was changed since.
    """
    cure = "Restore it, from version control as it may be, or freeze the study under another name."
    try:
        content, fits = parted(read_regular(path))
        if not fits:
            raise UserError(f"{path} is not as it was written: its checksum is that of another content.", cure)
        return Frozen.model_validate_json(content)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.", "Freeze the study first.") from error
    except ValidationError as error:
        raise UserError(f"{path} is no frozen study: {first_misfit(error)}.", cure) from error


def before(time: str, other: str) -> bool:
    """Whether one time is before another; a time that cannot be read is."""
    try:
        return datetime.fromisoformat(time) < datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return True


def _differing(here: Any, there: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the places at which two documents differ, with what either has there."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in dict.fromkeys([*here, *there]):
            inner = f"{place}.{key}" if place else str(key)
            yield from _differing(here.get(key, _NOTHING), there.get(key, _NOTHING), inner)
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, (one, other) in enumerate(zip(here, there, strict=True), 1):
            yield from _differing(one, other, f"{place} {number}")
    elif here != there:
        yield place, here, there


_NOTHING = "nothing"
