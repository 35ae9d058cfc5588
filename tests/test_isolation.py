"""What a method can reach while it works, and for how long it may."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from grids import FAST, outcome, plan, registry_as_it_was, run
from rich.console import Console

from dhrd_bench import plugins
from dhrd_bench.commands.check import check_command
from dhrd_bench.commands.run import run_command
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid import isolation, landlock, wire
from dhrd_bench.grid.perform import OutOfTimeError, at_most
from dhrd_bench.grid.seal import Seal, SealedFileError, refusing
from dhrd_bench.request import RunRequest
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import read_records

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

ROOT = Path(__file__).parent.parent
needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this system has no Landlock")

REACHES = """
    import ctypes
    import gc
    import os
    import socket
    import subprocess
    from pathlib import Path

    import dhrd_bench as db


    @db.register
    class Reaches(db.Method):
        card = db.MethodCard(name="reaches", summary="s", objective="o", paper="none", inference="none")

        class Params(db.MethodParams):
            way: str = "open"
            place: str = PLACE

        def fit(self, task, context):
            if not task.train:
                raise ValueError("no train rows")
            context.train_log["got"] = bool(getattr(self, self.params.way)(Path(self.params.place)))

        def predict(self, examples, context):
            zeros = [0] * len(examples)
            return db.Predictions(labels=zeros, tokens_in=zeros, tokens_out=zeros)

        def nothing(self, path):
            return False

        def open(self, path):
            return path.read_text()

        def swallow(self, path):
            try:
                return path.read_text()
            except Exception:
                return ""

        def link(self, path):
            link = Path(os.environ.get("TMPDIR", "/tmp"), f"link-{os.getpid()}")
            link.symlink_to(path)
            return self.swallow(link)

        def library(self, path):
            return ctypes.CDLL(None).open(str(path).encode(), os.O_RDONLY) >= 0

        def program(self, path):
            return subprocess.run(["cat", path], capture_output=True).stdout

        def records(self, path):
            return any(self.program(file) for file in path.parents[3].joinpath("out").rglob("seed-0.json"))

        def memory(self, path):
            return [each for each in gc.get_objects() if type(each).__name__ == "TestSplit"]

        def parent(self, path):
            return ctypes.CDLL(None).open(f"/proc/{os.getppid()}/mem".encode(), os.O_RDONLY) >= 0

        def network(self, path):
            with socket.create_server(("127.0.0.1", 0)) as server:
                try:
                    return socket.create_connection(server.getsockname(), timeout=5)
                except PermissionError:
                    return False
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A plug-in that tries to reach the rows of a data folder; the folder."""
    folder = tmp_path / "place" / "data"
    (folder / "RTE").mkdir(parents=True)
    for name in ("train.jsonl", "val.jsonl"):
        (folder / "RTE" / name).write_bytes((ROOT / "suites" / "mini7" / "RTE" / name).read_bytes())
    write_plugin(tmp_path / "plugins", "reaches", REACHES.replace("PLACE", repr(str(folder / "RTE" / "val.jsonl"))))
    return folder


def write_plugin(folder: Path, name: str, source: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    plugins.include(folder)


def ways(data: Path, *names: str, **changes: Any) -> dict[str, CellRecord]:
    """Run a cell of the plug-in for each way, and one of a built-in method; return the records by way."""
    methods = tuple(f"reaches[way={name}]" for name in names)
    out = data.parents[1] / "out"
    wanted = plan(out, methods=(*methods, "majority"), seeds="0", tasks="rte", data_dir=data, **changes)
    records = {record.cell.method: record for record in run(wanted)}
    others = records.pop("majority", None)
    assert others is None or others.status == "ok", "the other cells run on"
    return dict(zip(names, records.values(), strict=True))


# ---------------------------------------------------------------- labels


@needs_landlock
def test_no_way_leads_a_plug_in_to_the_labels(data: Path) -> None:
    """The majority's record is there when the second round looks for records."""
    assert ways(data, "nothing")["nothing"].status == "ok"
    found = ways(data, "open", "swallow", "link", "library", "program", "records", "memory", "parent", "network")
    assert {record.isolation for record in found.values()} == {"process"}
    for seen in ("open", "swallow", "link"):  # an attempt that Python sees is a failure, be it swallowed or not
        assert (found[seen].status, found[seen].error) == (
            "failed", "SealedFileError: it opens 'data/RTE/val.jsonl', where test labels may be had"
        )  # fmt: skip
    blind = ("library", "program", "records", "memory", "parent", "network")
    got = {name: (found[name].status, found[name].train.model_dump()["got"]) for name in blind}
    network_is_closed = landlock.version() >= 4
    assert got == dict.fromkeys(blind, ("ok", False)) | {"network": ("ok", not network_is_closed)}


