"""The leaderboard: every board of a long table, in every form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from dhrd_bench.errors import UserError, did_you_mean, shown
from dhrd_bench.report import data, text
from dhrd_bench.report.badges import badges
from dhrd_bench.report.board import Board
from dhrd_bench.report.details import pooled_sections, tables_asked
from dhrd_bench.report.layout import Document
from dhrd_bench.report.leakage import leakages
from dhrd_bench.report.order import by_metric, in_order, sort_key
from dhrd_bench.report.paper import PublishedFigures, compare, find_published
from dhrd_bench.report.timed import timed_methods
from dhrd_bench.report.tuned import tuned_note
from dhrd_bench.results.table import CELL, LongTable
from dhrd_bench.results.tuned import Search
from dhrd_bench.stats.analysis import Analysis, analyse_selection
from dhrd_bench.stats.design import Group
from dhrd_bench.stats.selection import groups, select

Format = Literal["terminal", "markdown", "json", "csv", "html", "latex"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""The forms of a report that are text."""
Binary = Literal["parquet"]
BINARY: tuple[Binary, ...] = get_args(Binary)


def as_format(name: str) -> Format | Binary:
    """Return `name` as the format it is.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    for known in (*FORMATS, *BINARY):
        if known == name:
            return known
    raise UserError(f"Unknown format {name!r}.", did_you_mean(name, (*FORMATS, *BINARY)))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of a long table to show; everything by default.

    Attributes
    ----------
    suite, backbone, budget
        Only the boards of these.
    tasks, methods
        Only these, in every board.
    baseline, reference
        Methods that gains and QPS ratios are taken to, if not those with that role.
    metric
        Score by this metric alone, on the tasks that have it.
    sort
        The one of `SORTS` by which the lines of the tables are sorted.
    """

    suite: str | None = None
    backbone: str | None = None
    budget: str | None = None
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    baseline: str | None = None
    reference: str | None = None
    metric: str | None = None
    sort: str = "score"


EVERYTHING = Choice()


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """The boards of a long table; ``print`` shows them as a terminal would.

    Attributes
    ----------
    boards
        One a suite, backbone and budget.
    notes
        Groups of records that have no board, and why.
    problems
        Files that could not be read.
    command
        The command line that makes it; empty if it was made from Python.
    """

    boards: tuple[Board, ...] = field(repr=False)
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    command: str = ""

    def document(self, details: bool = False) -> Document:
        """Lay all boards out, with or without the tables of details."""
        sections = []
        for board in self.boards:
            section = board.section()
            tables = (*section.tables, *tables_asked(board)) if details else section.brief
            sections.append(replace(section, tables=tables))
        pooled = pooled_sections(self.boards) if details else ()
        return Document(self.command, (*sections, *pooled), self.notes, self.problems)

    def rows(self) -> pd.DataFrame:
        """Return the test rows of the boards' cells, one a cell and example, and whether each was answered rightly.

        Columns are those of `LongTable.rows`, and ``correct``. A report made of no records has none.
        """
        kept = [
            board.table.rows.merge(board.analysis.selection.cells[CELL], on=CELL)
            for board in self.boards
            if board.table is not None
        ]
        rows = pd.concat(kept, ignore_index=True)
        return rows.assign(correct=rows["prediction"] == rows["label"])

    def render(self, form: Format | Binary = "terminal", details: bool = False) -> str:
        """Return the whole leaderboard as text of this form.

        Parameters
        ----------
        details
            Whether to show the tables of details, too; JSON and CSV always have all figures.

        Raises
        ------
        UserError
            If there is no such form, or it is no text.
        """
        match as_format(form):
            case "parquet":
                raise UserError("Parquet is no text.", "Name a file: --format parquet --output rows.parquet.")
            case "json":
                return data.as_json(self.boards, self.command, self.notes, self.problems)
            case "csv":
                return data.as_csv(self.boards)
            case "markdown":
                return text.as_markdown(self.document(details))
            case "latex":
                return text.as_latex(self.document(details))
            case "html":
                from dhrd_bench.report.page import as_html

                return as_html(self.document(details))
            case "terminal":
                from dhrd_bench.report.terminal import as_text

                return as_text(self.document(details))

    def __str__(self) -> str:
        return self.render("terminal")


