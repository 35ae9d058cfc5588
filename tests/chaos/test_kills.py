"""Processes killed or interrupted at any moment: the same command goes on, and the table is the undisturbed one."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fakes
import pytest

from chaos.conftest import Injected
from chaos.runs import EVERY_TASK, all_end, call, command, lost, outcomes, start, workers_of
from dhrd_bench.results.store import find, read_records, write_record

pytestmark = pytest.mark.chaos

KILLS = 20
FINISHED = re.compile(r"\d+/\d+  ")


class Grid:
    """One grid that is killed until it has been killed enough, and then let through."""

    def __init__(self, folder: Path) -> None:
        self.results, self.cache = folder / "killed", folder / "cache"
        self.random, self.kills = random.Random(0), Counter[str]()

    def command(self, results: Path, *more: str) -> list[str]:
        return command(results, "pooled,dhrd,cot,majority", *more, tasks=EVERY_TASK, seeds="3")

    def life(self, *more: str) -> int:
        """Start it, kill a worker if it has some and then the driver, each at a random moment; return the exit code."""
        driver = start(self.command(self.results, *more), self.cache)
        assert driver.stdout is not None
        for victim in ("worker", "driver") if more else ("driver",):
            if self.kills.total() >= KILLS:
                break
            self._wait(driver)
            if victim == "driver":
                driver.kill()
                self.kills[victim] += driver.wait() == -signal.SIGKILL
            elif workers := workers_of(driver.pid):
                self.random.choice(workers).kill()
                self.kills[victim] += 1
        said, told = driver.communicate()
        assert "Traceback" not in told, told
        assert driver.returncode in (0, 1, -signal.SIGKILL), said + told
        return driver.returncode

    def _wait(self, driver: subprocess.Popen[str]) -> None:
        """Wait for some cells, or for a part of the start, and then a little."""
        assert driver.stdout is not None
        if self.random.random() < 0.1:
            time.sleep(self.random.uniform(0, 3))
            return
        cells = self.random.randrange(4)
        for line in driver.stdout:
            cells -= bool(FINISHED.match(line))
            if cells < 0 or (cells == 0 and "to run." in line):
                break
        time.sleep(self.random.uniform(0, 0.3))


def test_a_grid_that_is_killed_again_and_again_ends_in_the_undisturbed_table(
    tmp_path: Path, injected: Injected
) -> None:
    grid = Grid(tmp_path)
    done = call(grid.command(tmp_path / "whole"), grid.cache)
    assert done.returncode == 0, done.stderr
    whole = outcomes(tmp_path / "whole")
    assert len(whole) == 84
    ways = [(), ("--workers", "2"), ("--isolation", "process")]
    for life in range(3 * KILLS):
        code = grid.life(*ways[life % 3])
        found = outcomes(grid.results) if grid.results.exists() else {}  # nothing is half-written
        assert all(whole[cell] == came_out for cell, came_out in found.items())
        if code == 0:
            break
    missing = lost(found, whole)
    for victim, times in grid.kills.items():
        injected(f"kill -9 of the {victim} of a grid of 84 cells", times, missing)
    assert not missing
    assert grid.kills.total() >= 20
    assert min(grid.kills["driver"], grid.kills["worker"]) >= 3
    texts = [len(list(folder.rglob("*.generations.jsonl"))) for folder in (grid.results, tmp_path / "whole")]
    assert texts == [21, 21]


KILLED_WRITING = """
import os
import sys
from pathlib import Path

from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import write_record

root, new, owner, name, calls = sys.argv[1:]
owner, calls = {"os": os, "path": Path}[owner], int(calls)
was = getattr(owner, name)


def die(*arguments, **options):
    global calls
    calls -= 1
    if calls == 0:
        os.kill(os.getpid(), 9)
    return was(*arguments, **options)


setattr(owner, name, die)
write_record(Path(root), CellRecord.model_validate_json(Path(new).read_bytes()))
"""


def test_a_write_that_is_killed_at_any_step_leaves_the_old_record(tmp_path: Path, injected: Injected) -> None:
    """The new one has another identity, so the old one is put beside it: that takes two writes."""
    old = fakes.record(fakes.SMALL[0], fakes.THREE[0], 0)
    (tmp_path / "new.json").write_text(old.model_copy(update={"identity": "f" * 16}).model_dump_json())
    kinds = (("os", "fdopen"), ("os", "fsync"), ("path", "chmod"), ("path", "replace"))
    steps = [(*kind, number) for kind in kinds for number in (1, 2)]
    gone = 0
    for number, (owner, name, calls) in enumerate(steps):
        root = tmp_path / str(number)
        write_record(root, old)
        words = [sys.executable, "-c", KILLED_WRITING, root, tmp_path / "new.json", owner, name, str(calls)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert read_records(root) == ([old], [])
        gone += find(root, old.cell, old.identity) != old
        write_record(root, old)
        assert find(root, old.cell, old.identity) == old
    injected("kill -9 in the middle of writing a record", len(steps), gone)
    assert not gone


@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--isolation", "process")], ids=" ".join)
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_keeps_what_is_finished(
    tmp_path: Path, injected: Injected, more: tuple[str, ...], times: int
) -> None:
    words = command(tmp_path / "out", "pooled,dhrd,majority", *more, tasks=EVERY_TASK, seeds="4")
    driver = start(words, tmp_path / "cache")
    assert driver.stdout is not None
    lines = []
    for line in driver.stdout:
        lines.append(line)
        if line.startswith("3/"):
            break
    workers = workers_of(driver.pid)
    assert bool(workers) == bool(more)
    for _ in range(times):
        os.kill(driver.pid, signal.SIGINT)
        time.sleep(0.1)
    said, told = driver.communicate(timeout=300)
    assert driver.returncode == 130, told
    assert "Traceback" not in told
    assert all_end(workers)
    if times == 1:
        assert "goes on with the missing ones" in " ".join(said.split())
    # An interrupt while a line is being written has it written again with the next one.
    finished = len({found[0] for line in [*lines, *said.splitlines()] if (found := FINISHED.match(line))})
    kept = len(outcomes(tmp_path / "out"))
    injected(f"Ctrl-C, {times} of it, {' '.join(more) or 'one process'}", times, max(0, finished - kept))
    assert 3 <= finished <= kept < 84, "".join(lines) + said
    assert not list((tmp_path / "out").rglob("*.tmp"))
