"""A site of thousands of records."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from sites import unpacked, with_scores

pytestmark = pytest.mark.slow


def test_a_site_of_three_thousand_records_takes_little_memory_and_room(tmp_path: Path) -> None:
    tasks = [fakes.FakeTask(name, 200) for name in ("one", "two", "three", "four", "five", "six", "seven")]
    methods = [
        fakes.FakeMethod("base", role="baseline"),
        *(fakes.FakeMethod(f"method-{k}", 0.6 + 0.007 * k) for k in range(42)),
    ]
    made = fakes.records(tasks, methods, range(10))
    fakes.write(tmp_path / "results", [with_scores(record, at) for at, record in enumerate(made)])
    words = ["report", "--results", str(tmp_path / "results"), "--format", "html", "--output", str(tmp_path / "site")]
    process = subprocess.Popen(
        [sys.executable, "-m", "dhrd_bench.cli", *words], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss * 1024 < 2 * 2**30
    (entry,) = unpacked((tmp_path / "site" / "data" / "index.js").read_text(encoding="ascii"))["boards"]
    assert len(entry["cells"]["task"]) == len(made) == 3010
    sizes = [path.stat().st_size for path in (tmp_path / "site").rglob("*") if path.is_file()]
    assert len(sizes) < 30
    assert max(sizes) < 4 * 2**20  # what a page waits for