def test_where_there_is_no_process_what_python_opens_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    found = ways(data, "open", "swallow", "link", "program")
    assert {record.isolation for record in found.values()} == {"audit"}
    assert [record.status for record in found.values()] == ["failed", "failed", "failed", "ok"]
    assert found["program"].train.model_dump()["got"] is True, "as the documents say"
    assert str(data.parent) not in (found["open"].error or "")
    with pytest.raises(UserError, match=r"no process for 'reaches': this system.* --isolation audit"):
        ways(data, "open", isolation="process")


@needs_landlock
def test_in_a_process_of_its_own_a_cell_comes_out_the_same(tmp_path: Path) -> None:
    # Texts with a mark are cut around it: the limit is such that all kinds of rows are cut.
    budget = FAST.replace("max_length=96", "max_length=60")
    wanted = {"methods": "pooled,cot", "tasks": "rte,copa,wsc,wic", "seeds": "0", "budget": budget}
    here = run(plan(tmp_path / "here", isolation="none", **wanted))
    apart = run(plan(tmp_path / "apart", isolation="process", **wanted))
    assert [record.isolation for record in (*here, *apart)] == ["none"] * 8 + ["process"] * 8
    assert list(map(outcome, apart)) == list(map(outcome, here))
    assert [record.timing and record.timing.tokens_in for record in apart] == [
        record.timing and record.timing.tokens_in for record in here
    ]
    texts = [[path.read_text() for path in sorted((tmp_path / name).rglob("*.jsonl"))] for name in ("here", "apart")]
    assert len(texts[0]) == 4
    assert texts[0] == texts[1]


