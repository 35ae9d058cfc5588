"""Every method's loss against a direct, slow computation; shuffles, controls, names."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import toy_rows
from hypothesis import given
from hypothesis import strategies as st
from slow import MARKER, Text, Whole, r, slow_loss, word, x, y
from trainers import trainer

import dhrd_bench as db
from dhrd_bench import registry
from dhrd_bench.contracts import Context, Example, Inference, LabeledExample, Prompt, TaskData
from dhrd_bench.modeling.encode import Encoder

PACKAGE = Path(db.__file__).parent


def dhrd(row: LabeledExample) -> list[Text]:
    return [Text("", x(row) + r(row) + y(row), row.label, input=x(row))]


def given_x(row: LabeledExample) -> list[Text]:
    return [Text(x(row), r(row) + y(row), row.label)]


def paused(row: LabeledExample) -> list[Text]:
    return [Text(x(row) + "...", r(row) + y(row), row.label)]


def taught(row: LabeledExample) -> LabeledExample:
    """The row with a teacher's opinion of it, which may be wrong; only methods that mix it in read it."""
    sure = int(row.example.id[1:]) % 10 / 10
    return replace(row, soft=(sure, 1 - sure))


def mixed(row: LabeledExample, gold: float, temperature: float = 1.0) -> tuple[float, ...]:
    assert row.soft is not None
    powers = [p ** (1 / temperature) for p in row.soft]
    return tuple(gold * (k == row.label) + (1 - gold) * powers[k] / sum(powers) for k in range(2))


