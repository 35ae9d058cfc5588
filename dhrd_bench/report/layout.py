"""What a report looks like before anything renders it: tables of text, in sections of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from dhrd_bench.stats.cascade import Frontier
from dhrd_bench.stats.pareto import Point

T = TypeVar("T")


@dataclass(frozen=True)
class TableCell:
    """What stands in one place of a table: a figure, its interval and whether it stands out."""

    main: str
    detail: str = ""
    strong: bool = False

    @property
    def line(self) -> str:
        """Figure and interval on one line."""
        return f"{self.main} {self.detail}".strip()


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    wraps
        Whether it holds sentences.
    help
        What its figures are, in a line; empty where the heading says it.
    spare
        Where there is no room for all columns, the one with the highest goes first; 0 for one that stays.
    """

    head: str
    align: Literal["left", "right"] = "right"
    wraps: bool = False
    help: str = ""
    spare: int = 0


@dataclass(frozen=True)
class Table:
    """A table and the sentences that belong under it.

    Attributes
    ----------
    detail
        Whether it is shown only where details are asked for.
    rule
        Row before which a line is drawn.
    points, frontiers
        What a page draws below it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    caption: tuple[str, ...] = ()
    detail: bool = False
    rule: int | None = None
    points: tuple[Point, ...] = ()
    frontiers: tuple[Frontier, ...] = ()

    def legend(self, columns: Iterable[int] | None = None) -> str:
        """Say what the figures of columns are, of all by default."""
        shown = [self.columns[at] for at in (range(len(self.columns)) if columns is None else columns)]
        return " ".join(f"{column.head}: {column.help}." for column in shown if column.help)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The legend and the caption: what stands under the table."""
        return tuple(filter(None, (self.legend(), *self.caption)))


Filled = tuple[Column, Callable[[T], TableCell]]
"""A column, and what fills it from what a row is about."""


def laid_out(
    title: str, columns: Sequence[Filled[T]], things: Iterable[T], caption: Sequence[str] = (), detail: bool = False
) -> Table:
    """Return the table with a row for each of `things`."""
    rows = tuple(tuple(fill(thing) for _, fill in columns) for thing in things)
    return Table(title, tuple(column for column, _ in columns), rows, tuple(caption), detail)


@dataclass(frozen=True)
class Section:
    """All that is shown of one board: what it is about, the sentences that say what it shows, tables and notes."""

    title: str
    about: str
    verdict: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]

    @property
    def brief(self) -> tuple[Table, ...]:
        """The tables without those of details."""
        return tuple(table for table in self.tables if not table.detail)


@dataclass(frozen=True)
class Document:
    """All that a report shows.

    Attributes
    ----------
    command
        The command line that makes it; empty if it was made from Python.
    notes
        Groups of records that have no board, and why.
    problems
        Files that could not be read.
    title
        What it is.
    """

    command: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    title: str = "Leaderboard"

    @property
    def endnotes(self) -> list[tuple[str, tuple[str, ...]]]:
        """Titles and lines of what follows the sections; what has no line is left out."""
        notes = [("No leaderboard", self.notes), ("Records that could not be read", self.problems)]
        return [(title, lines) for title, lines in notes if lines]
