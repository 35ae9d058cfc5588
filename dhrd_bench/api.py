"""dhrd-bench from Python: plan, run, load, analyse.

>>> import dhrd_bench as db
>>> request = db.RunRequest(methods=("first", "second[alpha=0.5]"), tasks=("RTE",), seeds=(0, 1), results="results")
>>> db.run(db.plan(request))
>>> table = db.load_results("results")
>>> print(db.analyse(table))

Loading and analysing need no torch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dhrd_bench.report.leaderboard import Choice, Leaderboard, analyse
from dhrd_bench.request import RunRequest
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.table import LongTable

if TYPE_CHECKING:
    from rich.console import Console

    from dhrd_bench.grid.plan import Plan
    from dhrd_bench.results.schema import CellRecord

__all__ = ["Choice", "Leaderboard", "LongTable", "RunRequest", "analyse", "load_results", "plan", "run"]


def plan(request: RunRequest) -> Plan:
    """Return the cells that `request` consists of, with the records of those that have been run.

    Names are resolved and the data loaded; no backbone is.

    Parameters
    ----------
    request
        What is wanted. What it leaves open is said in the result's `Plan.request`.

    Raises
    ------
    UserError
        If a name or a setting is unknown, a list is empty or the data are missing or malformed.
    """
    from dhrd_bench.grid.plan import make_plan

    return make_plan(request)


def run(plan: Plan, console: Console | None = None) -> list[CellRecord]:
    """Run the cells of `plan` that have no record yet, and write their records into its results folder.

    Parameters
    ----------
    plan
        Of `dhrd_bench.plan`.
    console
        Where progress is shown; standard error by default.

    Returns
    -------
    list of CellRecord
        One a cell that was run, failed ones too (``record.status``); those of cells that had a record are
        in ``plan.cells``.

    Raises
    ------
    UserError
        If the backbone cannot be had, or the results folder cannot be written to.
    """
    from rich.console import Console

    from dhrd_bench.grid.run import run_plan
    from dhrd_bench.progress import show_progress

    # A notebook is no terminal, whatever the colours it asks for: it gets lines.
    shown = console or Console(stderr=True, force_terminal=sys.stderr.isatty(), force_jupyter=False)
    with show_progress(shown, len(plan.missing), "cells") as display:
        return run_plan(plan, display)
