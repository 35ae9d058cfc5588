"""Newer forms of distilling reasoning, each against a slow computation; counterfactual rationales from store to row."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from own_suites import FROM_STORE, ROWS, store_lines, write
from rich.console import Console
from sklearn.metrics import mutual_info_score
from slow import Text, beside, r, slow_hidden, slow_loss, word, x, y
from trainers import flat, gradients, new, trained

import dhrd_bench as db
from dhrd_bench import plugins
from dhrd_bench.backbones import Backbone, load, resolve
from dhrd_bench.data.rationales import Rationale, fingerprint, to_line
from dhrd_bench.grid import wire
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.run import run_plan
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.progress import Display
from dhrd_bench.rationales.audit.report import Thresholds
from dhrd_bench.rationales.audit.task import audit_task
from dhrd_bench.request import RunRequest
from dhrd_bench.training.trainer import Trainer

# ---------------------------------------------------------------- stepwise internalisation


def reasons(made: Any, row: db.LabeledExample, encode: Encoder, epoch: int, epochs: int) -> str:
    """What stands between input and answer in one epoch."""
    ((text),) = [encode.backbone.decode(each.ids) for each in made.rows_at(row, encode, epoch, epochs)]
    start = len(x(row))
    return text[start : text.rindex("\nFinal Answer:")]


def stepwise(settings: str, seed: int = 0) -> tuple[Any, Encoder]:
    made = new(f"stepwise-internalisation[{settings}]" if settings else "stepwise-internalisation")
    tiny = load(resolve("tiny"))
    task = db.TaskCard(
        name="t", labels=("no", "yes"), answers=("No", "Yes"), metrics=("accuracy",), prompt="native",
        prompt_version="1", version="1",
    )  # fmt: skip
    budget = db.Budget(name="b")
    made.prepare(db.TaskData(task, (), ()), db.Context(tiny, budget, "t", seed))
    return made, Encoder(tiny, budget, task)


def reasoned(letters: str, name: str = "a") -> db.LabeledExample:
    return db.LabeledExample(db.Example(name, db.Prompt("", "", "Why?")), 1, letters)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.none() | st.integers(1, 9))
def test_what_is_left_of_a_rationale_is_a_shorter_end_of_it(length: int, epochs: int, delta: int | None) -> None:
    """Without an offset: delta tokens an epoch, or equal shares; none in the last."""
    made, encode = stepwise("smoothing=1000" + (f",delta={delta}" if delta else ""))
    text = "".join(chr(ord("a") + i % 26) for i in range(length - 1)) + "."
    spelled = f" {text}"  # bytes are tokens, the space before the text is one
    for epoch in range(epochs):
        last = epoch == epochs - 1
        removed = epoch * delta if delta else math.ceil(epoch * len(spelled) / max(1, epochs - 1))
        left = "" if last else spelled[removed:]
        expected = f"\nReasoning:{left}" if left else ""
        assert reasons(made, reasoned(text), encode, epoch, epochs) == expected


def test_the_offset_is_geometric_and_drawn_by_row_epoch_and_seed() -> None:
    made, encode = stepwise("smoothing=0.5,delta=2")
    text = "abcdefghijklmnopqrstuvwxyz" * 2
    counts = [
        len(text) + 1 - 2 - len(reasons(made, reasoned(text, str(i)), encode, 1, 9).removeprefix("\nReasoning:"))
        for i in range(600)
    ]
    assert min(counts) == 0
    for offset in range(4):
        expected = (1 - math.exp(-0.5)) * math.exp(-0.5 * offset)
        assert counts.count(offset) / 600 == pytest.approx(expected, abs=4 * math.sqrt(expected / 600))
    row = reasoned(text)
    drawn = [[reasons(made, row, encode, epoch, 40) for epoch in range(8)] for made, _ in (stepwise("smoothing=0.5"),)]
    again = [[reasons(made, row, encode, epoch, 40) for epoch in range(8)] for made, _ in (stepwise("smoothing=0.5"),)]
    other = [[reasons(made, row, encode, e, 40) for e in range(8)] for made, _ in (stepwise("smoothing=0.5", seed=1),)]
    assert drawn == again != other


def test_the_loss_of_an_epoch_is_that_of_what_is_left(toy: db.TaskData, context: db.Context) -> None:
    context.budget = context.budget.model_copy(update={"epochs": 3})
    trainer = trained(new("stepwise-internalisation[smoothing=1000]"), toy, context)
    dev = [context.backbone.decode(row.ids) for row in trainer.dev]
    assert dev == [x(row) + y(row) for row in toy.dev], "dev rows are what is asked at test time"

    def half(row: db.LabeledExample) -> list[Text]:
        spelled = f" {row.rationale}"
        return [Text(x(row), "\nReasoning:" + spelled[math.ceil(len(spelled) / 2) :] + y(row))]

    forms: list[Callable[[db.LabeledExample], list[Text]]] = [
        lambda row: [Text(x(row), r(row) + y(row))],
        half,
        lambda row: [Text(x(row), y(row))],
    ]
    for epoch, whole in enumerate(forms):
        trainer.begin(epoch)
        actual = float(trainer.backward(flat(trainer)))
        assert actual == pytest.approx(slow_loss(toy.train, whole, {"lm": 1.0}, context, None), rel=1e-4)
    Trainer.close(trainer)


# ---------------------------------------------------------------- mutual information of two tasks


def two_tasks(row: db.LabeledExample) -> list[Text]:
    return [
        Text("[label] " + x(row) + "\nFinal Answer:", word(row), term="label"),
        Text("[rationale] " + x(row) + "\nReasoning:", f" {row.rationale}", term="rationale"),
    ]


def test_the_bound_on_mutual_information_is_the_definition(toy: db.TaskData, context: db.Context) -> None:
    """Loss and gradient, one sequence at a time; the label task's side is a target and has none."""
    trainer = trained(new("mi-cot[a=0.3,beta=0.7]"), toy, context)
    backbone: Any = context.backbone
    trainer.pack_tokens = 150  # several packs
    found = float(trainer.backward(flat(trainer)))
    packed = gradients(trainer)
    for parameter in trainer.parameters:
        parameter.grad = None
    terms: dict[str, list[torch.Tensor]] = {"label": [], "rationale": [], "bound": []}
    for row in toy.train:
        most = []
        for text in two_tasks(row):
            before, target = backbone.encode(text.before), [*backbone.encode(text.target), backbone.eos_id]
            logits = backbone.logits(slow_hidden(backbone, before + target))[len(before) - 1 : -1].float()
            terms[text.term].extend(F.cross_entropy(logits, beside(logits, target), reduction="none"))
            most.append(torch.stack([each.softmax(-1) for each in logits]).max(dim=0).values)
        # As torch.nn.CrossEntropyLoss takes logits and probabilities.
        terms["bound"].append(torch.nn.CrossEntropyLoss()(most[1][None], most[0].detach()[None]))
    means = {name: torch.stack(losses).mean() for name, losses in terms.items()}
    expected = 0.3 * means["label"] + 0.7 * means["rationale"] + 0.7 * means["bound"]
    assert found == pytest.approx(expected.item(), rel=1e-4)
    expected.backward()  # type: ignore[no-untyped-call]
    for a, b in zip(packed, gradients(trainer), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-6)
    Trainer.close(trainer)


