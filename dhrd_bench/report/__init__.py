"""Leaderboards from records: analysis -> tables -> terminal, Markdown, HTML, LaTeX, CSV, JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dhrd_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

Format = Literal["terminal", "markdown", "json", "csv", "html", "latex"]
FORMATS: tuple[Format, ...] = ("terminal", "markdown", "json", "csv", "html", "latex")


def report(
    results: Path,
    *,
    suite: str | None = None,
    backbone: str | None = None,
    budget: str | None = None,
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    baseline: str | None = None,
    reference: str | None = None,
    format: Format = "terminal",  # noqa: A002 - the option's name
    output: Path | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    against: str | None = None,
    margin: float | None = None,
    console: Console | None = None,
) -> int:
    """Report the records below `results`, one leaderboard for each suite, backbone and budget.

    Parameters
    ----------
    suite, backbone, budget, tasks, methods
        What to report; everything by default.
    baseline, reference
        Methods that gains and QPS ratios are taken to, if not those with that role.
    format, output
        How to write it, and where; to the console by default.
    resamples, seed
        Of the bootstrap and the permutation tests.
    against
        ``paper``, or a folder with a ``claims.yaml``, whose claims are set beside ours.
    margin
        Of equivalence, in %.

    Returns
    -------
    int
        Exit code: 0, or 2 if a record could not be read. It is named, and the others are reported.

    Raises
    ------
    UserError
        If a name, format or number is none that can be used, or there is nothing to report.
    """
    from rich.console import Console

    from dhrd_bench.report import data, paper, tables, terminal, text
    from dhrd_bench.report import timed as side_by_side
    from dhrd_bench.report.badges import badges
    from dhrd_bench.results.store import read_records, write_text_atomically
    from dhrd_bench.results.table import long_table
    from dhrd_bench.results.timed import read_timed
    from dhrd_bench.stats.analysis import analyse
    from dhrd_bench.stats.selection import groups, select

    _check(format, resamples, margin)
    published = None
    if against is not None:
        published = paper.Reference(paper.find_reference() if against == "paper" else Path(against))
    records, unread = read_records(results)
    if not records and unread:
        first = f"{unread[0].path}: {unread[0].reason}"
        raise UserError(f"No record below {results} can be read: {first}.", "Delete it and run its cell again.")
    runs, unread_runs = read_timed(results)
    problems = [f"{problem.path}: {problem.reason}" for problem in (*unread, *unread_runs)]
    table = long_table(records)
    analyses, empty = [], []
    for group in groups(table, suite, backbone, budget):
        try:
            chosen = select(table, group, tasks=tasks, methods=methods, baseline=baseline, reference=reference)
        except UserError as error:  # a group without such a task or a finished cell does not stop the others
            empty.append((group, error))
        else:
            analyses.append(analyse(chosen, resamples=resamples, seed=seed, margin=margin))
    if not analyses:
        raise empty[0][1]
    compared = [paper.compare(one, published) if published else [] for one in analyses]
    notes = [f"{' · '.join((group.suite, group.backbone, group.budget))}: {error}" for group, error in empty]
    timed = [side_by_side.timed(runs, one.selection, tasks, methods) for one in analyses]
    command = _command(
        results=results, suite=suite, backbone=backbone, budget=budget, tasks=tasks, methods=methods,
        baseline=baseline, reference=reference, format=None if format == "terminal" else format, output=output,
        resamples=None if resamples == 10_000 else resamples, seed=seed or None, against=against, margin=margin,
    )  # fmt: skip
    screen = console or Console()
    if format == "json":
        written = data.as_json(analyses, compared, timed, command, notes, problems)
    elif format == "csv":
        written = data.as_csv(analyses, compared, timed)
    else:
        sections = []
        for one, claims, found in zip(analyses, compared, timed, strict=True):
            extra = [side_by_side.timed_table(found)] if found else []
            extra += [paper.claims_table(claims, one, published)] if published else []
            section = tables.section(one, extra)
            group = one.selection.group
            own = (table.cells[["suite", "backbone", "budget"]] == [group.suite, group.backbone, group.budget]).all(
                axis=1
            )
            sections.append(replace(section, notes=(*section.notes, *badges(results, table.cells[own]))))
        document = tables.Document(command, tuple(sections), tuple(notes), tuple(problems))
        if format == "terminal":
            written = terminal.as_text(document) if output else ""
            if not output:
                terminal.print_document(document, screen)
        else:
            written = {"markdown": text.as_markdown, "html": text.as_html, "latex": text.as_latex}[format](document)
    if output:
        write_text_atomically(output, written)
        screen.print(f"Wrote {output}", highlight=False, markup=False, soft_wrap=True)
    elif written:
        screen.file.write(written)
    for problem in problems:
        Console(stderr=True).print(f"Cannot read {problem}", highlight=False, markup=False, soft_wrap=True)
    return 2 if problems else 0


def _check(format: str, resamples: int, margin: float | None) -> None:  # noqa: A002
    if format not in FORMATS:
        raise UserError(f"Unknown format {format!r}.", did_you_mean(format, FORMATS))
    if not 100 <= resamples <= 1_000_000:
        raise UserError(f"{resamples} resamples cannot be used.", "Ask for 100 to 1000000.")
    if margin is not None and not 0 < margin < 100:
        raise UserError(f"A margin of {margin:g} % cannot be used.", "Name one between 0 and 100, as 1.")


def _command(**options: Any) -> str:
    """Return the command line that makes this report."""
    words = ["dhrd-bench", "report"]
    for name, value in options.items():
        if value:
            words += [f"--{name}", ",".join(value) if isinstance(value, list | tuple) else str(value)]
    return shlex.join(words)
