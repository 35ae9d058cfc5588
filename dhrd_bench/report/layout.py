"""What a report looks like before anything renders it: tables of text, in sections of a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dhrd_bench.stats.cascade import Frontier
from dhrd_bench.stats.pareto import Point


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
    """A column's heading, its side, and whether it holds sentences."""

    head: str
    align: Literal["left", "right"] = "right"
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """A table and the sentences that belong under it.

    Attributes
    ----------
    detail
        Whether a terminal leaves it out.
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


@dataclass(frozen=True)
class Section:
    """All that is shown of one board: what it is about, the sentences that say what it shows, tables and notes."""

    title: str
    about: str
    verdict: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


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
    """

    command: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def endnotes(self) -> list[tuple[str, tuple[str, ...]]]:
        """Titles and lines of what follows the sections; what has no line is left out."""
        notes = [("No leaderboard", self.notes), ("Records that could not be read", self.problems)]
        return [(title, lines) for title, lines in notes if lines]
