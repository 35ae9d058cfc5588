"""Runs at the edges: plug-ins that misbehave, records that are odd, machines that lack something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import fakes
import pytest
from grids import plan, registry_as_it_was, run
from rich.console import Console

from dhrd_bench import plugins
from dhrd_bench.commands.run import run_command
from dhrd_bench.errors import UserError
from dhrd_bench.grid import run as running
from dhrd_bench.grid.record import plain
from dhrd_bench.report.timed import run_table
from dhrd_bench.request import RunRequest
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import read_record, read_records, record_path
from dhrd_bench.results.timed import read_timed, timed_path

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses


def with_method(folder: Path, fit: str, imports: str = "") -> None:
    """Include a method called "odd" whose fitting is `fit`."""
    folder.mkdir()
    source = f"""
        import dhrd_bench as db
        {imports}

        @db.register
        class Odd(db.Method):
            card = db.MethodCard(name="odd", summary="s", objective="o", inference="none", trains=False)

            def fit(self, task, context):
                {fit}

            def predict(self, examples, context):
                return db.Predictions(labels=[0] * len(examples))
        """
    (folder / "odd.py").write_text(textwrap.dedent(source))
    plugins.include(folder)


def one_record(root: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """Write one record and return its place and its content."""
    made = fakes.record(fakes.SMALL[0], fakes.THREE[0], 0, **changes)
    fakes.write(root, [made])
    path = record_path(root, made.cell)
    return path, json.loads(path.read_text())


# ---------------------------------------------------------------- plug-ins


def test_a_method_that_leaves_the_program_fails_its_cell_only(tmp_path: Path) -> None:
    with_method(tmp_path / "p", "raise SystemExit(0)")
    odd, majority = run(plan(tmp_path / "out", methods="odd,majority", seeds="0", tasks="rte"))
    assert (odd.status, majority.status) == ("failed", "ok")
    assert (odd.error or "").startswith("SystemExit: 0 (odd.py:")


@pytest.mark.parametrize("figures", ["rows='many'", "epochs=3"])
def test_figures_of_the_wrong_kind_cost_their_cell_only(tmp_path: Path, figures: str) -> None:
    with_method(tmp_path / "p", f"context.train_log.update({figures})")
    odd, majority = run(plan(tmp_path / "out", methods="odd,majority", seeds="0", tasks="rte"))
    assert (odd.status, majority.status) == ("failed", "ok")
    assert figures.partition("=")[0] in (odd.error or "")
    assert [record.status for record in read_records(tmp_path / "out")[0]] == ["ok", "failed"]


def test_numbers_of_other_libraries_are_kept_as_numbers(tmp_path: Path) -> None:
    log = "context.train_log.update(a=np.float32(0.5), b={1: np.arange(2)}, c=float('nan'), d=db)"
    with_method(tmp_path / "p", log, "import numpy as np")
    (record,) = run(plan(tmp_path / "out", methods="odd", seeds="0", tasks="rte"))
    assert record.status == "ok"
    noted = read_record(record_path(tmp_path / "out", record.cell)).train.model_dump(exclude_none=True)
    assert (noted["a"], noted["b"], "c" in noted) == (0.5, {"1": [0, 1]}, False)
    assert noted["d"].startswith("<module")
    assert plain({"epochs": [{"loss": float("inf"), "dev": 1.0}]}) == {"epochs": [{"dev": 1.0}]}


def test_the_texts_are_there_before_the_record_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in between must not leave a record whose texts are lost for good."""

    def full(*_: Any) -> None:
        raise UserError("The disk is full.")

    wanted = plan(tmp_path, methods="cot", seeds="0", tasks="rte")
    monkeypatch.setattr(running, "write_record", full)
    with pytest.raises(UserError, match="full"):
        run(wanted)
    (texts,) = tmp_path.rglob("*.generations.jsonl")
    assert len(texts.read_text().splitlines()) == 8
    assert not list(tmp_path.rglob("seed-0.json"))


# ---------------------------------------------------------------- refused while planning


def test_a_name_that_no_folder_can_have_is_refused_while_planning(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"name of the budget is too long for a folder \(\d+ characters\): smoke\["):
        plan(tmp_path, budget=f"smoke[description={'x' * 260}]")


def test_a_device_that_is_not_there_is_refused_while_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"no CUDA device 'cuda:1' here \(1 found\)"):
        plan(tmp_path, backbone="tiny[device='cuda:1',dtype=float32]")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"no CUDA device 'cuda' here \(0 found\)"):
        plan(tmp_path, backbone="tiny[device=cuda,dtype=float32]")


def test_a_cache_that_takes_nothing_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "file" / "cache"))
    request = RunRequest(
        methods=("majority",), suite="mini7", tasks=("RTE",), backbone="tiny", budget="smoke[test_rows=8]", seeds=(0,),
        results=tmp_path / "out", throughput=("offline",),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"Cannot write the cache .*file/cache: .*Set DHRD_CACHE"):
        run_command(request, Console(quiet=True))
    assert not list(tmp_path.rglob("seed-*.json"))


