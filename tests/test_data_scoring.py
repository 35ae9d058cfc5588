"""Metrics against loops written by hand and against scikit-learn; answers of candidates to one class a row."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import evaluate
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from dhrd_bench.contracts import UNPARSABLE, Predictions
from dhrd_bench.data.metrics import compute
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.scoring import choose, score
from dhrd_bench.metrics import METRICS

# ---------------------------------------------------------------- by hand


def accuracy(predicted: list[int], gold: list[int], groups: list[str], classes: int) -> float:
    right = 0
    for p, g in zip(predicted, gold, strict=True):
        if p == g:
            right += 1
    return right / len(gold)


def f1_of(label: int, predicted: list[int], gold: list[int]) -> float:
    hits = false_alarms = misses = 0
    for p, g in zip(predicted, gold, strict=True):
        if p == label and g == label:
            hits += 1
        elif p == label:
            false_alarms += 1
        elif g == label:
            misses += 1
    if hits == 0:
        return 0.0
    precision, recall = hits / (hits + false_alarms), hits / (hits + misses)
    return 2 * precision * recall / (precision + recall)


def f1(predicted: list[int], gold: list[int], groups: list[str], classes: int) -> float:
    return f1_of(1, predicted, gold)


def f1_macro(predicted: list[int], gold: list[int], groups: list[str], classes: int) -> float:
    return sum(f1_of(label, predicted, gold) for label in range(classes)) / classes


def exact_match(predicted: list[int], gold: list[int], groups: list[str], classes: int) -> float:
    names, right = [], 0
    for name in groups:
        if name not in names:
            names.append(name)
    for name in names:
        whole = True
        for p, g, group in zip(predicted, gold, groups, strict=True):
            if group == name and p != g:
                whole = False
        right += whole
    return right / len(names)


def matthews(predicted: list[int], gold: list[int], groups: list[str], classes: int) -> float:
    """Gorodkin's R_K from the confusion table, the unparsable answers being a class of their own."""
    labels = [UNPARSABLE, *range(classes)]
    table = {(a, b): 0 for a in labels for b in labels}
    for p, g in zip(predicted, gold, strict=True):
        table[g, p] += 1
    n = len(gold)
    diagonal = sum(table[k, k] for k in labels)
    rows = {k: sum(table[k, b] for b in labels) for k in labels}
    columns = {k: sum(table[a, k] for a in labels) for k in labels}
    above = diagonal * n - sum(rows[k] * columns[k] for k in labels)
    below = (n * n - sum(v * v for v in rows.values())) * (n * n - sum(v * v for v in columns.values()))
    return above / below**0.5 if below else 0.0


BY_HAND: dict[str, Callable[[list[int], list[int], list[str], int], float]] = {
    "accuracy": accuracy, "f1": f1, "f1a": f1, "f1_macro": f1_macro, "exact_match": exact_match,
    "matthews_correlation": matthews,
}  # fmt: skip

ROWS = st.integers(2, 3).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(
            st.tuples(st.integers(UNPARSABLE, classes - 1), st.integers(0, classes - 1), st.sampled_from("abcd")),
            min_size=1,
            max_size=12,
        ),
    )
)


@pytest.mark.parametrize("name", METRICS)
@settings(deadline=None, max_examples=30)
@given(ROWS)
def test_every_metric_equals_its_loop(name: str, case: tuple[int, list[tuple[int, int, str]]]) -> None:
    classes, rows = case
    predicted, gold, groups = (list(column) for column in zip(*rows, strict=True))
    expected = BY_HAND[name](predicted, gold, groups, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn remarks on a single class
        assert compute(name, predicted, gold, groups, classes) == pytest.approx(100 * expected, abs=1e-9)


def test_macro_f1_is_over_three_classes_also_when_one_is_absent() -> None:
    gold, predicted = [0, 0, 1, 1], [0, 1, 1, 1]
    assert compute("f1_macro", predicted, gold, list("abcd"), 3) == pytest.approx(
        100 * sklearn.metrics.f1_score(gold, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
    )
    assert compute("f1_macro", gold, gold, list("abcd"), 3) == pytest.approx(200 / 3)


def test_f1a_counts_options_and_exact_match_questions() -> None:
    gold, groups = [1, 0, 1, 1, 0], ["q1", "q1", "q1", "q2", "q2"]
    predicted = [1, 0, 0, 1, 0]
    assert compute("f1a", predicted, gold, groups, 2) == pytest.approx(100 * sklearn.metrics.f1_score(gold, predicted))
    assert compute("exact_match", predicted, gold, groups, 2) == 50.0


def test_a_metric_of_the_evaluate_library_by_name(tmp_path, monkeypatch) -> None:
    """Loaded the way a hub metric is, from a local script, so that no network is needed."""
    folder = tmp_path / "hits"
    folder.mkdir()
    (folder / "hits.py").write_text(
        "import datasets\nimport evaluate\n"
        "class Hits(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        columns = {name: datasets.Value('int64') for name in ('predictions', 'references')}\n"
        "        return evaluate.MetricInfo(description='', citation='', features=datasets.Features(columns))\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'hits': sum(p == r for p, r in zip(predictions, references)) / len(references)}\n"
    )
    genuine = evaluate.load
    monkeypatch.setattr("evaluate.load", lambda name, **options: genuine(str(tmp_path / name), **options))
    assert compute("evaluate:hits", [0, 1, 1, 0], [0, 1, 0, 0], list("abcd"), 2) == 75.0
    monkeypatch.chdir(tmp_path)  # where a folder of that name would be taken for the library's metric
    for other in ("hits", str(folder), "./hits", "someone/hits", "../hits", "hits.py"):
        with pytest.raises(UserError, match="would run other code"):
            compute(f"evaluate:{other}", [0], [0], ["a"], 2)
    with pytest.raises(UserError, match=r"Unknown metric 'acuracy'\. Did you mean 'accuracy'"):
        compute("acuracy", [0], [0], ["a"], 2)


# ---------------------------------------------------------------- candidates


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from("abc")), min_size=1), st.data())
def test_an_unread_answer_costs_what_the_documents_say(rows: list[tuple[int, int, str]], data: st.DataObject) -> None:
    predicted, gold, groups = (list(column) for column in zip(*rows, strict=True))
    at = data.draw(st.integers(0, len(rows) - 1))

    def with_answer(name: str, answer: int) -> float:
        answers = [*predicted[:at], answer, *predicted[at + 1 :]]
        return METRICS[name].measure(np.array(answers), np.array(gold), groups, 2)

    for name in ("accuracy", "exact_match"):
        assert with_answer(name, UNPARSABLE) == with_answer(name, 1 - gold[at])
    for name in ("f1", "f1a"):  # a miss where the truth is positive, and right where it is negative
        assert with_answer(name, UNPARSABLE) == with_answer(name, 0)
    assert with_answer("f1_macro", 1 - gold[at]) - 1e-12 <= with_answer("f1_macro", UNPARSABLE)
    assert with_answer("f1_macro", UNPARSABLE) <= with_answer("f1_macro", gold[at]) + 1e-12


