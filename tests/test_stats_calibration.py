"""Class probabilities read from the records, and figures of their calibration."""

from __future__ import annotations

import io
import json
import math

import fakes
import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from scored import with_scores
from sklearn.metrics import brier_score_loss, log_loss

from dhrd_bench.commands.report import ReportRequest, report_command
from dhrd_bench.results.schema import TaskInfo
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.calibration import BINS, calibrations
from dhrd_bench.stats.design import TaskGrid
from dhrd_bench.stats.probabilities import LEAST, Probabilities, as_probabilities, probabilities
from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.simulate_further import scored
from dhrd_bench.stats.validate_further import run


def softmax(scores):
    shares = np.exp(np.array(scores))
    return shares / shares.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------- from scores to probabilities


def test_scores_are_logits_unless_all_rows_are_shares():
    logits = np.array([[1.0, -2.0, 0.3], [100.0, -900.0, 0.0]])
    assert as_probabilities(logits, 2, 3) == pytest.approx(softmax(logits - logits.max(axis=1, keepdims=True)))
    shares = np.array([[0.2, 0.8], [0.0, 1.0]])
    read = as_probabilities(shares, 2, 2)
    assert read[0] == pytest.approx([0.2, 0.8])
    assert read[1, 0] == pytest.approx(LEAST, rel=1e-3), "a vote that nobody gave is not impossible"
    assert as_probabilities(np.array([[0.2, 0.8], [0.5, 0.9]]), 2, 2)[0] == pytest.approx(softmax([0.2, 0.8]))
    logs = np.log(np.array([[0.1, 0.2], [0.3, 0.6]]))
    assert as_probabilities(logs, 2, 2) == pytest.approx(np.array([[1 / 3, 2 / 3]] * 2))


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (None, "no class scores"),
        (np.zeros((2, 2)), "class scores of another shape"),
        (np.array([[0.1, 0.2], [math.inf, 1], [0, 0]]), "is no number"),
        (np.array([[-1.0, 0.0], [0.3, 1.0], [0.0, -1.0]]), "2 of 3 rows only say which class was answered"),
    ],
)
def test_scores_that_are_none_are_left_out_with_the_reason(scores, said):
    assert said in as_probabilities(scores, 3, 2)


def test_probabilities_lie_beside_the_rows_they_are_of():
    made = [with_scores(record) for record in fakes.records()]
    # One cell lists its rows the other way round and lacks one.
    turned = made[0]
    columns = {
        name: list(reversed(getattr(turned.rows, name)))[1:]
        for name in ("id", "label", "prediction", "score")
        if getattr(turned.rows, name) is not None
    }
    made[0] = fakes.with_rows(turned, **columns)
    table = long_table(made)
    selection = select(table, groups(table)[0])
    for given in probabilities(table, selection):
        assert given.left_out == {}
        for m, method in enumerate(selection.grid.methods):
            for s, seed in enumerate(given.task.seeds):
                record = next(
                    r for r in made
                    if (r.cell.method, r.cell.task, r.cell.seed) == (method, given.task.name, seed)
                )  # fmt: skip
                by_id = dict(zip(record.rows.id, softmax(record.rows.score), strict=True))
                common = sorted(set(by_id) - ({turned.rows.id[-1]} if given.task.name == "alpha" else set()))
                assert given.values[m, s] == pytest.approx(np.array([by_id[name] for name in common]))


