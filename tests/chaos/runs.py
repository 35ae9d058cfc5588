"""Runs of the command line on cells that cost next to nothing, and what they leave."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from grids import FAST, outcome

from dhrd_bench.cli import main
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import read_records

EVERY_TASK = "boolq,cb,copa,multirc,rte,wic,wsc"


def command(results: Path, methods: str, *more: str, tasks: str = "copa,rte", seeds: str = "2") -> list[str]:
    return [
        sys.executable, "-m", "dhrd_bench.cli", "run", "--suite", "mini7", "--backbone", "tiny", "--budget", FAST,
        "--methods", methods, "--tasks", tasks, "--seeds", seeds, "--results", str(results), *more,
    ]  # fmt: skip


def environment(cache: Path, **more: str) -> dict[str, str]:
    """One thread, as sums of several are rounded otherwise, and a cache of its own."""
    fixed = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "DHRD_CACHE": str(cache)}
    return os.environ | fixed | more


def start(words: list[str], cache: Path, **more: str) -> subprocess.Popen[str]:
    """Start a command that hears Ctrl-C, as none does that inherits from a shell's background job."""
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(cache, **more),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def call(words: list[str], cache: Path) -> Done:
    """Run a command of `command` in this process, which has loaded by now what takes seconds to load."""
    out, told = io.StringIO(), io.StringIO()
    log = logging.StreamHandler(told)
    logging.getLogger("dhrd_bench").addHandler(log)
    try:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(told):
            patch.setattr(sys, "argv", ["dhrd-bench", *words[3:]])
            for name, value in environment(cache).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as left:
                main()
    finally:
        logging.getLogger("dhrd_bench").removeHandler(log)
        gc.enable()  # a report goes without
    return Done(int(left.value.code or 0), out.getvalue(), told.getvalue())


def call_apart(words: list[str], cache: Path, **more: str) -> Done:
    """Run a command in a process of its own, whose environment has `more`."""
    process = start(words, cache, **more)
    out, told = process.communicate(timeout=600)
    return Done(process.returncode, out, told)


def outcomes(results: Path) -> dict[Any, Any]:
    """All that does not depend on the clock, by cell; every record there has to be whole."""
    records, problems = read_records(results)
    assert not problems
    return {_key(record): outcome(record) for record in records if record.status == "ok"}


def _key(record: CellRecord) -> tuple[str, str, int]:
    return record.cell.task, record.cell.method, record.cell.seed


def lost(found: dict[Any, Any], whole: dict[Any, Any]) -> int:
    """Cells of the whole table that are not there, or came out otherwise."""
    return sum(found.get(cell) != wanted for cell, wanted in whole.items())


def workers_of(driver: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(driver).children(recursive=True)
        return [child for child in children if "dhrd_bench.grid.worker" in child.cmdline()]
    except psutil.Error:
        return []


def all_end(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=30)
    return not alive


def one_line(done: Done) -> str:
    """What a mistake or a full disk is told in: one line on standard error, no traceback."""
    lines = [line for line in done.stderr.splitlines() if "Warning" not in line and line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert done.returncode == 2
    return lines[0]