def analyse(
    table: LongTable,
    choice: Choice = EVERYTHING,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    margin: float | None = None,
    against: Path | str | None = None,
    command: str = "",
) -> Leaderboard:
    """Compute every figure of `table`, one board for each suite, backbone and budget.

    Parameters
    ----------
    table
        As `load_results` returns it.
    choice
        What of it to show.
    resamples, seed
        Of the bootstrap and the permutation tests; the same seed gives the same figures.
    margin
        Of equivalence, in %; without one it is not tested.
    against
        ``"paper"``, or a folder with a ``claims.yaml``, whose claims are set beside our figures.
    command
        The command line that makes this leaderboard, for the forms that say it.

    Raises
    ------
    UserError
        If a name or number is none that can be used, or there is nothing to show.
    """
    if not 100 <= resamples <= 1_000_000:
        raise UserError(f"{resamples} resamples cannot be used.", "Ask for 100 to 1000000.")
    if margin is not None and not 0 < margin < 100:
        raise UserError(f"A margin of {margin:g} % cannot be used.", "Name one between 0 and 100, as 1.")
    key = sort_key(choice.sort)
    table = by_metric(table, choice.metric)
    published = None
    if against is not None:
        published = PublishedFigures(find_published() if against == "paper" else Path(against))
    boards: list[Board] = []
    empty: list[tuple[Group, UserError]] = []
    for group in groups(table, choice.suite, choice.backbone, choice.budget):
        try:
            selection = select(
                table, group, tasks=_tasks(table, group, choice), methods=choice.methods,
                baseline=choice.baseline, reference=choice.reference,
            )  # fmt: skip
        except UserError as error:  # a group without such a task or a finished cell does not stop the others
            empty.append((group, error))
        else:
            analysis = in_order(analyse_selection(selection, resamples=resamples, seed=seed, margin=margin), key)
            boards.append(_board(table, choice, analysis, published))
    if not boards:
        raise empty[0][1]
    notes = tuple(f"{' · '.join((group.suite, group.backbone, group.budget))}: {error}" for group, error in empty)
    problems = tuple(shown(f"{problem.path}: {problem.reason}") for problem in table.problems)
    return Leaderboard(tuple(boards), notes, problems, command)


def _tasks(table: LongTable, group: Group, choice: Choice) -> tuple[str, ...]:
    """Return the tasks that are named; of all, those that have the metric named, if one is."""
    if choice.metric is None:
        return choice.tasks
    have = {task for suite, task in table.tasks if suite == group.suite}
    named = tuple(task for task in choice.tasks if task.lower() in {name.lower() for name in have})
    if not have or (choice.tasks and not named):
        raise UserError(f"No task has the metric {choice.metric!r}.", "Leave --metric out, or name other tasks.")
    return named or tuple(sorted(have))


def _board(table: LongTable, choice: Choice, analysis: Analysis, published: PublishedFigures | None) -> Board:
    """Put what else the table knows beside the figures of one board."""
    group = analysis.selection.group
    cells = table.cells
    of_group = (cells[["suite", "backbone", "budget"]] == [group.suite, group.backbone, group.budget]).all(axis=1)
    return Board(
        analysis,
        timed=tuple(timed_methods(table.timed, analysis.selection, choice.tasks, choice.methods)),
        published=published,
        claims=tuple(compare(analysis, published)) if published else (),
        badges=badges(table.folder, cells[of_group]) if table.folder else (),
        leakages=tuple(leakages(analysis, table.folder)),
        searches=tuple(search for search in table.searches if _is_about(search, analysis)),
        table=table,
    )


def _is_about(search: Search, analysis: Analysis) -> bool:
    """Whether a method of a board has settings that `search` has chosen under what the board is of."""
    group = analysis.selection.group
    under = (search.suite, search.backbone, search.budget) == (group.suite, group.backbone, group.budget)
    return under and tuned_note(search, [line.method for line in analysis.lines]) is not None