@needs_landlock
def test_a_first_process_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no process is said once, for the whole run: a kill at that moment must not say it."""
    start, starts = isolation.CellProcess, []

    def killed(*arguments: Any) -> Any:
        starts.append(1)
        if len(starts) == 1:
            raise isolation.CellProcessError("ProcessEnded: the method's process was ended by signal 9")
        return start(*arguments)

    monkeypatch.setattr(isolation, "CellProcess", killed)
    records = run(plan(tmp_path, methods="majority", tasks="copa,rte", seeds="0", isolation="process"))
    assert [(record.status, record.isolation) for record in records] == [("ok", "process")] * 2
    assert len(starts) == 2


@pytest.mark.parametrize("prompt", ["native", "paper"])
def test_what_is_sent_is_what_arrives(prompt: str) -> None:
    for task in (suite := Suite.named("mini7")).resolve_tasks(None):
        loaded = suite.load(task, prompt=prompt)
        for example in loaded.test.examples:
            assert wire._example(*json.loads(json.dumps(wire._row(example)))) == example


@needs_landlock
def test_what_a_process_leaves_is_all_there(tmp_path: Path) -> None:
    """Its fitted method can be kept; its end costs its cell only."""
    write_plugin(
        tmp_path / "p",
        "ends",
        """
        import os
        import dhrd_bench as db

        @db.register
        class Ends(db.method("majority")):
            card = db.method("majority").card.model_copy(update={"name": "ends", "role": "method"})

            def fit(self, task, context):
                if task.card.name == "COPA":
                    os.kill(os.getpid(), 9)
                super().fit(task, context)
        """,
    )
    from dhrd_bench.grid.run import run_plan
    from dhrd_bench.progress import Display

    wanted = plan(tmp_path / "out", methods="ends,majority", tasks="copa,rte", seeds="0")
    kept = {}

    def keep(save: Any, planned: Any) -> None:
        folder = tmp_path / f"kept-{planned.identity}"
        folder.mkdir()
        save(folder)
        kept[planned.cell.method, planned.cell.task] = {path.name: path.read_text() for path in folder.iterdir()}

    dead, *others = run_plan(wanted, Display(Console(quiet=True), 4), keep)
    assert (dead.status, dead.error) == ("failed", "ProcessEnded: the method's process was ended by signal 9")
    assert [record.status for record in others] == ["ok"] * 3
    assert kept["ends", "RTE"] == kept["majority", "RTE"] != {}


def test_a_seal_opens_what_is_nearest(tmp_path: Path) -> None:
    """The paths that are handed to the kernel say the same as the rule, file by file."""
    root = tmp_path.resolve()
    names = ["a.txt", "data/rows.jsonl", "data/env/lib.py", "data/env/data/rows.jsonl", "other/deep/b.txt", "one.jsonl"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "way").symlink_to(root / "data")
    closed = frozenset({root / "data", root / "data" / "env" / "data", root / "one.jsonl"})
    seal = Seal(closed, frozenset({root / "data" / "env"}))
    open_ = [name for name in names if seal.closer(root / name) is None]
    assert open_ == ["a.txt", "data/env/lib.py", "other/deep/b.txt"]
    readable = set(seal.readable())
    assert [name for name in names if readable & {root / name, *(root / name).parents}] == open_
    if not landlock.version():
        return
    script = """
        import sys
        from pathlib import Path
        from dhrd_bench.grid import landlock
        landlock.restrict(map(Path, sys.argv[1].split(":")), network=True)
        for name in sys.argv[2:]:
            try:
                Path(name).read_text()
            except PermissionError:
                continue
            print(name)
        """
    places = [*map(str, sorted(root / name for name in names)), str(root / "way" / "rows.jsonl")]
    command = [sys.executable, "-c", textwrap.dedent(script), ":".join(map(str, readable)), *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == sorted(str(root / name) for name in open_)


def test_what_is_refused_is_open_again_afterwards(tmp_path: Path) -> None:
    file = tmp_path.resolve() / "rows.jsonl"
    file.write_text("rows")
    with pytest.raises(SealedFileError, match=r"rows\.jsonl"), refusing(Seal(frozenset({file}), frozenset())):
        file.open()
    assert file.read_text() == "rows"


# ---------------------------------------------------------------- check


def test_check_names_the_file_and_a_run_says_what_has_not_passed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))

    def check(method: str) -> tuple[int, str]:
        console = Console(width=200, record=True, file=io.StringIO())
        code = check_command([method], everything=False, backbone="tiny", data_dir=data, as_json=False, console=console)
        return code, console.export_text()

    def notes(method: str) -> list[str]:
        console = Console(width=200, record=True, file=io.StringIO())
        request = RunRequest(
            methods=(method,), tasks="rte", backbone="tiny", budget=FAST, seeds="1", results=tmp_path / "out",
        )  # fmt: skip
        assert run_command(request, console) == 0
        return [line for line in console.export_text().splitlines() if "dhrd-bench check" in line]

    code, said = check("reaches")
    assert code == 1
    assert "reaches fails test-labels: the harness recorded a failure: SealedFileError: it opens" in said
    assert "'data/RTE/val.jsonl'" in said
    assert "1 failed" in said
    (note,) = notes("reaches[way=nothing]")
    assert note.startswith("note reaches[way=nothing]: has not passed 'dhrd-bench check' as it stands")
    assert check("reaches[way=nothing]")[0] == 0
    request = RunRequest(
        methods=("reaches[way=nothing]", "majority"), tasks="rte", backbone="tiny", budget=FAST, seeds="2",
        results=tmp_path / "other",
    )  # fmt: skip
    console = Console(width=200, record=True, file=io.StringIO())
    assert run_command(request, console) == 0
    assert "has not passed" not in console.export_text()


# ---------------------------------------------------------------- time


HANGS = """
    import time
    import dhrd_bench as db

    @db.register
    class Hangs(db.method("majority")):
        card = db.method("majority").card.model_copy(update={"name": "hangs", "role": "method"})

        def fit(self, task, context):
            while True:
                try:
                    time.sleep(0.01)
                except Exception:
                    pass
    """


@pytest.mark.parametrize("where", ["none", pytest.param("process", marks=[needs_landlock, pytest.mark.slow])])
def test_a_cell_that_hangs_ends_with_a_record_that_names_the_limit(tmp_path: Path, where: str) -> None:
    write_plugin(tmp_path / "p", "hangs", HANGS)
    wanted = {"methods": "hangs,majority", "tasks": "rte", "seeds": "0", "isolation": where}
    limited = plan(tmp_path / "out", cell_timeout="8s", **wanted)
    records = run(limited)
    assert [record.status for record in records] == ["failed", "ok"]
    assert "OutOfTimeError: the cell's time limit of 8 s is over (--cell-timeout)" in (records[0].error or "")
    if where == "none":
        assert re.search(r"\(hangs\.py:\d+, in fit\)$", records[0].error or "")
    again = plan(tmp_path / "out", **wanted)
    assert [planned.cell.method for planned in again.missing] == ["hangs"]
    assert [cell.identity for cell in again.cells] == [cell.identity for cell in limited.cells]


STARTS = """
    import subprocess
    import time
    from pathlib import Path
    import dhrd_bench as db

    @db.register
    class Starts(db.method("majority")):
        card = db.method("majority").card.model_copy(update={"name": "starts", "role": "method"})

        def fit(self, task, context):
            self.child = subprocess.Popen(["sleep", "600"])
            Path(PLACE).write_text(str(self.child.pid))
            time.sleep(600)
    """


@needs_landlock
def test_what_a_method_has_started_ends_with_its_process(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    write_plugin(tmp_path / "p", "starts", STARTS.replace("PLACE", repr(str(note))))
    wanted = {"methods": "starts", "tasks": "rte", "seeds": "0", "isolation": "process"}
    (record,) = run(plan(tmp_path / "out", cell_timeout="8s", **wanted))
    assert record.status == "failed"
    status = Path(f"/proc/{int(note.read_text())}/stat")
    for _ in range(200):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("it sleeps on")


def test_a_limit_that_is_swallowed_comes_again_and_leaves_nothing_behind() -> None:
    @at_most(0.1)
    def stubborn() -> None:
        try:
            time.sleep(30)
        except BaseException:
            time.sleep(30)

    with pytest.raises(OutOfTimeError):
        stubborn()
    time.sleep(1.2)  # no alarm is left


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), ("1h30m", 5400), (45, 45)])
def test_times(text: Any, seconds: float) -> None:
    assert RunRequest(cell_timeout=text).cell_timeout == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-3", "5 parsecs"])
def test_times_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match="Cannot read the time"):
        RunRequest(cell_timeout=text)


def test_an_isolation_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'process'"):
        RunRequest(isolation="proces")  # type: ignore[arg-type]


# ---------------------------------------------------------------- folders, and once more


def test_a_plug_in_that_goes_to_another_folder_goes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "p").mkdir()
    source = """
        import os
        import dhrd_bench as db

        os.chdir("elsewhere")

        @db.register
        class Wanders(db.method("majority")):
            card = db.method("majority").card.model_copy(update={"name": "wanders", "role": "method"})

            def fit(self, task, context):
                os.chdir("/")
                super().fit(task, context)
        """
    (tmp_path / "p" / "wanders.py").write_text(textwrap.dedent(source))
    for where in ("none", "auto"):
        wanted = plan(
            Path(where), methods="wanders,majority", tasks="rte", seeds="0", isolation=where, include=(Path("p"),)
        )
        assert [record.status for record in run(wanted)] == ["ok", "ok"]
        assert len(read_records(tmp_path / where)[0]) == 2
    assert Path.cwd() == tmp_path


def test_by_force_a_cell_is_run_again_and_a_failure_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"methods": "majority", "tasks": "rte", "seeds": "0"}
    (first,) = run(plan(tmp_path, **wanted))
    assert plan(tmp_path, **wanted).missing == []
    (second,) = run(plan(tmp_path, force=True, **wanted))
    (kept,) = read_records(tmp_path)[0]
    assert kept == second != first
    assert outcome(second) == outcome(first)
    assert second.request is not None
    assert second.request.force is False, "who runs the record's request does not force anything"

    def broken(*_: Any) -> None:
        raise ValueError("scored by nobody")

    monkeypatch.setattr(isolation, "score", broken)
    (third,) = run(plan(tmp_path, force=True, **wanted))
    assert third.status == "failed"
    assert read_records(tmp_path)[0] == [second]
