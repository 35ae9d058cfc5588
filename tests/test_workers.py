"""Several cells at a time, and parts of a grid: the records are those of one cell after the other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grids import FAST, outcome, plan, registry_as_it_was, run
from rich.console import Console
from typer.testing import CliRunner

from dhrd_bench import plugins
from dhrd_bench.cli import app
from dhrd_bench.commands.run import run_command
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import PlannedCell, make_plan
from dhrd_bench.grid.run import run_plan
from dhrd_bench.grid.workers import attempts_by
from dhrd_bench.progress import Display
from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.request import RunRequest
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import read_records

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

FATAL = """
    import os
    import signal

    import dhrd_bench as db


    @db.register
    class Fatal(db.Method):
        card = db.MethodCard(name="fatal", summary="s", objective="o", paper="none", inference="none")

        def fit(self, task, context):
            os.kill(os.getpid(), signal.SIGKILL)

        def predict(self, examples, context):
            return db.Predictions(labels=[0] * len(examples))
"""


def by_identity(records: list[CellRecord]) -> dict[str, CellRecord]:
    return {record.identity: record for record in records}


class _Ready:
    """A runner that has every cell done at once."""

    def run(self, planned: PlannedCell, step: object) -> str:
        return planned.name

    def end(self) -> None: ...


def test_workers_begin_no_cell_once_they_are_not_to_go_on(tmp_path: Path) -> None:
    cells = plan(tmp_path, methods="majority", seeds="3").cells
    asked: list[int] = []

    def goes_on() -> bool:
        asked.append(1)
        return len(asked) <= 2

    runners: Any = [_Ready(), _Ready()]
    done = list(attempts_by(runners, cells, Display(Console(quiet=True), 9), lambda: None, goes_on))
    assert len(done) == 2 < len(cells)


def test_two_workers_leave_the_records_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)  # sums of several threads are rounded otherwise
    wanted: dict[str, Any] = {"methods": "pooled,dhrd,cot,majority", "seeds": "1"}
    alone = by_identity(run(plan(tmp_path / "one", **wanted)))
    together = by_identity(run(plan(tmp_path / "two", workers=2, **wanted)))
    assert alone.keys() == together.keys()
    for identity, record in alone.items():
        other = together[identity]
        assert outcome(other) == outcome(record)
        assert other.request == record.request, "who ran the cells is not part of what was asked for"
        assert (record.environment.workers, other.environment.workers) == (None, 2)
    one, two = (
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.generations.jsonl"))
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 2
    assert not plan(tmp_path / "two", **wanted).missing
    for name, said in (("one", False), ("two", True)):
        page = analyse(load_results(tmp_path / name), resamples=100).render("markdown")
        assert ("ran beside others" in page) == said


def test_a_cell_does_not_depend_on_those_before_it_in_its_process(tmp_path: Path) -> None:
    """After a kill, and with workers, others come first, or none."""
    after = by_identity(run(plan(tmp_path / "after", seeds="2")))
    alone = run(plan(tmp_path / "alone", seeds="1,"))
    assert {record.cell.seed for record in alone} == {1}
    assert all(outcome(record) == outcome(after[record.identity]) for record in alone)


def test_shards_are_the_grid(tmp_path: Path) -> None:
    whole = [planned.identity for planned in plan(tmp_path, seeds="6").cells]
    shards = [[planned.identity for planned in plan(tmp_path, seeds="6", shard=f"{i}/3").cells] for i in (1, 2, 3)]
    assert sorted(identity for shard in shards for identity in shard) == sorted(whole)
    assert all(shards)
    fewer = [planned.identity for planned in plan(tmp_path, seeds="6", tasks="rte", shard="1/3").cells]
    assert set(fewer) <= set(shards[0]), "a cell is in the same shard whatever else is planned"
    alone: dict[str, Any] = {"methods": "majority", "tasks": "rte", "seeds": "0"}
    (only,) = (index for index in range(1, 9) if plan(tmp_path, shard=f"{index}/8", **alone).cells)
    empty = RunRequest(
        methods=("majority",), tasks=("rte",), seeds=(0,), backbone="tiny", budget=FAST, results=tmp_path / "none",
        shard=f"{only % 8 + 1}/8",
    )  # fmt: skip
    assert run_command(empty, Console(quiet=True)) == 0


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"2/8"):
        RunRequest(shard=text)


@pytest.mark.slow  # `make chaos` kills workers, too
def test_a_worker_that_is_killed_costs_its_cell(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "fatal.py").write_text(textwrap.dedent(FATAL))
    plugins.include(folder)
    records = run(plan(tmp_path / "out", methods="fatal,majority,pooled", workers=2, include=(folder,)))
    assert {(record.cell.method, record.status) for record in records} == {
        ("fatal", "failed"), ("majority", "ok"), ("pooled", "ok"),
    }  # fmt: skip
    assert all("signal 9" in (record.error or "") for record in records if record.status == "failed")
    assert len(records) == 12


def test_a_method_that_no_worker_can_import_is_refused(tmp_path: Path) -> None:
    import dhrd_bench as db

    @db.register
    class Typed(db.Method):
        card = db.MethodCard(name="typed", summary="s", objective="o", paper="none", inference="none")

        def fit(self, task: Any, context: Any) -> None: ...

        def predict(self, examples: Any, context: Any) -> db.Predictions:
            return db.Predictions(labels=[0] * len(examples))

    with pytest.raises(UserError, match=r"Leave --workers out"):
        run(plan(tmp_path, methods="typed,majority", workers=2))


@pytest.mark.slow  # `make chaos` does it more often
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_an_interrupt_keeps_what_is_finished_and_leaves_no_process(tmp_path: Path, executor: str) -> None:
    command = [
        sys.executable, "-m", "dhrd_bench.cli", "run", "--executor", executor, "--workers", "2",
        "--methods", "majority,pooled", "--suite",
        "mini7", "--backbone", "tiny", "--budget", FAST.replace("epochs=1", "epochs=40"), "--seeds", "3", "--results",
        str(tmp_path / "out"),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "RAY_ADDRESS": "local"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment,
        # Who runs the tests in the background of a shell has interrupts ignored, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2/"):
                break
        workers = _workers_of(process.pid)
        assert 1 <= len(workers) <= 2, "on a cluster the second may not have begun"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert "goes on with the missing ones" in " ".join(rest.split())
    for _ in range(100):
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            break
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    records, problems = read_records(tmp_path / "out")
    assert not problems
    assert 2 <= len(records) < 42
    assert all(record.status == "ok" for record in records)


def _workers_of(ancestor: int) -> list[int]:
    """The workers that a process has started, or that what it has started has."""
    parents, commands = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, parent = int(status.parent.name), int(status.read_text().rpartition(")")[2].split()[1])
            parents[pid], commands[pid] = parent, (status.parent / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue

    def descends(pid: int) -> bool:
        return parents.get(pid) == ancestor or (pid in parents and descends(parents[pid]))

    return [pid for pid, command in commands.items() if b"dhrd_bench.grid.worker" in command and descends(pid)]


KEPT = """
    import os
    import signal

    import dhrd_bench as db


    @db.register
    class Kept(db.method("majority")):
        card = db.method("majority").card.model_copy(update={"name": "kept", "role": "method"})

        def fit(self, task, context):
            if context.task == "RTE":
                os.kill(os.getpid(), signal.SIGKILL)
            super().fit(task, context)
