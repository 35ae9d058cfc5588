"""Trackers hear of every cell, whatever becomes of them; records know nothing of it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grids import FAST, plan, registry_as_it_was, run
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from dhrd_bench.cli import app
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan
from dhrd_bench.grid.run import run_plan, tracked
from dhrd_bench.progress import Display
from dhrd_bench.request import RunRequest
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.tracking.display import TrackedDisplay, final_figures
from dhrd_bench.tracking.loggers import TrackedCell, logger_of

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

TWO_EPOCHS = FAST.replace("epochs=1", "epochs=2")
SECRET = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Heard:
    """A run as a tracker has it: its cell, what was logged at which step, the end."""

    cell: TrackedCell
    steps: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    final: dict[str, float] | None = None
    ok: bool | None = None

    def log(self, figures: Mapping[str, float], step: int) -> None:
        assert self.final is None
        self.steps.append((step, dict(figures)))

    def end(self, figures: Mapping[str, float], *, ok: bool) -> None:
        assert self.final is None
        self.final, self.ok = dict(figures), ok

    def told(self, name: str) -> list[float]:
        return [figures[name] for _, figures in self.steps if name in figures]


class Listening:
    """A tracker that remembers; `failing` names what raises in it."""

    def __init__(self, failing: str = "") -> None:
        self.runs: list[Heard] = []
        self.failing, self.failures = failing, 0

    def begin(self, cell: TrackedCell) -> Heard:
        self._fail("begin")
        run = Heard(cell)
        if self.failing:
            for name in ("log", "end"):
                setattr(run, name, self._first(name, getattr(run, name)))
        self.runs.append(run)
        return run

    def _first(self, name: str, then: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: Any, **options: Any) -> None:
            self._fail(name)
            then(*arguments, **options)

        return called

    def _fail(self, name: str) -> None:
        if name == self.failing:
            self.failures += 1
            raise ConnectionError("the server\nis down")


def known(monkeypatch: pytest.MonkeyPatch, **loggers: Listening) -> None:
    monkeypatch.setattr("dhrd_bench.grid.run.logger_of", lambda name: loggers[name])


def run_shown(wanted: Plan) -> tuple[list[CellRecord], str]:
    console = Console(record=True, quiet=False, file=open("/dev/null", "w"), width=200)  # noqa: SIM115, PTH123
    return run_plan(wanted, Display(console, len(wanted.missing))), console.export_text()


# ---------------------------------------------------------------- what is told


def test_a_run_hears_settings_steps_epochs_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = Listening()
    known(monkeypatch, wandb=listening)
    wanted = plan(tmp_path, methods="pooled,majority", tasks="rte", seeds="1", budget=TWO_EPOCHS, track="wandb")
    records = {record.cell.method: record for record in run(wanted)}
    heard = {one.cell.settings["method"]: one for one in listening.runs}
    assert set(heard) == set(records) == {"pooled", "majority"}
    assert {one.cell.group for one in listening.runs} == {f"mini7 tiny {wanted.cells[0].cell.budget}"}
    trained, record = heard["pooled"], records["pooled"]
    assert trained.cell.settings["budget.epochs"] == 2
    assert trained.cell.settings["identity"] == record.identity
    assert record.train.steps is not None
    assert record.train.epochs is not None
    losses = trained.told("loss")
    assert len(losses) == record.train.steps == 2  # one a step, two epochs of a step each
    assert losses == pytest.approx([epoch["loss"] for epoch in record.train.epochs])
    assert trained.told("dev_accuracy") == [epoch["dev_accuracy"] for epoch in record.train.epochs]
    assert [step for step, _ in trained.steps] == [1, 1, 2, 2]
    assert record.timing is not None
    assert trained.final == final_figures(record)
    assert (trained.final["score"], trained.final["qps"]) == (record.score, record.timing.qps)
    assert trained.ok
    assert heard["majority"].steps == []


def test_a_failed_cell_ends_its_run_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = Listening()
    known(monkeypatch, mlflow=listening)
    wanted = plan(tmp_path, methods="pooled", tasks="rte", seeds="1", track="mlflow")
    monkeypatch.setattr(wanted.cells[0].method.cls, "predict", lambda *_: 1 / 0)
    (record,) = run(wanted)
    assert record.status == "failed"
    (heard,) = listening.runs
    assert heard.ok is False
    assert heard.told("loss")


def test_an_interrupt_closes_open_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = Listening()
    known(monkeypatch, mlflow=listening)
    wanted = plan(tmp_path, methods="majority", tasks="rte", seeds="2", track="mlflow")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wanted.cells[0].method.cls, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(wanted)
    assert [(one.final, one.ok) for one in listening.runs] == [({}, False)]


@pytest.mark.parametrize("what", ["begin", "log", "end"])
def test_a_tracker_that_raises_is_told_of_once_and_costs_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, listening = Listening(what), Listening()
    known(monkeypatch, wandb=broken, mlflow=listening)
    wanted = plan(tmp_path, methods="pooled", tasks="rte", seeds="2", track="wandb,mlflow")
    records, shown = run_shown(wanted)
    assert [record.status for record in records] == ["ok", "ok"]
    assert shown.count("wandb hears no more of this run: ConnectionError: the server is down") == 1
    assert broken.failures == 1
    assert [one.final for one in listening.runs] == [final_figures(record) for record in records]


@given(st.data())
def test_figures_of_cells_that_run_beside_each_other_stay_apart(data: st.DataObject) -> None:
    names = ["a", "b", "c"]
    told: dict[str, list[tuple[int, dict[str, float]]]] = {
        name: data.draw(st.lists(st.tuples(st.integers(1, 99), st.floats(0, 9).map(lambda x: {"loss": x})), max_size=4))
        for name in names
    }
    turns = data.draw(st.permutations([name for name in names for _ in told[name]]))
    listening, left = Listening(), {name: list(told[name]) for name in names}
    display = Display(Console(quiet=True), 3)
    with TrackedDisplay(display, [TrackedCell(name, "g", {}) for name in names], {"x": listening}) as shown:
        for name in names:
            shown.begin(name)
        for name in turns:
            step, figures = left[name].pop(0)
            shown.turn_to(name)
            shown.step("train", step, 100, figures)
            shown.step("predict", 1, 2, {"tokens a row": 1.0})
    assert {one.cell.name: one.steps for one in listening.runs} == told


@pytest.mark.slow
def test_a_process_of_its_own_tells_of_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = Listening()
    known(monkeypatch, wandb=listening)
    wanted = plan(
        tmp_path, methods="pooled", tasks="rte", seeds="1", budget=TWO_EPOCHS, track="wandb", isolation="process"
    )
    (record,) = run(wanted)
    assert record.isolation == "process"
    assert record.train.epochs is not None
    (heard,) = listening.runs
    assert heard.told("dev_accuracy") == [epoch["dev_accuracy"] for epoch in record.train.epochs]


# ---------------------------------------------------------------- what is asked for


def test_names_are_read_and_the_nearest_is_suggested(tmp_path: Path) -> None:
    assert RunRequest(track="wandb, mlflow").track == ("mlflow", "wandb")
    assert RunRequest().track == ()
    options = ["run", "--methods", "majority", "--results", str(tmp_path), "--track"]
    done = CliRunner().invoke(app, [*options, "wandv"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "Unknown tracker 'wandv'. Did you mean 'wandb'?"
    with pytest.raises(UserError, match="No tracker was named"):
        RunRequest(track=",")


def test_a_library_that_is_not_there_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    wanted = plan(tmp_path, methods="majority", tasks="rte", seeds="1", track="wandb")
    with pytest.raises(UserError, match=r"wandb cannot be imported .* pip install 'dhrd-bench\[wandb\]'"):
        run(wanted)
    assert list(tmp_path.rglob("*.json")) == []


def test_records_and_identities_do_not_tell_who_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, wandb=Listening())
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    one: dict[str, Any] = {"methods": "majority", "tasks": "rte", "seeds": "1"}
    (alone,), (told,) = run(plan(tmp_path / "a", **one)), run(plan(tmp_path / "b", track="wandb", **one))
    assert told.identity == alone.identity
    assert told.request == alone.request
    assert all(SECRET not in path.read_text() for path in tmp_path.rglob("*.json"))


# ---------------------------------------------------------------- the libraries themselves, offline

CELL = TrackedCell("rte seed 0 x", "mini7 tiny smoke", {"seed": 0, "method": "x[alpha=0.5]", "budget.epochs": 3})


def log_two_cells(name: Any) -> None:
    """Two runs at a time, the second of which fails."""
    logger = logger_of(name)
    first, second = logger.begin(CELL), logger.begin(TrackedCell("other", CELL.group, {"seed": 1}))
    for step, loss in ((1, 0.5), (2, 0.25)):
        first.log({"loss": loss, "tok/s": 9.0}, step)
        second.log({"loss": 2 * loss}, step)
    first.log({"dev_accuracy": 75.0}, 2)
    first.end({"score": 80.0, "qps": 3.5}, ok=True)
    second.end({}, ok=False)


def test_wandb_has_both_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "PROJECT": "mine"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    log_two_cells("wandb")
    wandb.teardown()  # its process writes on after `finish`
    runs = {}
    for path in tmp_path.glob("wandb/offline-run-*/*.wandb"):
        records = list(wandb_records(path))
        (start,) = [each.run for each in records if each.WhichOneof("record_type") == "run"]
        runs[start.display_name] = (start, records)
    assert set(runs) == {CELL.name, "other"}
    start, records = runs[CELL.name]
    assert (start.project, start.run_group) == ("mine", CELL.group)
    settings = {item.key: item.value_json for item in start.config.update}
    assert (settings["method"], settings["budget.epochs"]) == ('"x[alpha=0.5]"', "3")
    steps = [
        {item.nested_key[0]: float(item.value_json) for item in each.history.item}
        for each in records if each.WhichOneof("record_type") == "history"
    ]  # fmt: skip
    assert [(step["_step"], step["loss"], step.get("dev_accuracy")) for step in steps] == [
        (1, 0.5, None),
        (2, 0.25, 75),
    ]
    summary = {item.key: item.value_json for each in records for item in each.summary.update}
    assert float(summary["score"]) == 80
    for name, code in ((CELL.name, 0), ("other", 1)):
        assert [each.exit.exit_code for each in runs[name][1] if each.WhichOneof("record_type") == "exit"] == [code]


def wandb_records(path: Path) -> Iterator[Any]:
    """Read the log of a run, which is LevelDB's: blocks of 32 KiB, in them parts with a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        _, length, kind = struct.unpack_from("<IHB", data, at) if left >= 7 else (0, 0, 0)
        if kind == 0:  # filling
            at += left
            continue
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