@pytest.mark.parametrize("why", ["another version", "answers that are none"])
def test_rows_of_cells_that_were_left_out_are_not_asked_for(why):
    made = [with_scores(record) for record in fakes.records()]
    at = next(at for at, record in enumerate(made) if record.cell.method == "better" and record.cell.seed == 1)
    few = {name: getattr(made[at].rows, name)[:9] for name in ("id", "label", "prediction", "score")}
    if why == "another version":
        made[at] = fakes.with_rows(made[at], **few).model_copy(update={"parts": fakes.parts(method_version="old")})
    else:
        rows = made[at].rows.model_copy(update=few | {"prediction": [7] * 9})  # no record that is read can have them
        made[at] = made[at].model_copy(update={"rows": rows})
    table = long_table(made)
    selection = select(table, groups(table)[0])
    assert any(note.startswith("better") and "left out" in note for note in selection.notes)
    given = next(given for given in probabilities(table, selection) if given.task.name == made[at].cell.task)
    assert given.left_out == {}
    assert given.task.present.sum() == 8
    assert given.values.shape[2] == len(given.task.labels) == 60
    (found,) = [c for c in calibrations([given], selection.grid.methods, "base", 200, 0)
                if (c.method, c.task) == ("better", given.task.name)]  # fmt: skip
    nll = [
        -np.log(given.values[1, s][np.arange(60), given.task.labels]).mean()
        for s in np.flatnonzero(given.task.present[1])
    ]
    assert found.figures["nll"].value == pytest.approx(np.mean(nll))


# ---------------------------------------------------------------- the figures


def one_cell(rows=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), (2, 1, rows))
    labels = np.array([rng.choice(classes, p=row) for row in p[0, 0]])
    each = np.arange(rows)
    info = TaskInfo(labels=[str(k) for k in range(classes)], metrics=["accuracy"])
    task = TaskGrid("t", info, (0,), labels, p.argmax(axis=-1), each, each)
    return Probabilities(task, p, {})


def test_proper_scores_are_those_of_scikit_learn():
    given = one_cell()
    found = {c.method: c.figures for c in calibrations([given], ("m0", "m1"), "m0", 200, 0) if c.task == "t"}
    for m, name in enumerate(("m0", "m1")):
        p, labels = given.values[m, 0], given.task.labels
        assert found[name]["nll"].value == pytest.approx(log_loss(labels, p, labels=range(3)))
        assert found[name]["brier"].value == pytest.approx(
            brier_score_loss(labels, p, labels=range(3), scale_by_half=False)
        )


def test_calibration_error_and_selective_risk_are_those_of_slow_computations():
    given = one_cell()
    figures = calibrations([given], ("m0", "m1"), "m0", 200, 0)[0].figures
    p, labels = given.values[0, 0], given.task.labels
    sure, right = p.max(axis=1), p.argmax(axis=1) == labels
    gaps = []
    for b in range(BINS):
        inside = (sure > b / BINS) & (sure <= (b + 1) / BINS)
        if inside.any():
            gaps.append(inside.mean() * abs(right[inside].mean() - sure[inside].mean()))
    assert figures["ece"].value == pytest.approx(sum(gaps))
    order = np.argsort(-sure)
    risks = [1 - right[order[:k]].mean() for k in range(1, len(order) + 1)]
    assert figures["aurc"].value == pytest.approx(np.mean(risks))


def test_equally_sure_answers_are_withheld_together_and_unread_ones_are_wrong():
    given = one_cell(rows=100)
    given.values[:] = [0.5, 0.3, 0.2]
    given.task.predictions[:] = 0
    figures = calibrations([given], ("m0", "m1"), None, 200, 0)[0].figures
    wrong = np.mean(given.task.labels != 0)
    assert figures["aurc"].value == pytest.approx(wrong)
    assert figures["ece"].value == pytest.approx(abs(0.5 - (1 - wrong)))
    given.task.predictions[:] = -1
    assert calibrations([given], ("m0", "m1"), None, 200, 0)[0].figures["aurc"].value == 1


def test_a_paired_difference_of_one_seed_has_the_paired_t_interval():
    given = one_cell(rows=400)
    found = calibrations([given], ("m0", "m1"), "m0", 500, 0)
    versus = next(c for c in found if c.method == "m1").versus["brier"]
    truth = np.eye(3)[given.task.labels]
    each = ((given.values[1, 0] - truth) ** 2 - (given.values[0, 0] - truth) ** 2).sum(axis=1)
    assert versus.value == pytest.approx(each.mean())
    assert versus.se == pytest.approx(stats.sem(each), rel=0.1)
    assert versus.df == pytest.approx(399)
    assert all(c.versus == {} for c in found if c.method == "m0")


