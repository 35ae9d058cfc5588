"""The ``throughput`` command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.progress import show_progress
from dhrd_bench.report.terminal import print_table
from dhrd_bench.report.timed import run_table
from dhrd_bench.request import RunRequest

if TYPE_CHECKING:
    from dhrd_bench.throughput.timing import TimingSettings


def throughput_command(request: RunRequest, settings: TimingSettings, console: Console) -> int:
    """Time the fitted methods of every task and seed of a request.

    Returns
    -------
    int
        0 if every figure is VALID, else 1.

    Raises
    ------
    UserError
        If a setting is none that can be, or the request cannot be planned.
    """
    if not 0 < settings.margin < 100:
        raise UserError(f"A margin of {settings.margin:g} % cannot be used.", "Name one between 0 and 100, as 5.")
    return time_and_print(make_plan(request), settings, console)


def time_and_print(plan: Plan, settings: TimingSettings, console: Console) -> int:
    """Time the cells of `plan` in the scenarios of its request, printing each record as it comes.

    Returns
    -------
    int
        0 if every figure is VALID, else 1.
    """
    from dhrd_bench.throughput.plan import time_plan

    valid = True
    scenarios = plan.request.throughput
    groups = len({(planned.cell.task, planned.cell.seed) for planned in plan.cells})
    with show_progress(console, groups * len(scenarios), "timings") as display:
        for record in time_plan(plan, settings, display):
            print_table(run_table(record), console)
            valid = valid and all(measurement.verdict == "VALID" for measurement in record.measurements)
    return 0 if valid else 1
