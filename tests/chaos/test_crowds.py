"""Two runs at once, thousands of cells, thousands of records."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fakes
import psutil
import pytest
from grids import plan, registry_as_it_was
from rich.console import Console

from chaos.conftest import Injected
from chaos.runs import EVERY_TASK, call, command, environment, lost, outcomes, start
from dhrd_bench.grid.run import run_plan
from dhrd_bench.progress import Display

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

pytestmark = pytest.mark.chaos


def test_two_runs_of_one_plan_in_one_folder_both_end_well(tmp_path: Path, injected: Injected) -> None:
    results, cache = tmp_path / "out", tmp_path / "cache"
    wanted = ("majority,pooled,cot", "--throughput", "offline")
    assert call(command(tmp_path / "whole", *wanted), tmp_path / "other").returncode in (0, 1)
    runs = [start(command(results, *wanted, *more), cache) for more in ((), ("--workers", "2"))]
    for each in runs:
        _, told = each.communicate(timeout=600)
        assert each.returncode in (0, 1), told  # 1: a figure that is not fit to be quoted
        assert "Traceback" not in told
    missing = lost(outcomes(results), outcomes(tmp_path / "whole"))
    injected("two runs at once in one results folder", 1, missing)
    assert not missing
    assert len(outcomes(results)) == 12
    assert not list(results.rglob("*.tmp"))
    assert not list(results.rglob("*.broken.json"))
    assert all((folder / "complete.json").is_file() for folder in (cache / "fitted").iterdir())
    assert len(list((cache / "fitted").iterdir())) == 12


class Watched(Display):
    """Reads the memory of this process as cells end."""

    def __init__(self, total: int) -> None:
        super().__init__(Console(quiet=True), total)
        self.megabytes: dict[int, float] = {}

    def end(self, outcome: str = "") -> None:
        super().end(outcome)
        if self.done % 500 == 0:
            self.megabytes[self.done] = psutil.Process().memory_info().rss / 1e6


def test_two_thousand_cells_take_no_more_memory_than_five_hundred(tmp_path: Path, injected: Injected) -> None:
    wanted = plan(tmp_path, methods="majority", tasks=EVERY_TASK, seeds="286")
    display = Watched(len(wanted.cells))
    run_plan(wanted, display)
    assert display.done == 2002
    growth = display.megabytes[2000] - display.megabytes[500]
    injected("cells of one run", display.done, 0, f"{display.megabytes[500]:.0f} MB at 500, {growth:+.0f} MB at 2,000")
    assert growth < 60, display.megabytes


def test_a_report_on_five_thousand_records_ends(tmp_path: Path, injected: Injected) -> None:
    tasks = [fakes.FakeTask(name, 60) for name in ("one", "two", "three", "four", "five")]
    methods = [
        fakes.FakeMethod("base", role="baseline"),
        *(fakes.FakeMethod(f"m{k}", 0.7 + 0.02 * k) for k in range(9)),
    ]
    fakes.write(tmp_path / "out", fakes.records(tasks, methods, range(100)))
    words = [sys.executable, "-m", "dhrd_bench.cli", "report", "--results", str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment(tmp_path / "cache")) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert all(method.name in said for method in methods)
    megabytes, seconds = usage.ru_maxrss / 1e3, usage.ru_utime + usage.ru_stime
    injected("records of one report", 5000, 0, f"{megabytes:.0f} MB, {seconds:.0f} s of processor")
    assert megabytes < 4000