DEFINITIONS: list[tuple[str, dict[str, Any], dict[str, float], Whole]] = [
    ("pooled", {}, {"cls": 1.0}, lambda row: [Text(x(row), "", row.label)]),
    ("pooled", {"pooling": "mean"}, {"cls": 1.0}, lambda row: [Text(x(row), "", row.label)]),
    ("pooled", {"pause": 2}, {"cls": 1.0}, lambda row: [Text(x(row) + "..", "", row.label)]),
    (
        "pooled", {"label_smoothing": 0.2}, {"cls": 1.0},
        lambda row: [Text(x(row), "", row.label, soft=(0.1, 0.9) if row.label else (0.9, 0.1))],
    ),
    ("pooled", {"match": "tokens"}, {"cls": 1.0}, lambda row: [Text(x(row), "", row.label)]),
    ("soft-labels", {}, {"cls": 1.0}, lambda row: [Text(x(row), "", row.label, soft=mixed(row, 0.5))]),
    (
        "soft-labels", {"gold": 0.25, "temperature": 2.0}, {"cls": 1.0},
        lambda row: [Text(x(row), "", row.label, soft=mixed(row, 0.25, 2.0))],
    ),
    (
        "dhrd", {"soft": 0.3}, {"cls": 1.0, "lm": 1.0},
        lambda row: [replace(text, soft=mixed(row, 0.7)) for text in dhrd(row)],
    ),
    ("dhrd", {"pooling": "mean", "alpha": 0.5}, {"cls": 1.0, "lm": 0.5}, dhrd),
    ("dhrd", {"lm_scope": "rationale", "pause": 3}, {"cls": 1.0, "lm": 1.0}, paused),
    ("dhrd", {"alpha": 0.5, "beta": 2.0}, {"cls": 2.0, "lm": 0.5}, dhrd),
    ("dhrd", {"lm_scope": "rationale"}, {"cls": 1.0, "lm": 1.0}, given_x),
    ("dhrd-rationale-only", {"alpha": 0.3}, {"cls": 1.0, "lm": 0.3}, given_x),
    (
        "dhrd-only-label", {"alpha": 0.5}, {"cls": 1.0, "lm": 0.5},
        lambda row: [Text("", x(row) + y(row), row.label, input=x(row))],
    ),
    (
        "lm-input-only", {"alpha": 0.5}, {"cls": 1.0, "lm": 0.5},
        lambda row: [Text("", x(row), row.label, input=x(row), end=False)],
    ),
    ("cot", {}, {"lm": 1.0}, lambda row: [Text("", x(row) + r(row) + y(row))]),
    ("cot", {"lm_scope": "rationale"}, {"lm": 1.0}, lambda row: [Text(x(row), r(row) + y(row))]),
    ("dhrd-key-tokens", {"share": 1.0, "alpha": 0.5}, {"cls": 1.0, "lm": 0.5}, dhrd),
    ("stepwise-internalisation", {}, {"lm": 1.0}, lambda row: [Text(x(row), y(row))]),
    ("label-lm", {}, {"lm": 1.0}, lambda row: [Text(x(row) + MARKER, word(row))]),
    ("label-lm", {"lm_scope": "all"}, {"lm": 1.0}, lambda row: [Text("", x(row) + y(row))]),
    (
        "post-rationale", {}, {"lm": 1.0},
        lambda row: [Text(x(row) + MARKER, word(row) + r(row))],
    ),
    ("post-rationale", {"lm_scope": "all"}, {"lm": 1.0}, lambda row: [Text("", x(row) + y(row) + r(row))]),
    (
        "rationale-mtl", {"a": 0.3}, {"label": 0.3, "rationale": 0.7},
        lambda row: [
            Text("[label] " + x(row) + MARKER, word(row), term="label"),
            Text("[rationale] " + x(row) + "\nReasoning:", f" {row.rationale}", term="rationale"),
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "params", "weights", "whole"),
    DEFINITIONS,
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_loss_is_the_definition(
    name: str, params: dict[str, Any], weights: dict[str, float], whole: Whole, toy: TaskData, context: Context
) -> None:
    toy = replace(toy, train=tuple(map(taught, toy.train)))
    made, trained = trainer(name, toy, context, **params)
    assert dict(made.weights()) == pytest.approx(weights)
    actual = float(trained.backward([row for rows in trained.train for row in rows]))
    expected = slow_loss(toy.train, whole, weights, context, trained.head, params.get("pooling", "last"))
    assert actual == pytest.approx(expected, rel=1e-4)


def test_every_trained_method_is_defined_here() -> None:
    trained = {name for name in registry.methods if issubclass(registry.methods.get(name), db.FineTuned)}
    own_tests = {"dhrd-shuffle-reasoning", "dhrd-shuffle-reasoning-label", "dhrd-permute-tokens"}
    own_tests |= {"mi-cot", "scott", "lm-other-text", "r-drop"}  # in test_newer.py and test_matched.py
    assert trained == {name for name, *_ in DEFINITIONS} | own_tests


# ---------------------------------------------------------------- shuffles


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 2**63 - 1))
def test_a_derangement_gives_no_position_its_own_value(values: list[int], seed: int) -> None:
    takes = db.derange(values, seed)
    assert sorted(takes) == list(range(len(values)))
    kept = sum(values[j] == value for value, j in zip(values, takes, strict=True))
    most = max(Counter(values).values(), default=0)
    assert kept == max(0, 2 * most - len(values))  # none, unless one value fills more than half
    assert takes == db.derange(values, seed)


@given(st.integers(2, 40), st.integers(0, 2**63 - 1))
def test_distinct_values_never_stay(count: int, seed: int) -> None:
    assert all(i != j for i, j in enumerate(db.derange(range(count), seed)))


def test_derangements_differ_by_seed() -> None:
    assert len({tuple(db.derange(range(8), seed)) for seed in range(20)}) > 15


def test_shuffled_reasoning_belongs_to_another_row(toy: TaskData, context: Context) -> None:
    made = registry.methods.get("dhrd-shuffle-reasoning")()
    shuffled = made.prepare(toy, context)  # type: ignore[attr-defined]
    own = [row.rationale for row in toy.train]
    given_ = [row.rationale for row in shuffled.train]
    assert sorted(map(str, own)) == sorted(map(str, given_))
    assert all(a != b for a, b in zip(own, given_, strict=True))
    assert [(row.example, row.label) for row in shuffled.train] == [(row.example, row.label) for row in toy.train]
    assert shuffled.dev == toy.dev
    assert made.prepare(toy, context) == shuffled  # type: ignore[attr-defined]
    context.seed = 1
    assert made.prepare(toy, context) != shuffled  # type: ignore[attr-defined]


