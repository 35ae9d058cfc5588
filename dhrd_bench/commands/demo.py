"""The ``demo`` command: from rows to a leaderboard with nothing but the package."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.commands.report import ReportRequest, report_command
from dhrd_bench.commands.run import run_command
from dhrd_bench.data.suite import Suite
from dhrd_bench.report.leaderboard import Choice
from dhrd_bench.request import Options, RunRequest, read_request

if TYPE_CHECKING:
    from rich.console import Console

SUITE = "mini7"
"""The suite that is embedded; the demo's request lies beside it."""

NEXT = """
So few rows show that the program works, not which method is better. Next:
  what else can be run        dhrd-bench list methods
  more rows, seeds, tasks     dhrd-bench run --help
  a method of your own        dhrd-bench new method my-method
  rows of your own            dhrd-bench new suite tickets --from tickets.csv --text message --label urgency"""


def demo_request(results: Path, backbone: str | None) -> RunRequest:
    """Return what the demo runs, with its records in the folder `results`."""
    return read_request(Suite.named(SUITE).path.parent / "demo.yaml", Options(results=results, backbone=backbone))


def demo_command(results: Path, backbone: str | None, console: Console) -> int:
    """Run the demo's request, report its records, and say what to do next.

    Parameters
    ----------
    results
        Folder of the records; cells that have one there are not run again.
    backbone
        Another than the request's.

    Returns
    -------
    int
        The run's exit code if a cell has no record then, else the report's.

    Raises
    ------
    UserError
        If the backbone is unknown or not there, or the folder cannot be written.
    """
    request = demo_request(results, backbone)
    console.print("The demo is two commands, a run and its report:", highlight=False)
    console.print(command_line(request), highlight=False, markup=False, soft_wrap=True)
    if code := run_command(request, console):
        return code
    code = report_command(ReportRequest(results=results, choice=Choice(suite=SUITE)), console)
    console.print(NEXT, highlight=False, markup=False, soft_wrap=True)
    return code


def command_line(request: RunRequest) -> str:
    """Return the command line that asks for the same as `request`: what was said of it, not what is by default."""
    words = ["dhrd-bench", "run"]
    for name in sorted(request.model_fields_set, key=list(RunRequest.model_fields).index):
        value = getattr(request, name)
        words += [f"--{name}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