def test_without_its_weight_it_is_distilling_step_by_step(toy: db.TaskData, context: db.Context) -> None:
    losses = []
    rows = (replace(toy.train[0], rationale=None), *toy.train[1:])
    for name in ("mi-cot[beta=0]", "rationale-mtl", "mi-cot"):
        trainer = trained(new(name), replace(toy, train=rows), context)
        losses.append(float(trainer.backward(flat(trainer))))
        Trainer.close(trainer)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[2] != pytest.approx(losses[1], rel=1e-3)


def test_a_pass_over_other_sequences_is_theirs(toy: db.TaskData, context: db.Context) -> None:
    trainer = trained(new("rationale-mtl"), toy, context)
    rows = flat(trainer)
    seen: list[db.Pass] = []

    def noted(each: db.Pass) -> torch.Tensor:
        seen.append(each.over(rows[:2]))
        return each.states.new_zeros(len(each.rows)).float()

    trainer.loss = noted
    trainer.backward(rows[4:6])
    (other,) = seen
    for row, states, logits in zip(rows[:2], other.hidden, other.lm_logits, strict=True):
        slow = slow_hidden(context.backbone, row.ids)  # type: ignore[arg-type]
        torch.testing.assert_close(states, slow, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            logits, context.backbone.logits(slow[row.targets.start - 1 : row.targets.stop - 1]), rtol=1e-3, atol=1e-3
        )
    Trainer.close(trainer)


# ---------------------------------------------------------------- key tokens


LETTERS = st.lists(st.tuples(st.text("abcd", min_size=1, max_size=5), st.integers(0, 2)), min_size=1, max_size=10)