def test_rows_without_a_rationale_get_none(toy: TaskData, context: Context) -> None:
    rows = tuple(replace(row, rationale=None) if i % 3 == 0 else row for i, row in enumerate(toy.train))
    shuffled = registry.methods.get("dhrd-shuffle-reasoning")().prepare(replace(toy, train=rows), context)  # type: ignore[attr-defined]
    assert [row.rationale is None for row in shuffled.train] == [i % 3 == 0 for i in range(len(rows))]


def test_shuffled_reasoning_loss(toy: TaskData, context: Context) -> None:
    made, trained = trainer("dhrd-shuffle-reasoning", toy, context)
    rows = made.prepare(toy, context).train
    actual = float(trained.backward([row for rows in trained.train for row in rows]))
    assert actual == pytest.approx(slow_loss(rows, dhrd, {"cls": 1.0, "lm": 1.0}, context, trained.head), rel=1e-4)


@pytest.mark.parametrize("shuffle_class_label", [True, False])
def test_shuffled_reasoning_and_label(shuffle_class_label: bool, toy: TaskData, context: Context) -> None:
    made, trained = trainer("dhrd-shuffle-reasoning-label", toy, context, shuffle_class_label=shuffle_class_label)
    other = {row.example.id: made.other[row.example.id] for row in toy.train}
    assert sorted(row.example.id for row in other.values()) == sorted(other)
    assert all(toy.train[i].rationale != other[toy.train[i].example.id].rationale for i in range(12))

    def whole(row: LabeledExample) -> list[Text]:
        taken = other[row.example.id]
        label = taken.label if shuffle_class_label else row.label
        return [Text("", x(row) + r(taken) + y(taken), label, input=x(row))]

    actual = float(trained.backward([row for rows in trained.train for row in rows]))
    assert actual == pytest.approx(
        slow_loss(toy.train, whole, {"cls": 1.0, "lm": 1.0}, context, trained.head), rel=1e-4
    )
    # dev chooses the epoch and keeps its own labels.
    assert [row.label for row in trained.dev] == [row.label for row in toy.dev]


def test_permuted_tokens_are_the_row_s_own(toy: TaskData, context: Context) -> None:
    made, trained = trainer("dhrd-permute-tokens", toy, context)
    encoder = Encoder(context.backbone, context.budget, toy.card)
    marker = len(context.backbone.encode("\nReasoning:"))
    permuted = {}
    for row in toy.train:
        tokens = made.reasoning(row, encoder)
        straight = encoder.reasoning(row.rationale)
        assert tokens[:marker] == straight[:marker]
        assert sorted(tokens) == sorted(straight)
        assert tokens != straight
        assert tokens == made.reasoning(row, encoder)
        permuted[row.example.id] = context.backbone.decode(tokens)
    assert made.reasoning(replace(toy.train[0], rationale=None), encoder) == []

    def whole(row: LabeledExample) -> list[Text]:
        return [Text("", x(row) + permuted[row.example.id] + y(row), row.label, input=x(row))]

    actual = float(trained.backward([row for rows in trained.train for row in rows]))
    assert actual == pytest.approx(
        slow_loss(toy.train, whole, {"cls": 1.0, "lm": 1.0}, context, trained.head), rel=1e-4
    )


# ---------------------------------------------------------------- prediction


def test_majority_counts_the_train_rows(toy: TaskData, context: Context, tmp_path: Path) -> None:
    rows = tuple(replace(row, label=int(i < 8)) for i, row in enumerate(toy.train))
    made = registry.methods.get("majority")()
    made.fit(replace(toy, train=rows), context)
    assert made.predict([row.example for row in toy.dev], context).labels == [1] * 4
    made.fit(replace(toy, train=rows[4:]), context)
    assert made.predict([rows[0].example], context).labels == [0]  # a tie: the first class
    with pytest.raises(db.UserError, match="no training rows"):
        made.fit(replace(toy, train=()), context)


@pytest.mark.parametrize("name", ["rationale-mtl", "post-rationale"])
def test_written_and_scored_answers_agree(name: str, toy: TaskData, context: Context) -> None:
    """The greedy answer is the likeliest one, once the LM writes nothing but answers."""
    context.budget = context.budget.model_copy(update={"epochs": 60, "tuning": "full", "learning_rate": 5e-3})
    cls = registry.methods.get(name)
    made: Any = cls()
    made.fit(toy, context)
    examples = [row.example for row in toy.train]
    written = made.predict(examples, context)
    made.params = cls.Params(predict="score")
    scored = made.predict(examples, context)
    assert -1 not in written.labels
    assert written.labels == scored.labels
    assert len(set(written.labels)) == 2


