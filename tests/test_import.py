"""Logs of other harnesses become records, row by row, and stand in the same tables."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import dhrd, refused
from foreign_logs import (
    HEADER,
    free_sample,
    inspect_sample,
    lm_eval_sample,
    with_zstandard,
    write_inspect,
    write_lm_eval,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import accuracy_score

from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.recordcheck import check_records
from dhrd_bench.grid.rerun import plan_again
from dhrd_bench.grid.run import run_plan
from dhrd_bench.importing import archive
from dhrd_bench.importing.files import open_logs
from dhrd_bench.importing.logs import Wanted
from dhrd_bench.importing.record import Imported, records_of
from dhrd_bench.progress import Display
from dhrd_bench.report.leaderboard import Choice, analyse
from dhrd_bench.request import Options, RunRequest
from dhrd_bench.results.guests import seated
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import write_record

ROOT = Path(__file__).parent.parent
REAL = ROOT / "tests/foreign"
RTE = [json.loads(line) for line in (ROOT / "suites/mini7/RTE/val.jsonl").read_text().splitlines()]
CLASSES = ["entailment", "not_entailment"]


def imported(*places: Path, data_dir: Path | None = None, **wanted: Any) -> list[Imported]:
    asked = Wanted(**({"task": "mine", "method": "large"} | wanted))
    return list(records_of(open_logs(places, asked), asked, data_dir))


def rows_of(record: CellRecord) -> dict[str, tuple[int, int]]:
    assert record.rows is not None
    return dict(zip(record.rows.id, zip(record.rows.label, record.rows.prediction, strict=True), strict=True))


# ---------------------------------------------------------------- a log by itself


def test_the_choices_of_a_log_are_its_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gold, likelihoods = rng.integers(0, 3, 30), rng.normal(size=(30, 3))
    samples = [lm_eval_sample(k, {"q": k}, int(gold[k]), likelihoods[k].tolist()) for k in range(30)]
    (one,) = imported(write_lm_eval(tmp_path, "mine", samples))
    record = one.record
    assert record.task.labels == ["False", "True", "Neither"]
    assert record.score == pytest.approx(100 * accuracy_score(gold, likelihoods.argmax(1)))
    assert record.rows is not None
    assert record.rows.prediction == likelihoods.argmax(1).tolist()
    np.testing.assert_allclose(record.rows.score or [], likelihoods, atol=1e-5)
    assert record.foreign is not None
    assert (record.foreign.model, record.foreign.version) == ("org/large", "0.4.13")
    assert (record.method.inference, record.cell.suite, record.timing) == ("score", "foreign", None)


def test_a_free_answer_is_right_or_wrong(tmp_path: Path) -> None:
    samples = [free_sample(k, {"q": k}, "yes", right=k % 3 == 0) for k in range(9)]
    (one,) = imported(write_lm_eval(tmp_path, "mine", samples))
    assert one.record.task.labels == ["wrong", "right"]
    assert one.record.method.inference == "generate"
    assert one.record.score == pytest.approx(100 / 3)
    assert {label for label, _ in rows_of(one.record).values()} == {1}


def test_choices_that_the_score_contradicts_are_no_classes(tmp_path: Path) -> None:
    """A metric that goes by something else than the likeliest choice is believed, not the choice."""
    samples = [lm_eval_sample(k, {"q": k}, 0, [0.0, 1.0], acc=1.0) for k in range(4)]
    (one,) = imported(write_lm_eval(tmp_path, "mine", samples))
    assert (one.record.task.labels, one.record.score) == (["wrong", "right"], 100)


def test_accuracy_by_the_length_of_a_choice(tmp_path: Path) -> None:
    """ "Neither" has 7 characters, "False" has 5: per character its likelihood is the larger one."""
    sample = lm_eval_sample(0, {"q": 0}, 2, [-5.0, -9.0, -6.0], metrics=["acc", "acc_norm"], acc=0.0, acc_norm=1.0)
    path = write_lm_eval(tmp_path, "mine", [sample])
    for score, prediction in (("acc,none", 0), ("acc_norm,none", 2)):
        (one,) = imported(path, score=score)
        assert list(rows_of(one.record).values()) == [(2, prediction)]
    with pytest.raises(UserError, match=r"several scores: acc,none, acc_norm,none. Name one with --score"):
        imported(path)


@pytest.mark.parametrize("form", ["log.eval", "log.json", "zstandard.eval"])
def test_epochs_and_logs_are_seeds(tmp_path: Path, form: str) -> None:
    samples = [
        inspect_sample(name, f"Question {name}", "B", answer, epoch)
        for name in (1, 2, 3)
        for epoch, answer in ((1, "B"), (2, "A" if name == 2 else "B"))
    ]
    path = write_inspect(tmp_path / form, samples)
    if form.startswith("zstandard"):
        with_zstandard(path)
    first, second = imported(path, seed=4)
    assert [each.record.cell.seed for each in (first, second)] == [4, 5]
    assert [each.record.score for each in (first, second)] == [100, pytest.approx(200 / 3)]
    assert first.record.task.labels == ["No", "Yes"]
    assert first.record.identity != second.record.identity
    assert first.record.parts.method_version == second.record.parts.method_version
    assert len(imported(path, path)) == 4


def test_what_was_not_scored_is_named_and_not_counted(tmp_path: Path) -> None:
    failed = inspect_sample(2, "Question 2", "B", "A", scores=None, error={"message": "no answer"})
    nan = inspect_sample(3, "Question 3", "B", "A", scores={"choice": {"value": float("nan")}})
    path = write_inspect(tmp_path / "log.eval", [inspect_sample(1, "Question 1", "B", "B"), failed, nan])
    (one,) = imported(path)
    assert one.left == {"were not scored": 2}
    assert "samples/2_epoch_1.json" in one.first["were not scored"]
    assert len(rows_of(one.record)) == 1


# ---------------------------------------------------------------- rows of a suite


def test_documents_of_a_suite_are_its_rows(tmp_path: Path) -> None:
    """In any order, with the harness's own words for the classes; what is no row of the suite is named."""
    rng = np.random.default_rng(1)
    order = rng.permutation(len(RTE))
    likelihoods = {int(k): rng.normal(size=2).tolist() for k in order}
    # The harness's choices are the other way round than the suite's classes.
    samples = [lm_eval_sample(int(k), RTE[k], 1 - CLASSES.index(RTE[k]["label"]), likelihoods[int(k)]) for k in order]
    strange = lm_eval_sample(999, RTE[0] | {"idx": 999, "premise": "It rained."}, 0, [0.0, 1.0])
    edited = lm_eval_sample(998, RTE[1] | {"hypothesis": "It rained."}, 0, [0.0, 1.0])
    path = write_lm_eval(tmp_path, "rte", [*samples, strange, edited, samples[0]])
    (one,) = imported(path, suite="mini7", task="rte")
    assert one.left == {"are none of the test rows": 2, "are of a row that was answered before": 1}
    assert one.absent == 0
    assert one.record.cell.task == "RTE"
    expected = {
        str(row["idx"]): (CLASSES.index(row["label"]), 1 - int(np.argmax(likelihoods[k]))) for k, row in enumerate(RTE)
    }
    assert rows_of(one.record) == expected
    assert one.record.rows is not None
    scores = dict(zip(one.record.rows.id, one.record.rows.score or [], strict=True))
    np.testing.assert_allclose(scores[str(RTE[5]["idx"])], likelihoods[5][::-1], atol=1e-5)


