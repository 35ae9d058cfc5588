"""The program from Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

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


NOTEBOOKS = {
    "from_run_to_figure": ("18 cells, 18 to run", "Gain over pooled by task"),
    "own_task_and_method": ("15 checks on tiny, none failed", str(["ok"] * 9), "| surface |"),
    "reading_a_report": ("are equivalent to pooled within 3 %", "not shown to differ from majority"),
}
"""Each of examples/, with some of what it shows."""


def shown(notebook: Any) -> list[str]:
    """Return what the cells show, but for progress; of a value its text, and none for a picture."""
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", []) if each.get("name") != "stderr"]
    data = [output.get("data", {"text/plain": output.get("text")}) for output in outputs]
    return [each.get("text/markdown", each["text/plain"]) for each in data if "image/png" not in each]


def test_notebooks_lie_there_with_their_outputs() -> None:
    paths = sorted((ROOT / "examples").glob("*.ipynb"))
    assert [path.stem for path in paths] == sorted(NOTEBOOKS)
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), path.name
        assert all(words in "".join(shown(notebook)) for words in NOTEBOOKS[path.stem]), path.name
        assert "site-packages" not in path.read_text(encoding="utf-8"), path.name  # warnings of one machine


@pytest.mark.docs
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)
    before = shown(notebook)
    place = {"metadata": {"path": str(ROOT / "examples")}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", coalesce_streams=True, resources=place).execute()
    after = shown(notebook)
    assert all(words in "".join(after) for words in NOTEBOOKS[name])
    if name == "reading_a_report":  # nothing is timed there
        assert after == before
    if name == "from_run_to_figure":
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert any("image/png" in output.get("data", {}) for output in outputs)