def test_dev_loss_of_two_tasks_is_weighted_as_in_training(toy: TaskData, context: Context) -> None:
    """Long rationales must not choose the epoch for the label task."""
    _, trained = trainer("rationale-mtl", toy, context, a=0.9)
    figures = trained.evaluate(trained.dev).figures(trained.weights)
    whole = next(whole for name, _, _, whole in DEFINITIONS if name == "rationale-mtl")
    expected = slow_loss(toy.dev, whole, {"label": 0.9, "rationale": 0.1}, context, None)
    assert figures["dev_lm_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["cot", "cot-zeroshot"])
def test_sampled_methods_repeat_by_seed_and_do_not_depend_on_the_batch(
    name: str, toy: TaskData, context: Context
) -> None:
    cls = registry.methods.get(name)
    made = cls(cls.Params(samples=3, decoding="diverse"))
    made.fit(toy, context)
    examples = [row.example for row in toy_rows(5, 40)]
    texts = made.predict(examples, context).texts
    assert texts is not None
    assert made.predict(examples[::-1], context).texts == texts[::-1]
    assert [made.predict([replace(example, id="other")], context).texts for example in examples] == [
        [text] for text in texts
    ]
    context.seed = 1
    assert made.predict(examples, context).texts != texts


def test_a_prompted_method_needs_no_rows(toy: TaskData, context: Context) -> None:
    made = registry.methods.get("cot-zeroshot")()
    made.fit(replace(toy, train=(), dev=()), context)
    assert len(made.predict([Example("a", Prompt("", "", "Why?"))], context).labels) == 1


# ---------------------------------------------------------------- cards and names


def test_cards_say_where_a_method_comes_from() -> None:
    names = set(registry.methods)
    wanted = {
        "majority", "pooled", "dhrd", "label-lm", "rationale-mtl", "post-rationale", "cot", "cot-zeroshot",
        "dhrd-only-label", "dhrd-shuffle-reasoning", "dhrd-shuffle-reasoning-label", "dhrd-permute-tokens",
        "lm-input-only", "dhrd-rationale-only", "lm-other-text", "soft-labels", "r-drop",
    }  # fmt: skip
    assert wanted <= names
    cards = [registry.methods.get(name).card for name in sorted(wanted)]
    assert all(card.summary and card.objective and card.paper for card in cards)
    assert [card.name for card in cards if card.role == "baseline"] == ["pooled"]
    assert [card.name for card in cards if card.role == "reference"] == ["cot"]
    assert {card.name for card in cards if card.role == "control"} == {
        "majority", "dhrd-only-label", "dhrd-shuffle-reasoning", "dhrd-shuffle-reasoning-label", "dhrd-permute-tokens",
        "lm-input-only", "dhrd-rationale-only", "lm-other-text",
    }  # fmt: skip


def test_method_files_are_short_and_use_the_public_package_only() -> None:
    for path in sorted((PACKAGE.parent / "baselines").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert len(source.splitlines()) < 60, path.name
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("dhrd_bench"), path.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "db":
                assert node.attr in db.__all__, f"{path.name}: db.{node.attr}"


def test_no_method_is_named_in_the_harness() -> None:
    """The harness knows the contracts, never a method; a kind of inference may share its name with one."""
    kinds = get_args(Inference)
    names = "|".join(map(re.escape, registry.methods))
    quoted = re.compile(rf"""["'`,](?P<name>{names})(?:["'`,]|\[)""")
    found = []
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix not in (".py", ".yaml", ".template") or (PACKAGE / "baselines") in path.parents:
            continue
        text = path.read_text(encoding="utf-8")
        for match in quoted.finditer(text):
            line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
            if match["name"] not in kinds or not ("inference" in line or "generate" in line):
                found.append(f"{path.relative_to(PACKAGE)}: {line.strip()}")
    assert not found, "\n".join(found)
