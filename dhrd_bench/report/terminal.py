"""Tables in a terminal, by Rich."""

from __future__ import annotations

import io
import math

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from dhrd_bench.report.tables import Cell, Document, Section, Table

_PLAIN_WIDTH = 200


def print_document(document: Document, console: Console) -> None:
    """Print `document`; outside a terminal lines are as long as they need to be."""
    width = console.width if console.is_terminal else _PLAIN_WIDTH
    before = console.width
    console.width = width
    try:
        for section in document.sections:
            _print_section(section, console)
    finally:
        console.width = before


def as_text(document: Document) -> str:
    """Return `document` as plain text."""
    stream = io.StringIO()
    print_document(document, Console(file=stream, width=_PLAIN_WIDTH))
    return stream.getvalue()


def _print_section(section: Section, console: Console) -> None:
    console.print()
    console.print(Rule(f"[bold]{escape(section.title)}[/]", align="left", characters="─", style="dim"))
    console.print(Text(section.about, style="dim"))
    for table in section.tables:
        if not table.detail:
            _print_table(table, console)
    if section.notes:
        console.print(Text("Left out, and to be read with it", style="bold"))
        for note in section.notes:
            console.print(Padding(Text(f"• {note}"), (0, 0, 0, 1)))
        console.print()


def _print_table(table: Table, console: Console) -> None:
    console.print()
    for part in _fitting(table, console):
        console.print(part)
    for sentence in table.caption:
        console.print(Text(sentence, style="dim"))
    console.print()


def _fitting(table: Table, console: Console) -> list[RichTable]:
    """Return `table` on one line a row if it fits, else on two, else in pieces by column."""
    for stacked in (False, True):
        made = _build(table, range(len(table.columns)), stacked)
        if _width(made, console) <= console.width:
            return [made]
    for pieces in range(2, len(table.columns)):
        rest = range(1, len(table.columns))
        size = math.ceil(len(rest) / pieces)
        made_pieces = [_build(table, [0, *rest[at : at + size]], True) for at in range(0, len(rest), size)]
        if all(_width(made, console) <= console.width for made in made_pieces):
            return made_pieces
    return [_build(table, range(len(table.columns)), True)]


def _width(made: RichTable, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=10_000), made).maximum


def _build(table: Table, columns: range | list[int], stacked: bool) -> RichTable:
    made = RichTable(
        title=table.title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0),
        header_style="bold",
    )  # fmt: skip
    for c in columns:
        column = table.columns[c]
        head = column.short if stacked else column.head
        made.add_column(head, justify=column.align, no_wrap=c != 0 or not stacked, overflow="fold", vertical="top")
    for r, row in enumerate(table.rows):
        if r == table.rule:
            made.add_section()
        made.add_row(*[_text(row[c], stacked) for c in columns])
    return made


def _text(cell: Cell, stacked: bool) -> Text:
    text = Text(cell.main, style="bold" if cell.strong else "")
    if cell.detail:
        text.append("\n" if stacked else " ")
        text.append(cell.detail, style="dim")
    return text