def test_a_number_alone_makes_no_row(tmp_path: Path) -> None:
    """Inspect numbers samples by itself: the texts have to stand in what was asked."""
    row, other = RTE[0], RTE[1]
    asked = f"{row['premise']}\nDoes it follow that {row['hypothesis']}?"
    gold = "AB"[CLASSES.index(row["label"])]
    path = write_inspect(
        tmp_path / "log.eval",
        [inspect_sample(row["idx"], asked, gold, gold), inspect_sample(other["idx"], "Something else.", "A", "A")],
    )
    (one,) = imported(path, suite="mini7", task="RTE")
    assert list(rows_of(one.record)) == [str(row["idx"])]
    assert one.left == {"are none of the test rows": 1}
    assert one.absent == len(RTE) - 1


def test_a_wrong_free_answer_is_its_class_where_it_names_one(tmp_path: Path) -> None:
    said = ["Entailment", "not_entailment", "I do not know"]
    samples = [free_sample(k, RTE[k], said[k % 3], right=False) for k in range(6)]
    samples += [free_sample(6, RTE[6], "whatever", right=True)]
    (one,) = imported(write_lm_eval(tmp_path, "rte", samples), suite="mini7", task="RTE")
    found = [prediction for _, prediction in rows_of(one.record).values()]
    right = CLASSES.index(RTE[6]["label"])
    assert found == [0, 1, -1, 0, 1, -1, right]
    assert one.record.unparsable == pytest.approx(2 / 7)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_suite_row_is_found_if_and_only_if_its_text_is_the_same(data: Any) -> None:
    """Whatever a log calls its samples, and whatever it changes in them."""
    from dhrd_bench.data.suite import Suite
    from dhrd_bench.importing.logs import Sample
    from dhrd_bench.importing.rows import SuiteRows

    suite = Suite.named("mini7")
    rows = SuiteRows(suite, suite.load("RTE"), None)
    row = RTE[data.draw(st.integers(0, len(RTE) - 1))]
    edit = data.draw(st.sampled_from(["", "premise", "hypothesis"]))
    name = data.draw(st.text(max_size=5) | st.integers().map(str))
    doc = row | ({edit: row[edit] + data.draw(st.text(min_size=1, max_size=3))} if edit else {})
    sample = Sample("log:1", name, doc, "", "d", True)
    found = rows.row_of(sample)
    assert found == (None if edit and doc[edit] != row[edit] else str(row["idx"]))


