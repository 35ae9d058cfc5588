"""Rows that share a text: kept in one split, drawn together, and told or left out where a release shares them."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest
from own_suites import BY_TEXT, ROWS, SHARED, SUITE, TWINS, rows, write
from rich.console import Console

from dhrd_bench import plugins
from dhrd_bench.contracts import Budget
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import LoadedTask, Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.rerun import plan_again
from dhrd_bench.grid.run import run_plan
from dhrd_bench.progress import Display
from dhrd_bench.request import Options, RunRequest
from dhrd_bench.results.store import read_record, record_path
from dhrd_bench.results.table import long_table


@pytest.fixture(autouse=True)
def no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DHRD_DATA_DIR", raising=False)


def test_texts_that_differ_in_spaces_case_or_commas_are_one_cluster_called_by_its_first_row(tmp_path: Path) -> None:
    loaded = write(tmp_path, BY_TEXT, train=rows("a", TWINS), test=rows("t", ["x y", "z", "X, y"])).load("moods")
    assert [row.cluster for row in loaded.train] == ["a0", "a1", "a0", "a0", "a4", "a1", "a6"]
    assert loaded.test.clusters == ("t0", "t1", "t0"), "no text gets into a record, a short one neither"


@pytest.mark.parametrize("texts", [["雨が降った。", "雨が降った", "晴れ"], ["Rained.", "RAINED!", "Dry."]])
def test_texts_without_a_space_are_texts(tmp_path: Path, texts: list[str]) -> None:
    loaded = write(tmp_path, BY_TEXT, train=rows("a", texts), test=rows("t", [*texts[::-1], "x y"])).load("moods")
    assert [row.cluster for row in loaded.train] == ["a0", "a0", "a2"]
    assert loaded.test.clusters == ("t0", "t1", "t1", "t3")


def test_ids_give_a_cluster_its_name(tmp_path: Path) -> None:
    loaded = write(tmp_path, BY_TEXT, train=rows("a", ["7", "doc-1", "doc_1", "doc-1"])).load("moods")
    assert [row.cluster for row in loaded.train] == ["7", "doc-1", "doc_1", "doc-1"]


def test_without_two_rows_of_a_text_every_test_row_is_its_own(tmp_path: Path) -> None:
    assert write(tmp_path, BY_TEXT).load("moods").test.clusters is None


@pytest.mark.parametrize("seed", range(8))
def test_a_text_is_in_train_or_in_dev(tmp_path: Path, seed: int) -> None:
    texts = [f"text number {n % 9}" + "!" * (n % 2) for n in range(40)]
    budget = Budget(name="b", dev_rows=9)
    sides = []
    for suite in (BY_TEXT, SUITE):
        data, _ = split(write(tmp_path, suite, train=rows("a", texts)).load("moods"), budget, seed)
        train, dev = ({row.example.prompt.text.replace("!", "") for row in part} for part in (data.train, data.dev))
        assert train
        assert dev
        sides.append(bool(train & dev))
    assert sides == [False, True]


def test_ids_give_clusters_their_names(tmp_path: Path) -> None:
    """A cluster by ids is called and drawn as it always was."""
    text = BY_TEXT.replace("cluster: text", "cluster: [key, text]")
    loaded = write(tmp_path, text, train=rows("a", ["p", "q", "p"])).load("moods")
    assert [row.cluster for row in loaded.train] == ["a0-p", "a1-q", "a2-p"]


# ---------------------------------------------------------------- what a release shares between its splits


def test_what_the_splits_share_is_noted_and_can_be_left_out(tmp_path: Path) -> None:
    suite = write(tmp_path, BY_TEXT, **SHARED)
    whole, apart = suite.load("moods"), suite.load("moods", unshared=True)
    note = "2 of 3 test rows share their text with 4 train rows; 'own[unshared=true]' trains without these"
    assert whole.notes[0] == note
    assert [row.id for row in whole.train] == [f"a{n}" for n in range(7)]
    assert [row.id for row in apart.train] == ["a1", "a5", "a6"]
    assert apart.notes == ("4 train rows are left out, as they share their text with test rows",)
    assert apart.test == whole.test
    assert apart.fingerprint != whole.fingerprint


def test_nothing_is_said_or_left_out_where_nothing_is_shared(tmp_path: Path) -> None:
    suite = write(tmp_path, BY_TEXT)
    assert suite.load("moods", unshared=True) == suite.load("moods")
    assert suite.load("moods").notes == ()


def test_numbers_that_name_the_row_are_given_anew_in_each_split(tmp_path: Path) -> None:
    """As MultiRC numbers its paragraphs: paragraph 0 of train is not that of test."""
    text = SUITE.replace("id: key", "id: [key, text]\n    cluster: key")
    suite = write(tmp_path, text, train=rows("a", ["x", "y", "z"]), test=rows("a", ["u"]))
    assert suite.load("moods", unshared=True).notes == ()


def test_a_train_split_that_is_shared_altogether_is_refused(tmp_path: Path) -> None:
    suite = write(tmp_path, BY_TEXT, train=ROWS[:2], test=ROWS[:4])
    with pytest.raises(UserError, match=r"All 2 train rows share their text with test rows\. Leave 'unshared' out"):
        suite.load("moods", unshared=True)


def test_the_setting_makes_a_suite_of_its_own_from_the_request_to_the_record_and_back(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    write(tmp_path / "own", BY_TEXT, **SHARED)
    plugins.load_all()
    with plugins.isolated():
        request = RunRequest(
            methods=("majority",), suite="own[unshared=true]", backbone="tiny", seeds=(0,), include=(tmp_path,),
            budget="smoke[dev_rows=0,require_rationale=false]", results=tmp_path / "out",
        )  # fmt: skip
        plan, whole = make_plan(request), make_plan(request.model_copy(update={"suite": "own"}))
        assert (plan.request.suite, plan.request.unshared) == ("own", True)
        assert {plan.cells[0].identity} != {whole.cells[0].identity}
        assert (len(plan.cells[0].data.train), len(whole.cells[0].data.train)) == (3, 7)
        run_plan(plan, Display(Console(quiet=True), 1))
        record = read_record(record_path(tmp_path / "out", plan.cells[0].cell))
        assert record.cell.suite == "own[unshared=true]"
        again = plan_again(record, Options(include=[tmp_path]))
        assert [cell.identity for cell in again.cells] == [record.identity]
        assert again.cells[0].cell == record.cell


# ---------------------------------------------------------------- the shipped suites


def without_clusters(suite: Suite, task: str) -> LoadedTask:
    bare = suite.card.tasks[task].model_copy(update={"cluster": ()})
    card = suite.card.model_copy(update={"tasks": {**suite.card.tasks, task: bare}})
    return Suite(card, suite.path).load(task)


def test_every_task_of_the_shipped_suites_names_its_clusters() -> None:
    for name in ("superglue7", "mini7"):
        clusters = {task: definition.cluster for task, definition in Suite.named(name).card.tasks.items()}
        assert clusters == {
            "BoolQ": ("passage",), "CB": ("premise",), "COPA": ("premise",), "MultiRC": ("passage_idx",),
            "RTE": ("premise",), "WiC": ("word",), "WSC": ("text",),
        }  # fmt: skip


@pytest.mark.parametrize("task", ["BoolQ", "CB", "COPA", "RTE"])
def test_where_no_text_is_shared_clusters_change_no_split_and_no_version(task: str) -> None:
    suite, budget = Suite.named("mini7"), Budget(name="b", dev_rows=30, train_rows=60, test_rows=40)
    loaded, before = suite.load(task), without_clusters(suite, task)
    assert loaded.card.version == "1.0.0"
    assert loaded == before
    assert [split(loaded, budget, seed) for seed in range(3)] == [split(before, budget, seed) for seed in range(3)]


@pytest.mark.parametrize(("task", "texts"), [("WSC", 68), ("WiC", 50)])
def test_where_texts_are_shared_splits_and_version_are_new(task: str, texts: int) -> None:
    suite, budget = Suite.named("mini7"), Budget(name="b", dev_rows=30)
    loaded, before = suite.load(task), without_clusters(suite, task)
    assert loaded.card.version == "1.1.0"
    assert loaded.test.clusters is not None
    assert len(set(loaded.test.clusters)) == texts
    cluster = {row.id: row.cluster for row in loaded.train}
    for one in (loaded, before):
        drawn = [split(one, budget, seed)[0] for seed in range(3)]
        both = [
            {cluster[row.example.id] for row in data.train} & {cluster[row.example.id] for row in data.dev}
            for data in drawn
        ]
        assert any(both) == (one is before)


def test_records_from_before_the_clusters_are_read_as_they_are() -> None:
    record = fakes.record(fakes.FakeTask("WSC", 20), fakes.FakeMethod("pooled", 0.5), 0)
    assert record.rows is not None
    assert record.rows.cluster is None
    before = long_table([record]).rows
    assert list(before["cluster"]) == list(before["example"]) == record.rows.id
    pairs = record.rows.model_copy(update={"cluster": [f"c{n // 2}" for n in range(len(record.rows.id))]})
    after = long_table([record.model_copy(update={"rows": pairs})]).rows
    assert after["cluster"].nunique() == len(record.rows.id) // 2