def test_an_unread_no_costs_f1a_nothing_and_exact_match_its_question() -> None:
    gold, groups = [1, 0, 1, 0], ["a", "a", "b", "b"]
    for answers, f1a_is, exact in (([1, 0, 1, 0], 100, 100), ([1, -1, 1, 0], 100, 50), ([1, 0, -1, 0], 200 / 3, 50)):
        assert compute("f1a", answers, gold, groups, 2) == pytest.approx(f1a_is)
        assert compute("exact_match", answers, gold, groups, 2) == pytest.approx(exact)


def test_the_largest_margin_wins() -> None:
    scores = [[0.0, 1.0], [0.0, 3.0], [2.0, 0.0]]
    assert choose(Predictions([1, 1, 0], scores), 3) == ([1], [[1.0, 3.0, -2.0]])


def test_without_scores_the_answers_are_compared_and_ties_go_to_the_first() -> None:
    assert choose(Predictions([0, 1, 0, 1, 1, 0, 0, 0, 0]), 3)[0] == [1, 0, 0]


def test_an_unparsable_answer_is_neutral_and_a_silent_row_unparsable() -> None:
    assert choose(Predictions([0, UNPARSABLE, 0]), 3)[0] == [1]  # two noes: the unread one is left
    assert choose(Predictions([UNPARSABLE, 1, UNPARSABLE]), 3)[0] == [1]
    assert choose(Predictions([UNPARSABLE] * 3 + [1, 0, 0]), 3)[0] == [UNPARSABLE, 0]
    scores = [[0.0, -1.0], [9.0, 9.5], [0.0, -2.0]]
    assert choose(Predictions([0, UNPARSABLE, 0], scores), 3) == ([1], [[-1.0, 0.0, -2.0]])


@pytest.mark.parametrize("task", ["CB", "COPA"])
def test_right_answers_about_candidates_score_100(task: str) -> None:
    loaded = Suite.named("mini7").load(task, prompt="paper")
    test, classes = loaded.test, len(loaded.test.classes)
    answers = [int(label == candidate) for label in test.labels for candidate in range(classes)]
    outcome = score(loaded.card, test, Predictions(answers))
    assert outcome.score == pytest.approx(100)
    assert outcome.unparsable == 0
    assert len(outcome.rows.id) == 80
    assert outcome.rows.prediction == list(test.labels)
    assert outcome.rows.score is not None
    assert len(outcome.rows.score[0]) == classes


def test_an_outcome_has_the_mean_of_the_metrics_and_the_columns_of_the_split() -> None:
    loaded = Suite.named("mini7").load("MultiRC")
    labels = [UNPARSABLE if n == 0 else label for n, label in enumerate(loaded.test.labels)]
    outcome = score(loaded.card, loaded.test, Predictions(labels))
    assert set(outcome.metrics) == {"f1a", "exact_match"}
    assert outcome.score == pytest.approx(sum(outcome.metrics.values()) / 2)
    assert outcome.metrics["exact_match"] == pytest.approx(100 * 22 / 23)
    assert outcome.unparsable == pytest.approx(1 / 81)
    assert outcome.rows.cluster == list(loaded.test.clusters or ())
    assert outcome.rows.group == list(loaded.test.groups or ())


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (Predictions([0]), "1 predictions for 80 examples"),
        (Predictions([2] * 80), "label id 2"),
        (Predictions([0] * 80, [[0.0]] * 80), "not 80 x 2"),
        (Predictions([0] * 80, [[0.0, float("nan")]] * 80), "NaN"),
    ],
)
def test_predictions_that_cannot_be_are_refused(predictions: Predictions, message: str) -> None:
    loaded = Suite.named("mini7").load("RTE")
    with pytest.raises(ValueError, match=message):
        score(loaded.card, loaded.test, predictions)