@pytest.mark.slow
def test_mlflow_has_both_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    log_two_cells("mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("dhrd-bench")
    runs = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    assert {name: each.info.status for name, each in runs.items()} == {CELL.name: "FINISHED", "other": "FAILED"}
    data = runs[CELL.name].data
    assert data.tags["group"] == CELL.group
    assert data.params == {name: str(value) for name, value in CELL.settings.items()}
    assert (data.metrics["score"], data.metrics["dev_accuracy"]) == (80, 75)
    losses = client.get_metric_history(runs[CELL.name].info.run_id, "loss")
    assert [(each.step, each.value) for each in losses] == [(1, 0.5), (2, 0.25)]


def test_trackio_has_both_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    log_two_cells("trackio")
    logs = {
        each["name"]: SQLiteStorage.get_logs("dhrd-bench", each["name"], run_id=each["id"])
        for each in SQLiteStorage.get_run_records("dhrd-bench")
    }
    assert set(logs) == {CELL.name, "other"}
    assert [(line["step"], line["loss"]) for line in logs[CELL.name] if "loss" in line] == [(1, 0.5), (2, 0.25)]
    assert [line["score"] for line in logs[CELL.name] if "score" in line] == [80.0]
    assert [line["failed"] for line in logs["other"] if "failed" in line] == [1.0]


def test_trackio_is_asked_for_runs_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its `init` ends the run of its context; this stand-in does what the library does there."""
    from contextvars import ContextVar

    current: ContextVar[Heard | None] = ContextVar("current", default=None)

    def init(project: str, name: str, group: str, config: dict[str, Any]) -> Any:
        sys.stdout.write("much ado")
        if before := current.get():
            before.end({}, ok=False)
        run = Heard(TrackedCell(name, group, config))
        current.set(run)
        made.append(run)
        return SimpleNamespace(log=run.log, finish=lambda: run.end({}, ok=True))

    made: list[Heard] = []
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init))
    log_two_cells("trackio")
    assert [one.steps[-1] for one in made] == [
        (2, {"score": 80.0, "qps": 3.5, "failed": 0.0}),
        (2, {"failed": 1.0}),
    ]
    assert made[0].cell == CELL
    assert capsys.readouterr().out == ""  # the display is there


def test_settings_are_what_the_identity_is_made_of(tmp_path: Path) -> None:
    (planned,) = plan(tmp_path, methods="dhrd[alpha=0.5]", tasks="rte", seeds="1").cells
    settings = tracked(planned).settings
    assert settings["method.alpha"] == 0.5
    assert {name.split(".")[1] for name in settings if name.startswith("budget.")} == set(planned.parts.budget)
    assert not [value for value in settings.values() if isinstance(value, dict)]
    assert str(tmp_path) not in str(settings)
