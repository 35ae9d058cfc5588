"""Predictions out of records, for spreadsheets and programs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fakes
import pytest
from typer.testing import CliRunner

from dhrd_bench.cli import app
from dhrd_bench.errors import UserError
from dhrd_bench.results.schema import CellRecord, TaskInfo
from dhrd_bench.results.store import record_path

TASK = fakes.FakeTask("alpha", 6)


def a_record(**columns: Any) -> CellRecord:
    task = TaskInfo(labels=["no", "=yes"], metrics=["accuracy"])
    made = fakes.record(TASK, fakes.FakeMethod("m"), 0).model_copy(update={"task": task})
    columns = {"label": [0, 1, 0, 1, 0, 1], "prediction": [0, 1, 1, -1, 0, 1]} | columns
    return fakes.with_rows(made, **columns)


def written(root: Path, record: CellRecord, texts: dict[str, str] | None = None) -> Path:
    fakes.write(root, [record])
    path = record_path(root, record.cell)
    if texts:
        lines = [json.dumps({"id": name, "prediction": 0, "text": text}) for name, text in texts.items()]
        path.with_suffix(".generations.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["records", "predictions", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_its_classes_by_number_and_name_and_its_scores(tmp_path: Path) -> None:
    scores = [[0.5, -1.25], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [2.0, 1.0], [-3.0, 1.0]]
    record = a_record(score=scores)
    rows = rows_of(call(written(tmp_path, record)))
    assert record.rows is not None
    assert [row["id"] for row in rows] == record.rows.id
    assert [int(row["label"]) for row in rows] == record.rows.label
    assert [int(row["prediction"]) for row in rows] == record.rows.prediction
    assert [row["label_name"] for row in rows] == ["no", "'=yes"] * 3
    assert [row["prediction_name"] for row in rows] == ["no", "'=yes", "'=yes", "", "no", "'=yes"]
    assert [[float(row["score_no"]), float(row["score_=yes"])] for row in rows] == scores
    as_json = json.loads(call(record_path(tmp_path, record.cell), "--format", "json"))
    assert as_json[0] == {
        "id": "alpha-00000", "label": 0, "prediction": 0, "label_name": "no", "prediction_name": "no",
        "scores": {"no": 0.5, "=yes": -1.25},
    }  # fmt: skip
    assert as_json[3]["prediction_name"] is None


def test_a_cell_is_named_by_its_place_and_written_to_a_file(tmp_path: Path) -> None:
    written(tmp_path / "r", a_record())
    target = tmp_path / "out" / "predictions.csv"
    shown = call("fake/tiny/smoke/m/alpha/seed-0", "--results", tmp_path / "r", "--output", target)
    assert shown == f"wrote {target}\n"
    assert len(rows_of(target.read_text(encoding="utf-8"))) == 6
    with pytest.raises(UserError, match=r"no record fake/tiny/smoke/m/alpah/seed-0\. Did you mean 'fake"):
        call("fake/tiny/smoke/m/alpah/seed-0", "--results", tmp_path / "r")
    with pytest.raises(UserError, match=r"no format 'cvs'\. Did you mean 'csv'"):
        call("fake/tiny/smoke/m/alpha/seed-0", "--results", tmp_path / "r", "--format", "cvs")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'␉=1"),
        ("\r=1", "'␍=1"),
        ("-17", "-17"),
        ("+3.5", "+3.5"),
        ("a=1, \"b\"\n=2", "a=1, \"b\"\n=2"),
        ("\x1b[2J", "␛[2J"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(tmp_path: Path, text: str, cell: str) -> None:
    names = [text, "b", "c", "d", "e", "f"]
    path = written(tmp_path, a_record(id=names), dict.fromkeys(names, text))
    first = rows_of(call(path))[0]
    assert first["id"] == first["text"] == cell
    assert json.loads(call(path, "--format", "json"))[0]["text"] == text


def test_what_was_written_about_every_class_stands_in_its_row(tmp_path: Path) -> None:
    names = list("abcdef")
    texts = {f"{name}:{which}": f"{name} is {which}" for name in names for which in ("no", "=yes")}
    row = rows_of(call(written(tmp_path, a_record(id=names), texts)))[1]
    assert row["text"] == "no: b is no\n=yes: b is =yes"


def test_failed_cells_and_other_files_are_told(tmp_path: Path) -> None:
    failed = fakes.failed(TASK, fakes.FakeMethod("m"), 0)
    with pytest.raises(UserError, match="failed cell: out of memory"):
        call(written(tmp_path, failed))
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="is no record"):
        call(tmp_path / "x.json")


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = written(tmp_path, a_record())
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom dhrd_bench.cli import app\n"
        f"assert CliRunner().invoke(app, ['results', 'predictions', {str(path)!r}]).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
