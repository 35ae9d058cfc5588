"""The ``demo`` command: from rows to a leaderboard with nothing but the package."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.commands.report import ReportRequest, report_command
from dhrd_bench.commands.run import run_command
from dhrd_bench.data.suite import Suite
from dhrd_bench.request import Options, RunRequest, read_request

if TYPE_CHECKING:
    from rich.console import Console

SUITES = ("derivations-short", "mini7")
"""Suites that need no files: rows that are made, and rows that people wrote. The demo's requests lie beside them."""

NEXT = """
So few rows show that the program works, not which method is better. Next:
  what else can be run        dhrd-bench list methods
  more rows, seeds, tasks     dhrd-bench run --help
  a method of your own        dhrd-bench new method my-method
  rows of your own            dhrd-bench new suite tickets --from tickets.csv --text message --label urgency"""


def demo_requests(results: Path, backbone: str | None) -> list[RunRequest]:
    """Return what the demo runs, with its records in the folder `results`."""
    options = Options(results=results, backbone=backbone)
    return [read_request(Suite.named(suite).path.parent / "demo.yaml", options) for suite in SUITES]


def demo_command(results: Path, backbone: str | None, console: Console) -> int:
    """Run the demo's requests, report their records, and say what to do next.

    Parameters
    ----------
    results
        Folder of the records; cells that have one there are not run again.
    backbone
        Another than the requests'.

    Returns
    -------
    int
        The run's exit code if a cell has no record then, else the report's.

    Raises
    ------
    UserError
        If the backbone is unknown or not there, or the folder cannot be written.
    """
    requests, report = demo_requests(results, backbone), ReportRequest(results=results)
    console.print("The demo is some runs and a report:", highlight=False)
    for line in (*map(command_line, requests), report.command_line()):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for request in requests:
        if code := run_command(request, console):
            return code
    code = report_command(report, console)
    console.print(NEXT, highlight=False, markup=False, soft_wrap=True)
    return code


def command_line(request: RunRequest) -> str:
    """Return the command line that asks for the same as `request`: what was said of it, not what is by default."""
    words = ["dhrd-bench", "run"]
    for name in sorted(request.model_fields_set, key=list(RunRequest.model_fields).index):
        value = getattr(request, name)
        words += [f"--{name}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