@settings(max_examples=25, deadline=None)
@given(LETTERS)
def test_tokens_are_ranked_by_rarity_or_by_what_they_tell_of_the_label(held: list[tuple[str, int]]) -> None:
    _, encode = stepwise("")
    card = encode.card.model_copy(update={"labels": ("x", "y", "z"), "answers": ("X", "Y", "Z")})
    rows = tuple(replace(reasoned(text, str(i)), label=label) for i, (text, label) in enumerate(held))
    rows += (replace(rows[0], rationale=None),)  # counts for nothing
    context = db.Context(encode.backbone, encode.budget, "t", 0)
    for settings_ in ("", "[weighting=label]"):
        made = new(f"dhrd-key-tokens{settings_}")
        made.prepare(db.TaskData(card, rows, ()), context)
        for letter in set("".join(text for text, _ in held)):
            there = [letter in text for text, _ in held]
            expected = (
                mutual_info_score(there, [label for _, label in held])
                if settings_
                else math.log(len(held) / sum(there))
            )
            assert made.scores[encode.backbone.encode(letter)[0]] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_only_the_rarest_tokens_of_a_rationale_are_lm_targets(
    share: float, toy: db.TaskData, context: db.Context, tiny: Backbone
) -> None:
    trainer = trained(new(f"dhrd-key-tokens[share={share},alpha=0.5]"), toy, context)
    held = Counter(letter for row in toy.train for letter in set(f" {row.rationale}"))
    cls, lm, kept = torch.zeros(()), torch.zeros(()), 0
    for row in toy.train:
        spelled = f" {row.rationale}"
        # sorted() is stable: of letters that are as rare as each other the first ones are kept.
        chosen = sorted(range(len(spelled)), key=lambda i: held[spelled[i]])[: math.ceil(share * len(spelled))]
        start = len(x(row)) + len("\nReasoning:")
        ids = [*tiny.encode(x(row) + r(row) + y(row)), tiny.eos_id]
        states = slow_hidden(tiny, ids)
        cls = cls + F.cross_entropy(trainer.logits(states[len(x(row)) - 1][None]), beside(states, [row.label])).cpu()
        for place in range(1, len(ids)):
            if not start <= place < start + len(spelled) or place - start in chosen:
                logits = tiny.logits(states[place - 1]).float()
                lm, kept = lm + F.cross_entropy(logits[None], beside(states, [ids[place]])).cpu(), kept + 1
    expected = cls.item() / len(toy.train) + 0.5 * lm.item() / kept
    assert float(trainer.backward(flat(trainer))) == pytest.approx(expected, rel=1e-4)
    Trainer.close(trainer)


# ---------------------------------------------------------------- counterfactual rationales


def with_counterfactuals(task: db.TaskData) -> db.TaskData:
    def told(row: db.LabeledExample) -> db.LabeledExample:
        return replace(row, counterfactuals=((1 - row.label, f"One may doubt {row.example.id}."),))

    return replace(task, train=(task.train[0], *map(told, task.train[1:])), dev=tuple(map(told, task.dev)))


def factual(row: db.LabeledExample) -> Text:
    return Text("[factual] " + x(row), r(row) + y(row), term="factual")


def test_the_loss_on_counterfactuals_is_on_their_answers_alone(toy: db.TaskData, context: db.Context) -> None:
    task = with_counterfactuals(toy)
    trainer = trained(new("scott[a=0.3]"), task, context)

    def whole(row: db.LabeledExample) -> list[Text]:
        given_ = [
            Text(f"[counterfactual] {x(row)}\nReasoning: {text}\nFinal Answer:", [" No", " Yes"][label], term="other")
            for label, text in row.counterfactuals
        ]
        return [factual(row), *given_]

    expected = slow_loss(task.train, whole, {"factual": 0.7, "other": 0.3}, context, None)
    assert float(trainer.backward(flat(trainer))) == pytest.approx(expected, rel=1e-4)
    figures = trainer.evaluate(trainer.dev).figures(trainer.weights)
    alone = slow_loss(task.dev, lambda row: [factual(row)], {"factual": 0.7}, context, None)
    assert figures["dev_lm_loss"] == pytest.approx(alone, rel=1e-4), "dev rows are asked without them"
    Trainer.close(trainer)


def line(row: int, **more: Any) -> dict[str, Any]:
    return {**store_lines()[row], "counterfactual": True, "rationale": f"but {row}", **more}


