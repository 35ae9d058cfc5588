"""The program from Python."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

import dhrd_bench as db

ROOT = Path(__file__).parent.parent
FAST = "smoke[train_rows=8,dev_rows=3,test_rows=8,epochs=1,tuning=top:1,max_length=96]"


def test_plan_run_load_analyse(tmp_path: Path) -> None:
    request = db.RunRequest(
        methods=("pooled", "dhrd"), tasks=("RTE",), backbone="tiny", budget=FAST, seeds=(0, 1), results=tmp_path
    )
    plan = db.plan(request)
    assert plan.request.tasks == ("RTE",)
    records = db.run(plan, Console(quiet=True))
    assert [record.status for record in records] == ["ok"] * 4
    assert db.run(db.plan(request), Console(quiet=True)) == []
    table = db.load_results(tmp_path)
    assert len(table.cells) == 4
    assert len(table.rows) == 4 * 8
    leaderboard = db.analyse(table, db.Choice(tasks=("rte",)), resamples=200)
    (board,) = leaderboard.boards
    assert {line.method for line in board.analysis.lines} == {"pooled", "dhrd"}
    assert "Leaderboard" in str(leaderboard)
    assert leaderboard.render("csv").startswith("suite,backbone,budget,method")


def test_a_mistake_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(db.UserError, match="Did you mean 'pooled'"):
        db.plan(db.RunRequest(methods=("poled",), results=tmp_path))
    with pytest.raises(db.UserError, match="No results folder"):
        db.load_results(tmp_path / "nothing")
    with pytest.raises(ValueError, match="methds"):
        db.RunRequest(methds=("pooled",))  # type: ignore[call-arg]


def test_every_name_that_is_offered_is_there() -> None:
    assert {"RunRequest", "plan", "run", "load_results", "analyse", "Method", "register"} <= set(db.__all__)
    for name in db.__all__:
        assert getattr(db, name).__doc__ or name == "UNPARSABLE"


@pytest.mark.docs
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = ROOT / "examples" / "from_run_to_figure.ipynb"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    printed = "".join(output.get("text", "") for output in outputs)
    assert "18 cells, 18 to run" in printed
    assert "Gain over pooled by task" in printed
