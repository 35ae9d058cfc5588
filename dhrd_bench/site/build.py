"""All files of a site, made from a leaderboard and its records."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from dhrd_bench import __version__, registry
from dhrd_bench.errors import UserError
from dhrd_bench.report.board import Board
from dhrd_bench.report.details import pooled_sections
from dhrd_bench.report.leaderboard import EVERYTHING, Choice, Leaderboard
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.site.boards import board_data, table_data
from dhrd_bench.site.cells import TaskCells, index_of, tasks_of
from dhrd_bench.site.shards import shard
from dhrd_bench.site.studies import ShownStudy, studies_data

if TYPE_CHECKING:  # what reads data may need libraries that a page does without
    from dhrd_bench.data.inputs import InputSource

INDEX = "index.html"
SCRIPTS = (
    "core.js", "table.js", "charts.js", "figures.js", "board.js", "method.js", "cell.js", "compare.js", "studies.js",
    "main.js",
)  # fmt: skip
STYLES = ("site.css",)
_MARK = '<meta name="generator" content="dhrd-bench'

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self' file:",  # a page that is opened from disk has no origin that is its own everywhere
    "style-src": "'self' file:",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "shards",
}


def site_files(
    leaderboard: Leaderboard,
    choice: Choice = EVERYTHING,
    source: InputSource | None = None,
    revision: str = "",
    studies: Sequence[ShownStudy] = (),
) -> dict[str, str]:
    """Return the files of a site by their path in its folder.

    Parameters
    ----------
    leaderboard, choice
        As `analyse` returned it for this choice.
    source
        Where the inputs of test rows come from.
    revision
        Of a site that is served: the page asks for a newer one.
    studies
        To be shown beside the boards.
    """
    files: dict[str, str] = {}
    boards: list[dict[str, Any]] = []
    cards: dict[str, dict[str, Any]] = {}
    for number, board in enumerate(leaderboard.boards):
        name = f"board-{number}"
        entry, own = _board_files(board, name, choice, source)
        boards.append(entry)
        files |= own
        cards |= _cards(board)
    index = {
        "boards": boards,
        "cards": list(cards.values()),
        "studies": studies_data(studies),
        "across": [table_data(table) for each in pooled_sections(leaderboard.boards) for table in each.tables],
        "command": leaderboard.command,
        "version": __version__,
        "notes": leaderboard.notes,
        "problems": leaderboard.problems,
    }
    return files | {"data/index.js": shard("index", index)} | _shell(revision)


def waiting_files(message: str, revision: str) -> dict[str, str]:
    """Return the files of a site that has nothing to show yet, and says so."""
    index: dict[str, Any] = {name: [] for name in ("boards", "cards", "studies", "problems")}
    index |= {"command": "", "version": __version__, "notes": [message]}
    return {"data/index.js": shard("index", index)} | _shell(revision)


def write_site(files: dict[str, str], folder: Path) -> None:
    """Write a site into `folder`, in the place of an earlier one.

    Raises
    ------
    UserError
        If the folder holds something else, or cannot be written to.
    """
    page = folder / INDEX
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not _is_site(page)):
        raise UserError(f"{folder} is no site, and not empty.", "Name a new folder, or one that a report has written.")
    # The page last: until then there is the earlier one, or none.
    for path in sorted(files, key=lambda path: path == INDEX):
        write_text_atomically(folder / path, files[path], below=folder)
    for old in (folder / "data").glob("board-*.js"):
        if f"data/{old.name}" not in files:
            old.unlink()


def _is_site(page: Path) -> bool:
    try:
        return _MARK in page.read_text(encoding="utf-8")[:2000]
    except (OSError, UnicodeDecodeError):
        return False


# ---------------------------------------------------------------- boards


def _board_files(
    board: Board, name: str, choice: Choice, source: InputSource | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the index says of a board, and the files with the rest."""
    group, table = board.analysis.selection.group, board.table
    files = {f"data/{name}.js": shard(name, board_data(board))}
    entry: dict[str, Any] = {"suite": group.suite, "backbone": group.backbone, "budget": group.budget, "file": name}
    if table is None:
        return entry | {"cells": index_of(board.analysis.selection.cells), "tasks": []}, files
    cells, rows = (_of_board(frame, board, choice) for frame in (table.cells, table.rows))
    shards = {}
    by_task = dict(iter(rows.groupby("task", observed=True)))
    for number, (task, own) in enumerate(tasks_of(cells)):
        shards[task] = f"{name}-task-{number}"
        data = TaskCells(table, own, by_task.get(task, rows.iloc[:0]), source).data()
        files[f"data/{shards[task]}.js"] = shard(shards[task], data)
    # Pairs, as a name of a stranger's is no key.
    return entry | {"cells": index_of(cells), "tasks": list(shards.items())}, files


def _of_board(frame: pd.DataFrame, board: Board, choice: Choice) -> pd.DataFrame:
    group = board.analysis.selection.group
    kept = (frame["suite"] == group.suite) & (frame["backbone"] == group.backbone) & (frame["budget"] == group.budget)
    for column, wanted in (("task", choice.tasks), ("method", choice.methods)):
        if wanted:
            kept &= _named(frame[column], wanted)
    return frame[kept]


def _named(column: pd.Series[Any], wanted: Collection[str]) -> pd.Series[bool]:
    folded = {name.lower() for name in wanted}
    return column.isin([name for name in column.unique() if str(name).lower() in folded])


def _cards(board: Board) -> dict[str, dict[str, Any]]:
    """Return the cards of the methods of a board that are registered here, by name."""
    found = {}
    for name in {parts["method"]["name"] for parts in board.analysis.selection.cells["parts"]}:
        try:
            card = registry.methods.get(name).card
        except (UserError, ImportError):  # it is a plug-in of somebody else's, or needs an extra
            continue
        about = {"name": card.name, "version": card.version, "objective": card.objective, "paper": card.paper}
        found[name] = about | {"summary": card.summary, "expected_failures": list(card.expected_failures.items())}
    return found


# ---------------------------------------------------------------- the page around them


def policy(*, live: bool) -> str:
    """Return the content security policy of the page."""
    allowed = _POLICY | ({"connect-src": "'self'"} if live else {})
    return "; ".join(f"{what} {where}" for what, where in allowed.items())


def _shell(revision: str) -> dict[str, str]:
    page = (
        _templates()
        .get_template("index.html.j2")
        .render(
            version=__version__, policy=policy(live=bool(revision)), revision=revision, scripts=SCRIPTS, styles=STYLES
        )
    )
    return {INDEX: page + "\n"} | {f"assets/{name}": _asset(name) for name in (*SCRIPTS, *STYLES)}


@cache
def _asset(name: str) -> str:
    return (resources.files("dhrd_bench.site") / "assets" / name).read_text(encoding="utf-8")


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("dhrd_bench.site"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