# ---------------------------------------------------------------- in tables and checks


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two methods of ours, and two models that ran elsewhere, on the same rows."""
    root = tmp_path_factory.mktemp("beside")
    request = RunRequest(
        results=root, methods="majority,tfidf-lr", suite="mini7", tasks="RTE", backbone="tiny",
        budget="smoke[test_rows=60]", seeds="0-2",
    )  # fmt: skip
    plan = make_plan(request)
    assert all(record.status == "ok" for record in run_plan(plan, Display(Console(quiet=True), len(plan.missing))))
    rng = np.random.default_rng(3)
    for method, accuracy in (("large", 0.95), ("small", 0.55)):
        for seed in (0, 1, 2):
            samples = []
            for k, row in enumerate(RTE):
                gold = CLASSES.index(row["label"])
                chosen = gold if rng.random() < accuracy else 1 - gold
                samples.append(lm_eval_sample(k, row, gold, [float(chosen == 0), float(chosen == 1)]))
            path = write_lm_eval(
                root / "logs" / method, "rte", samples, f"org/{method}", f"2026-08-0{seed + 1}T10-00-00.0"
            )
            for one in imported(path, suite="mini7", task="RTE", method=method, seed=seed):
                write_record(root, one.record)
    return root


def test_a_report_compares_foreign_records_with_ours_and_each_other(beside: Path) -> None:
    table = load_results(beside)
    (board,) = analyse(table, Choice(baseline="small"), resamples=200).boards
    group = board.analysis.selection.group
    assert (group.suite, group.backbone) == ("mini7", "tiny")
    lines = {line.method: line for line in board.analysis.lines}
    assert set(lines) == {"large", "small", "majority", "tfidf-lr"}
    assert all(line.ranked for line in lines.values())
    versus = lines["large"].versus
    assert versus is not None
    assert versus.test is not None
    assert versus.test.significant
    assert versus.difference.low is not None
    assert versus.difference.low > 0
    assert lines["large"].qps is None
    assert lines["tfidf-lr"].versus is not None
    assert lines["tfidf-lr"].versus.detectable is not None
    assert len(board.analysis.selection.grid.tasks[0].labels) == 60  # those that ours were tested on
    assert "large is foreign: org/large, run by lm-evaluation-harness 0.4.13" in table.notes


@pytest.mark.parametrize("form", ["terminal", "markdown", "json", "csv", "html", "latex"])
def test_two_foreign_records_alone_have_a_table(beside: Path, tmp_path: Path, form: Any) -> None:
    """Nothing in it was timed."""
    for record in load_foreign(beside):
        write_record(tmp_path, record)
    board = analyse(load_results(tmp_path), Choice(baseline="small"), resamples=200)
    (only,) = board.boards
    assert only.analysis.selection.group.backbone == "foreign"
    assert len(only.analysis.selection.grid.tasks[0].labels) == len(RTE)
    assert "large" in board.render(form)


def load_foreign(root: Path) -> list[CellRecord]:
    from dhrd_bench.results.store import read_records

    return [record for record in read_records(root)[0] if record.foreign is not None]


def test_a_foreign_record_with_other_rows_sits_by_itself(beside: Path) -> None:
    from dhrd_bench.results.store import read_records

    records = read_records(beside)[0]
    seats = [record.cell.backbone for record in seated(records) if record.foreign]
    assert seats == ["tiny"] * 6
    other = [
        record.model_copy(update={"parts": record.parts.model_copy(
            update={"task": record.parts.task.model_copy(update={"fingerprint": "another"})}
        )}) if record.foreign else record
        for record in records
    ]  # fmt: skip
    assert [record.cell.backbone for record in seated(other) if record.foreign] == ["foreign"] * 6


def test_a_check_takes_foreign_records_for_what_they_are(beside: Path, tmp_path: Path) -> None:
    checked = check_records([beside / "mini7/foreign"])
    assert not checked.failed
    assert {(finding.severity, finding.kind) for finding in checked.findings} == {("note", "foreign")}
    record = load_foreign(beside)[0]
    assert record.rows is not None
    flipped = record.rows.model_copy(
        update={"prediction": [1 - record.rows.prediction[0], *record.rows.prediction[1:]]}
    )
    write_record(tmp_path, record.model_copy(update={"rows": flipped}))
    kinds = {finding.kind for finding in check_records([tmp_path]).findings if finding.severity == "failure"}
    assert {"metrics", "rows"} & kinds
    relabelled = record.rows.model_copy(update={"label": [1 - label for label in record.rows.label]})
    write_record(tmp_path, record.model_copy(update={"rows": relabelled}))
    messages = [finding.message for finding in check_records([tmp_path]).findings]
    assert any("or of another class there" in message for message in messages)


def test_a_foreign_record_cannot_be_run_again(beside: Path) -> None:
    with pytest.raises(UserError, match="made of a log of lm-evaluation-harness"):
        plan_again(load_foreign(beside)[0], Options())


# ---------------------------------------------------------------- logs that other programs have written


def test_real_logs_of_lm_evaluation_harness(tmp_path: Path) -> None:
    """Two tiny models with random weights, on rows of mini7: the scores are those that the harness reports."""
    for name in ("one", "two"):
        place, wanted = REAL / "lm-eval" / name, {"suite": "mini7", "task": "RTE", "method": name}
        (one,) = imported(place, score="acc,none", **wanted)
        (by_length,) = imported(place, score="acc_norm,none", **wanted)
        (results,) = place.glob("results_*.json")
        said = json.loads(results.read_text())["results"]["mini_rte"]
        assert one.record.score == pytest.approx(100 * said["acc,none"])
        assert by_length.record.score == pytest.approx(100 * said["acc_norm,none"])
        assert (len(rows_of(one.record)), one.left, one.absent) == (24, {}, len(RTE) - 24)
        assert one.record.rows is not None
        assert one.record.rows.score is not None  # both metrics go by classes
        write_record(tmp_path, one.record)
    (board,) = analyse(load_results(tmp_path), Choice(baseline="one"), resamples=200).boards
    assert {line.method for line in board.analysis.lines} == {"one", "two"}


@pytest.mark.parametrize(("name", "accuracy"), [("choice.eval", 0.5625), ("choice.json", 0.3125)])
def test_a_real_log_of_inspect(name: str, accuracy: float) -> None:
    """Two epochs of a model that answers at random; the archive is compressed by Zstandard."""
    records = [one.record for one in imported(REAL / "inspect" / name, method="mock")]
    assert [record.cell.seed for record in records] == [0, 1]
    assert np.mean([record.score or 0.0 for record in records]) == pytest.approx(100 * accuracy)
    (record, _) = (one.record for one in imported(REAL / "inspect" / name, suite="mini7", task="RTE"))
    assert record.score == records[0].score  # its rows are found by their ids and texts


# ---------------------------------------------------------------- strangers' files


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MEMBER_LIMIT", 2**20)
    path = write_inspect(tmp_path / "bomb.eval", [inspect_sample(1, "x" * 2**21, "B", "B")])
    with pytest.raises(UserError, match=r"bomb.eval cannot be read as a log: 'samples/1_epoch_1.json' has more than"):
        imported(path)
    small = write_inspect(tmp_path / "lies.eval", [inspect_sample(1, "x", "B", "B")])
    with_zstandard(small)
    content = small.read_bytes()
    with zipfile.ZipFile(small) as opened:
        size = opened.getinfo("samples/1_epoch_1.json").file_size
    small.write_bytes(content.replace(size.to_bytes(4, "little"), (size - 1).to_bytes(4, "little")))
    with pytest.raises(UserError, match="is damaged"):
        imported(small)


def test_no_name_in_an_archive_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("header.json", json.dumps(HEADER))
        opened.writestr("samples/../../../outside.json", json.dumps(inspect_sample(1, "x", "B", "B")))
    (one,) = imported(path)
    assert len(rows_of(one.record)) == 1
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--task", "x", "--method", "m"], ["nothing at nowhere"]),
        (["logs", "--task", "x", "--method", "pooled"], ["cannot be called 'pooled'"]),
        (["logs", "--task", "x", "--method", "a/b"], ["cannot be called 'a/b'"]),
        (["logs", "--task", "x", "--method", "m", "--log-task", "mined"], ["no task 'mined'", "'mine'"]),
        (["logs", "--task", "x", "--method", "m", "--score", "acc"], ["no score 'acc' but acc,none"]),
        (["logs", "--suite", "mini7", "--task", "RTE", "--method", "m"], ["no sample has a row", "jsonl:1"]),
        (["empty", "--task", "x", "--method", "m"], ["There is no log at empty"]),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    write_lm_eval(tmp_path / "logs", "mine", [lm_eval_sample(0, {"q": 1}, 0, [0.0, 1.0])])
    (tmp_path / "empty").mkdir()
    refused(dhrd("import", *arguments, cwd=tmp_path), *words)


def test_logs_of_two_models_are_two_methods(tmp_path: Path) -> None:
    for number, model in enumerate(("org/a", "org/b")):
        write_lm_eval(
            tmp_path, "mine", [lm_eval_sample(0, {}, 0, [0.0, 1.0])], model, f"2026-08-0{number + 1}T10-00-00.0"
        )
    with pytest.raises(UserError, match="several models: org/a, org/b"):
        imported(tmp_path)
