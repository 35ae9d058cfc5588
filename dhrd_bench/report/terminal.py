"""Tables in a terminal, by Rich."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from dhrd_bench.errors import shown
from dhrd_bench.report.layout import Document, Section, Table, TableCell

PLAIN_WIDTH = 200
"""Columns to use where there is no terminal, so that a line of a table stays a line."""
_NAME_WIDTH = 20


def print_document(document: Document, console: Console, wide: bool = False) -> None:
    """Print `document`, fitted to a terminal's width; elsewhere, or if `wide`, lines are as long as they need to be."""
    before, fitted = console.width, console.is_terminal and not wide
    if not fitted:
        console.width = max(before, PLAIN_WIDTH)
    try:
        spared = [_print_section(section, console, fitted) for section in document.sections]
        if document.notes:
            _print_list("No leaderboard", document.notes, console)
        if any(spared):
            console.print()
            console.print(_plain("--wide shows all columns.", "dim"))
    finally:
        console.width = before


def as_text(document: Document) -> str:
    """Return `document` as plain text."""
    stream = io.StringIO()
    print_document(document, Console(file=stream, width=PLAIN_WIDTH, force_jupyter=False))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _print_section(section: Section, console: Console, fitted: bool) -> bool:
    """Print all there is of a board; return whether columns were left out."""
    console.print()
    console.print(Rule(_plain(section.title, "bold"), align="left", style="dim"), width=min(console.width, 100))
    console.print(_plain(section.about, "dim"))
    if section.verdict:
        console.print()
        console.print(_plain(" ".join(section.verdict)), width=min(console.width, 100))
    spared = [print_table(table, console, fitted) for table in section.tables]
    if section.notes:
        _print_list("Left out, and to be read with it", section.notes, console)
    return any(spared)


def _print_list(title: str, lines: Sequence[str], console: Console) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    for line in lines:
        grid = RichTable.grid(padding=(0, 1))
        grid.add_row(Text("•"), _plain(line))
        console.print(grid)


def print_table(table: Table, console: Console, fitted: bool = True) -> bool:
    """Print one table with its legend and caption, fitted to the console's width.

    Parameters
    ----------
    fitted
        Whether columns may be left out where there is no room for them.

    Returns
    -------
    bool
        Whether some were.
    """
    console.print()
    parts, columns = _fitting(table, console, fitted)
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)
    spared = [column.head for at, column in enumerate(table.columns) if at not in columns]
    left_out = f"No room for {', '.join(spared)}." if spared else ""
    for sentence in filter(None, (left_out, table.legend(columns), *table.caption)):
        console.print(Padding(_plain(sentence, "dim"), 0), width=min(console.width, 120))
    return bool(spared)


def _fitting(table: Table, console: Console, fitted: bool) -> tuple[list[RichTable], list[int]]:
    """Return `table` as it fits, and the columns that are left.

    A row is on one line if that fits, without the spare columns if need be; else intervals stand below their
    figures; else the table comes in pieces.
    """
    every = list(range(len(table.columns)))
    choices = _fewer(table) if fitted else [every]
    for stacked, gaps in ((False, (2,)), (True, (2, 1))):
        for columns, gap in itertools.product(choices, gaps):
            made = _build(table, columns, stacked, gap)
            if _width(made, console) <= console.width:
                return [made], columns
    for names, rest in _names(table, choices[-1]):
        for pieces in range(2, len(rest) + 1):
            size = math.ceil(len(rest) / pieces)
            parts = [
                _build(table, [*names, *rest[at : at + size]], True, 1, "" if at == 0 else " (continued)")
                for at in range(0, len(rest), size)
            ]
            if all(_width(part, console) <= console.width for part in parts):
                return parts, choices[-1]
    return [_build(table, choices[-1], True, 1)], choices[-1]


def _names(table: Table, columns: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the columns of every piece and the rest: all that say what a row is about, or only the first of them."""
    is_name = [table.columns[at].align == "left" for at in columns]
    start = is_name.index(True) if True in is_name else 0
    end = next((at for at in range(start, len(columns)) if not is_name[at]), start + 1)
    for cut in dict.fromkeys((end, start + 1)):
        yield list(columns[:cut]), list(columns[cut:])


def _fewer(table: Table) -> list[list[int]]:
    """Return all columns, then all but the first to go, and so on."""
    columns = list(range(len(table.columns)))
    choices = [columns]
    for at in sorted((at for at in columns if table.columns[at].spare), key=lambda at: -table.columns[at].spare):
        choices.append([other for other in choices[-1] if other != at])
    return choices


def _width(made: RichTable, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=10_000), made).maximum


def _build(table: Table, columns: Sequence[int], stacked: bool, gap: int, more: str = "") -> RichTable:
    made = RichTable(
        title=_plain(table.title + more, "bold"), title_justify="left", box=None, pad_edge=False,
        padding=(0, gap, 0, 0), header_style="dim",
    )  # fmt: skip
    for c in columns:
        column = table.columns[c]
        wraps = column.wraps and stacked
        head = Text(shown(column.head).replace(" ", "\n") if stacked and not wraps else shown(column.head))
        width = 34 if wraps else None
        made.add_column(head, justify=column.align, vertical="top", no_wrap=not wraps, max_width=width)
    for r, row in enumerate(table.rows):
        if r == table.rule:
            name = next((c for c in columns if table.columns[c].align == "left"), 0)
            made.add_row(*(Text("────" if c == name else "", style="dim") for c in columns))
        made.add_row(*(_text(row[c], stacked, table.columns[c].align == "left") for c in columns))
    return made


def _plain(text: str, style: str = "") -> Text:
    return Text(shown(text), style=style)


def _text(cell: TableCell, stacked: bool, left: bool) -> Text:
    main = shown(cell.main)
    text = Text(_fold(main) if stacked and left and " " not in main else main, style="bold" if cell.strong else "")
    if cell.detail:
        text.append("\n" if stacked else " ")
        text.append(shown(cell.detail), style="dim")
    return text


def _fold(name: str) -> str:
    """Break a long name before its parameters or after a hyphen or comma, or else where the line ends."""
    if len(name) <= _NAME_WIDTH:
        return name
    cuts = [i + (name[i] != "[") for i in range(1, min(len(name), _NAME_WIDTH)) if name[i] in "-,["]
    at = cuts[-1] if cuts else _NAME_WIDTH
    return f"{name[:at]}\n {_fold(name[at:])}"
