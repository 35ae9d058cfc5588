"""The ``tune`` command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.console import Console

from dhrd_bench.cards import Reference
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.interrupts import INTERRUPTED, second_interrupt_leaves
from dhrd_bench.progress import literal, show_progress
from dhrd_bench.report.terminal import print_table
from dhrd_bench.report.tuned import trials_table
from dhrd_bench.request import RunRequest
from dhrd_bench.results.tuned import write_tuned
from dhrd_bench.search.tune import SearchSettings, Tuner


def tune_command(
    request: RunRequest, settings: SearchSettings, output: Path, dev_rows: int | None, console: Console
) -> int:
    """Run the trials that `output` has not, say what was chosen, and how it is run.

    Parameters
    ----------
    request
        The methods, and the cells of a trial; records are neither read nor written.
    settings
        How to search.
    output
        File of the trials.
    dev_rows
        dev rows of a trial, if not those of the budget.
    console
        Where to print.

    Returns
    -------
    int
        0, 1 if a cell has failed, 130 after an interrupt.
    """
    plan = make_plan(request)
    budget = plan.request.budget
    if dev_rows is not None:
        plan = make_plan(request.model_copy(update={"budget": with_dev_rows(budget, dev_rows)}))
    tuner = Tuner(plan, settings, output, budget)
    missing = tuner.missing
    console.print(f"{settings.trials} trials of {len(tuner.specs)} methods: {missing} cells to run.", highlight=False)
    write_tuned(tuner.search.with_choices(), output)  # before hours of work: the folder may not take it
    try:
        with second_interrupt_leaves(), show_progress(console, missing, "cells") as display:
            search = tuner.run(display)
    except KeyboardInterrupt:
        console.print("Interrupted. Finished cells are kept; the same command goes on with the missing ones.")
        return INTERRUPTED
    print_table(trials_table(search), console)
    errors = [f"{name}: {error}" for name in tuner.specs for error in search.methods[name].errors]
    for error in errors:
        console.print(f"[red]failed[/] {literal(error)}", soft_wrap=True, highlight=False)
    words = ["dhrd-bench", "run", "--tuned", str(output), "--suite", search.suite, "--backbone", plan.request.backbone]
    words += ["--budget", budget, "--tasks", ",".join(search.tasks)]
    console.print(f"Run: {shlex.join(words)}", highlight=False, markup=False, soft_wrap=True)
    return 1 if errors else 0


def with_dev_rows(budget: str, rows: int) -> str:
    """Return the reference of a budget with other dev rows."""
    reference = Reference.parse(budget)
    others = {key: value for key, value in reference.options if key != "dev_rows"}
    return str(Reference(reference.name, tuple(sorted((others | {"dev_rows": json.dumps(rows)}).items()))))
