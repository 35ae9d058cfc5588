"""The ``check`` command."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.table import Table

from dhrd_bench import plugins, registry
from dhrd_bench.cards import split_references
from dhrd_bench.conformance.checks import checks
from dhrd_bench.conformance.running import CheckOutcome, run_checks
from dhrd_bench.errors import UserError
from dhrd_bench.grid.checked import mark_checked
from dhrd_bench.grid.plan import method_specs
from dhrd_bench.progress import literal

_MARKS = {"pass": "[green]✓[/]", "fail": "[red]✗[/]", "expected": "[yellow]~[/]", "unexpected pass": "[yellow]![/]"}


_WORTH_A_PROCESS = 6
"""Methods that are checked in about the time that a process takes to start."""


def _checked(
    names: Sequence[str], backbone: str, data_dir: Path | None, watch: Callable[[CheckOutcome], None]
) -> Iterator[tuple[str, list[CheckOutcome]]]:
    """Yield the outcomes of each method, of many from several processes: none of them needs more than one processor."""
    workers = min(os.cpu_count() or 1, len(names) // _WORTH_A_PROCESS)
    if workers < 2:
        for name in names:
            yield name, run_checks(name, backbone, watch, data_dir)
        return
    folders = list(plugins.state.folders.values())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (folders,)) as pool:
        done = [pool.submit(run_checks, name, backbone, data_dir=data_dir) for name in names]
        for name, future in zip(names, done, strict=True):
            try:
                found = future.result()
            except BrokenProcessPool:
                raise UserError(
                    "A method has ended the process that it was checked in.", "Check methods by name to see which."
                ) from None
            watch(found[-1])
            yield name, found


def _begin(folders: Sequence[Path]) -> None:
    """Make a new process know the methods of this one."""
    import torch

    torch.set_num_threads(1)
    plugins.load_all()
    for folder in folders:
        plugins.include(folder)


def check_command(
    methods: Sequence[str],
    *,
    everything: bool,
    backbone: str,
    as_json: bool,
    console: Console,
    data_dir: Path | None = None,
) -> int:
    """Check methods and print a table of checks by methods, or JSON; note in the cache which have passed.

    A folder of data that is named is one that the methods are to leave alone, beside those that always are.

    Returns
    -------
    int
        1 if a check fails that the card does not expect or, with `everything`, if a plug-in could not
        be loaded; else 0.

    Raises
    ------
    UserError
        If no method was named, or one that does not exist.
    """
    if bool(methods) == everything:
        raise UserError("Name the methods to check, or --all.", f"Known: {', '.join(registry.methods.names())}.")
    named = [name for text in methods for name in split_references(text)]
    names = registry.methods.names() if everything else list(dict.fromkeys(named))
    started = time.perf_counter()
    outcomes: list[CheckOutcome] = []
    with Console(stderr=True).status("") as status:
        for name, found in _checked(
            names, backbone, data_dir, lambda o: status.update(literal(f"{o.method}: {o.check}"))
        ):
            (spec,) = method_specs((name,))
            mark_checked(spec, passed=all(outcome.status != "fail" for outcome in found))
            outcomes += found
    broken = plugins.state.broken if everything else {}
    if as_json:
        body = {"outcomes": [asdict(outcome) for outcome in outcomes], "not_loaded": broken}
        sys.stdout.write(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    else:
        _show(outcomes, console)
        for origin, error in broken.items():
            console.print(f"[red]not loaded[/] {literal(f'{origin}: {error}')}", soft_wrap=True, highlight=False)
        failed = sum(outcome.status == "fail" for outcome in outcomes)
        result = f"{failed} failed" if failed else "none failed"
        seconds = time.perf_counter() - started
        console.print(f"{len(outcomes)} checks on {backbone}, {result} ({seconds:.0f} s).", highlight=False)
    return int(bool(broken) or any(outcome.status == "fail" for outcome in outcomes))


def _show(outcomes: Sequence[CheckOutcome], console: Console) -> None:
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))
    marks = {(outcome.method, outcome.check): _MARKS[outcome.status] for outcome in outcomes}
    names = [check.name for check in checks]
    fits = max(map(len, methods)) + sum(len(name) + 3 for name in names) <= console.width
    if not fits:
        console.print(", ".join(f"{number} {name}" for number, name in enumerate(names, 1)), highlight=False)
    table = Table(show_edge=False, pad_edge=False, box=HEAVY_HEAD if fits else None, padding=(0, 1))
    table.add_column("method", no_wrap=True)
    for number, name in enumerate(names, 1):
        table.add_column(name if fits else str(number), justify="center", no_wrap=True)
    for method in methods:
        table.add_row(literal(method), *(marks[method, name] for name in names))
    console.print(table)
    about = {check.name: check.about for check in checks}
    for outcome in outcomes:
        if outcome.status == "pass":
            continue
        title = {
            "fail": "[red]fails[/]",
            "expected": "[yellow]fails, as expected[/]",
            "unexpected pass": "[yellow]passes, though its card expects a failure[/]",
        }[outcome.status]
        line = f"{literal(outcome.method)} {title} {outcome.check}: {literal(outcome.detail)}"
        console.print(line, soft_wrap=True, highlight=False)
        if outcome.status == "fail":
            console.print(f"    [dim]{about[outcome.check]}.[/]", soft_wrap=True, highlight=False)