def test_the_suite_is_the_mean_over_tasks_of_methods_that_have_probabilities_everywhere():
    made = [with_scores(record) for record in fakes.records()]
    made = [
        fakes.with_rows(record, score=None) if (record.cell.method, record.cell.task) == ("slow", "beta") else record
        for record in made
    ]
    table = long_table(made)
    selection = select(table, groups(table)[0])
    given = probabilities(table, selection)
    found = calibrations(given, selection.grid.methods, "base", 200, 0)
    of = {(c.method, c.task): c for c in found}
    assert ("slow", "alpha") in of
    assert ("slow", "beta") not in of
    assert ("slow", None) not in of
    for figure in ("nll", "brier", "ece", "aurc"):
        parts = [of["better", task].versus[figure] for task in ("alpha", "beta", "gamma")]
        whole = of["better", None].versus[figure]
        assert whole.value == pytest.approx(np.mean([part.value for part in parts]))
        assert whole.se == pytest.approx(math.sqrt(sum(part.se**2 for part in parts)) / 3)
        assert whole.low < whole.value < whole.high


def test_probabilities_that_are_true_have_no_calibration_error_to_speak_of():
    true = scored(np.random.default_rng(0), 30_000, 1)
    honest, loud = (c.figures for c in calibrations([true], ("m0", "m1"), "m0", 200, 0)[:2])
    assert honest["ece"].value < 0.05 < loud["ece"].value
    assert honest["nll"].value < loud["nll"].value


@pytest.mark.slow
def test_intervals_of_differences_hold_as_those_of_scores_do():
    # The mark of a score's interval that is too short is a band below 93; with five seeds these hold in 92.5-94.5 %.
    for (what, _), entry in run(300, ["calibration"]).items():
        assert entry.band()[1] >= 93, what


# ---------------------------------------------------------------- in the report


def test_the_report_says_what_a_reviewer_asks_next(tmp_path):
    made = [with_scores(r) if r.cell.method != "slow" else r for r in fakes.records()]
    folder = fakes.write(tmp_path, made)
    stream = io.StringIO()
    request = ReportRequest(results=folder, format="json", resamples=200, margin=5)
    assert report_command(request, Console(file=stream)) == 0
    document = json.loads(stream.getvalue())
    board = document["leaderboards"][0]
    assert {one["method"] for one in board["hierarchical"]} == {"better", "slow"}
    assert set(board["hierarchical"][0]["suite"]) == {"difference", "margin", "better", "same", "worse"}
    assert {(c["method"], c["task"]) for c in board["calibration"]} == {
        (method, task) for method in ("base", "better") for task in (None, "alpha", "beta", "gamma")
    }
    assert board["no_calibration"]["beta"] == {"slow": "seed 0: no class scores"}
    assert len(board["seed_agreement"]) == 3 * 4
    assert {one["slice"] for one in board["slices"] if one["task"] == "alpha"} == {"0", "1", "2"}
    assert document["pooled_over_backbones"] == []


def test_a_board_without_a_baseline_has_what_needs_none(tmp_path):
    lone = [fakes.FakeMethod("one", 0.8), fakes.FakeMethod("two", 0.7)]
    folder = fakes.write(tmp_path, [with_scores(r) for r in fakes.records(methods=lone)])
    stream = io.StringIO()
    assert report_command(ReportRequest(results=folder, format="json", resamples=200), Console(file=stream)) == 0
    board = json.loads(stream.getvalue())["leaderboards"][0]
    assert (board["hierarchical"], board["slices"]) == ([], [])
    assert board["calibration"]
    assert all(one["versus"] == {} for one in board["calibration"])