def test_counterfactual_lines_of_a_store_reach_their_rows(tmp_path: Path) -> None:
    good = store_lines()
    before = write(tmp_path, FROM_STORE, moods=good[:2]).load("moods")
    lines = [
        *good[:2],
        line(0, label="glad", sample=2, rationale="but later"),
        line(0, label="glad", sample=1),
        line(1, label="sad", rejected="names the class"),
        line(2, label="sad"),  # its own label
        line(3, label="dull"),  # no label of the task
        line(4, label=None),
        line(5, label="sad", input_sha256_16="0" * 16),
    ]
    suite = write(tmp_path, FROM_STORE, moods=lines)
    loaded = suite.load("moods")
    rows = {row.id: row.examples[0] for row in loaded.train}
    assert [row.rationale for row in rows.values()] == [ROWS[0]["why"], ROWS[1]["why"], None, None, None, None]
    assert rows["k0"].counterfactuals == ((1, "but 0"), (1, "but later"))
    assert not any(row.counterfactuals for name, row in rows.items() if name != "k0")
    assert [int(note.split()[0]) for note in loaded.notes] == [4]
    assert loaded.rationale_fingerprint != before.rationale_fingerprint
    assert loaded.rationale_coverage == before.rationale_coverage
    given_ = [Rationale(**each) for each in lines]
    audit = audit_task("moods", suite.card.tasks["moods"], given_, loaded, "en", Thresholds())
    assert audit.rationales == 2, "the audit is of the rows' own"


def test_where_a_row_is_asked_by_candidates_a_counterfactual_is_of_those_whose_answer_changes(tmp_path: Path) -> None:
    text = FROM_STORE.replace("names: [sad, glad]", "names: [sad, glad, dull]")
    text = text.replace('text: "{{ text }} Is it glad?"', 'text: "{{ text }} Is it {{ candidate }}?"')
    text = text.replace('answers: ["No", "Yes"]', 'answers: ["No", "Yes"]\n        candidates: [sad, glad, dull]')
    lines = [*store_lines(), line(0, label="dull")]
    loaded = write(tmp_path, text, moods=lines).load("moods")
    sad, glad, dull = loaded.train[0].examples
    assert [sad.label, glad.label, dull.label] == [1, 0, 0]
    assert [sad.counterfactuals, glad.counterfactuals, dull.counterfactuals] == [((0, "but 0"),), (), ((1, "but 0"),)]


@given(st.booleans(), st.sampled_from(["glad", "sad"]), st.integers(0, 3))
def test_lines_keep_what_they_argue_for(counterfactual: bool, label: str, sample: int) -> None:
    one = Rationale(
        idx=1, label=label, rationale="why", input_sha256_16="0" * 16, sample=sample, counterfactual=counterfactual
    )
    assert Rationale.model_validate_json(to_line(one)) == one
    assert ("counterfactual" in json.loads(to_line(one))) == counterfactual
    turned = one.model_copy(update={"label": "sad" if label == "glad" else "glad"})
    assert (fingerprint([one]) != fingerprint([turned])) == counterfactual
    assert fingerprint([one]) != fingerprint([one.model_copy(update={"counterfactual": not counterfactual})])


def test_counterfactuals_reach_a_process_of_its_own(toy: db.TaskData) -> None:
    task = with_counterfactuals(toy)
    sent = {
        "card": task.card.model_dump(mode="json"),
        **{name: [wire._labeled(row) for row in getattr(task, name)] for name in ("train", "dev", "spare")},
    }
    assert wire.data_of(json.loads(json.dumps(sent))) == task


def test_a_task_without_counterfactuals_is_refused_in_one_line(tmp_path: Path) -> None:
    request = RunRequest(methods=("scott", "dhrd"), suite="mini7", tasks=("RTE",), backbone="tiny", results=tmp_path)
    with pytest.raises(db.UserError, match=r"No train row has a counterfactual rationale.*: RTE \(scott\)\."):
        make_plan(request)
    make_plan(request.model_copy(update={"allow_missing_rationales": True}))


def test_it_runs_from_a_store_to_a_record(tmp_path: Path) -> None:
    lines = [*store_lines(), *(line(i, label=["glad", "sad"][i % 2]) for i in range(6))]
    write(tmp_path, FROM_STORE, moods=lines)
    with plugins.isolated():
        plugins.include(tmp_path)
        request = RunRequest(
            methods=("scott",), suite="own", backbone="tiny", seeds=(0,), results=tmp_path / "results",
            budget="smoke[epochs=1,tuning=top:1,decoding={max_new_tokens: 4}]",
        )  # fmt: skip
        plan = make_plan(request)
        (record,) = run_plan(plan, Display(Console(quiet=True), 1))
    assert record.error is None
    assert record.train is not None
    texts = [row["rationale"] for row in lines]
    rows = plan.cells[0].data
    assert len(rows.train) + len(rows.dev) == 6
    assert record.train.teacher_tokens == sum(map(len, texts)), "both kinds were paid for"