"""


def test_what_a_worker_has_saved_outlives_its_process(tmp_path: Path) -> None:
    """The worker goes on, and dies, while what it saved for an earlier cell is not yet fetched."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "kept.py").write_text(textwrap.dedent(KEPT))
    plugins.include(folder)
    wanted = plan(tmp_path / "out", methods="kept", tasks="copa,rte,cb", seeds="2", workers=2, include=(folder,))
    kept = []

    def keep(save: Callable[[Path], object], planned: PlannedCell) -> None:
        time.sleep(1.0)
        save(target := tmp_path / planned.identity)
        kept.append((planned.cell.task, [path.name for path in target.iterdir()]))

    records = run_plan(wanted, Display(Console(quiet=True), 6), keep)
    assert sorted(record.status for record in records) == ["failed"] * 2 + ["ok"] * 4
    assert sorted(task for task, _ in kept) == ["CB", "CB", "COPA", "COPA"]
    assert all(names for _, names in kept)


def test_the_job_array_of_the_documentation_is_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its script runs as SLURM would run it, with a stand-in that hands on how it was called."""
    page = (Path(__file__).parent.parent / "docs" / "grids.md").read_text(encoding="utf-8")
    script = page.partition("```bash\n")[2].partition("```")[0]
    first, last = re.findall(r"--array=(\d+)-(\d+)", script)[0]
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / "study.yaml").write_text(f"methods: majority\ntasks: copa\nbackbone: tiny\nseeds: 9\nbudget: {FAST}\n")
    stand_in = tmp_path / "dhrd-bench"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    asked: list[RunRequest] = []
    monkeypatch.setattr("dhrd_bench.commands.run.run_command", lambda request, console: asked.append(request))
    monkeypatch.chdir(tmp_path)
    for task in range(int(first), int(last) + 1):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task)}
        called = subprocess.run(["bash", "job.sh"], env=environment, capture_output=True, text=True, check=True)
        assert CliRunner().invoke(app, called.stdout.splitlines()).exit_code == 0
    assert {request.results for request in asked} == {Path("/shared/results")}
    shards = [planned.identity for request in asked for planned in make_plan(request).cells]
    whole = plan(tmp_path / "whole", methods="majority", tasks="copa", seeds="9")
    assert sorted(shards) == sorted(planned.identity for planned in whole.cells)