# ---------------------------------------------------------------- records


def test_a_record_that_took_no_time_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path, raw = one_record(tmp_path)
    fakes.write(tmp_path, [fakes.record(fakes.SMALL[0], fakes.THREE[1], 0)])
    raw["timing"] |= {"seconds": 0.0}
    path.write_text(json.dumps(raw))
    records, (problem,) = read_records(tmp_path)
    assert [one.cell.method for one in records] == ["better"]
    assert problem.path == path
    assert problem.reason.startswith("timing.seconds: Input should be greater than 0")


def test_a_named_pipe_among_the_records_is_named_and_not_waited_for(tmp_path: Path) -> None:
    path, _ = one_record(tmp_path)
    pipes = [path.with_name("seed-7.json"), timed_path(tmp_path, fakes.throughput(fakes.SMALL[0]))]
    for pipe in pipes:
        pipe.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(pipe)
    records, (problem,) = read_records(tmp_path)
    assert (len(records), problem.path, problem.reason) == (1, pipes[0], "not a regular file")
    assert [(each.path, each.reason) for each in read_timed(tmp_path)[1]] == [(pipes[1], "not a regular file")]


def test_a_record_of_another_minor_version_is_read(tmp_path: Path) -> None:
    path, raw = one_record(tmp_path)
    plain = read_record(path)
    more = raw | {"schema_version": "1.99.0", "weather": "fine", "cell": raw["cell"] | {"room": 7}}
    path.write_text(json.dumps(more))
    assert read_record(path) == plain.model_copy(update={"schema_version": "1.99.0"})
    path.write_text(json.dumps(more | {"schema_version": "2.0.0"}))
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        read_record(path)
    del more["cell"]["seed"]  # what is missing is missing in any version
    path.write_text(json.dumps(more))
    with pytest.raises(ValueError, match=r"cell\.seed: Field required"):
        read_record(path)
    timed = fakes.throughput(fakes.SMALL[0])
    place = timed_path(tmp_path, timed)
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(json.loads(timed.model_dump_json()) | {"weather": "fine"}))
    assert read_timed(tmp_path) == ([timed], [])


def test_control_characters_are_shown_and_not_sent(tmp_path: Path) -> None:
    path, raw = one_record(tmp_path)
    raw["cell"]["method"] = "a\x1b[2Jb\nc"
    raw["task"]["labels"] = ["\x07", "\x9b1m", "c"]
    raw |= {"status": "failed", "error": "x\x1b]0;title\x07"}
    path.write_text(json.dumps(raw))
    record = read_record(path)
    assert record.cell.method == "a␛[2Jb␊c"
    assert record.task.labels == ["␇", "\ufffd1m", "c"]
    assert record.error == "x␛]0;title␇"
    assert CellRecord.model_validate_json(record.model_dump_json()) == record


def test_control_characters_of_a_throughput_record_are_shown_and_not_sent(tmp_path: Path) -> None:
    run = fakes.throughput(fakes.SMALL[0])
    raw = json.loads(run.model_dump_json())
    for text in ("method", "engine"):
        raw["measurements"][0][text] = "a\x1b[2Jb\nc"
    raw["measurements"][0] |= {"verdict": "INVALID", "reasons": ["x\x1b]0;title\x07"]}
    raw["baseline"] = "a\x1b[2Jb\nc"
    path = timed_path(tmp_path, run)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(raw))
    ((read,), problems) = read_timed(tmp_path)
    assert not problems
    assert read.measurements[0].method == read.measurements[0].engine == read.baseline == "a␛[2Jb␊c"
    assert read.measurements[0].reasons == ["x␛]0;title␇"]
    assert "\x1b" not in "".join(part.line for row in run_table(read).rows for part in row)


def test_of_two_records_of_a_cell_the_one_at_its_own_place_counts_and_it_is_said(tmp_path: Path) -> None:
    path, raw = one_record(tmp_path, score=70.0)
    for folder, score, finished in (("aa_old", 90.0, "2020"), ("zz_old", 80.0, "2030")):
        copy = tmp_path / folder / path.relative_to(tmp_path)
        copy.parent.mkdir(parents=True)
        copy.write_text(json.dumps(raw | {"score": score, "finished": finished}))
    table = load_results(tmp_path)
    assert table.cells["score"].tolist() == [70.0]
    assert table.notes[0].startswith("2 records are passed over")
    assert str(tmp_path / "aa_old") in table.notes[0]
    path.unlink()
    assert load_results(tmp_path).cells["score"].tolist() == [80.0]  # the newest, where none is at its own place


# ---------------------------------------------------------------- the console


def test_a_report_is_written_where_the_encoding_lacks_its_signs(tmp_path: Path) -> None:
    fakes.write(tmp_path, fakes.records(seeds=(0, 1)))
    command = [sys.executable, "-m", "dhrd_bench.cli", "report", "--results", str(tmp_path), "--resamples", "200"]
    for encoding in ("cp1252", "ascii"):
        done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        assert b"better" in done.stdout
