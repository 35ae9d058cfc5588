"""Rivals that are given what DHRD costs, and those that need no rationale: other text, soft labels, two passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import toy_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from own_suites import BY_TEXT, SHARED, write
from slow import Text, slow_loss, x, y
from torch import Tensor
from trainers import flat, new, trained, trainer
from typer.testing import CliRunner

import dhrd_bench as db
from dhrd_bench.cli import app
from dhrd_bench.conformance import checks, verify
from dhrd_bench.contracts import LabeledExample
from dhrd_bench.data.rationales import Rationale, RationaleStore
from dhrd_bench.data.soft import soft_labels
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import LoadedTask, Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.grid.wire import data_of, job
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.plugins import builtin_folder
from dhrd_bench.results.store import read_record

ROWS = Suite.named("mini7")
SMALL = "smoke[train_rows=6,dev_rows=3,test_rows=6,epochs=2,tuning=top:1,max_length=96]"


def fitted(name: str, task: db.TaskData, context: db.Context) -> dict[str, Any]:
    """What training leaves for the record."""
    context.backbone.reset()  # type: ignore[attr-defined]
    context.train_log = {}
    new(name).fit(task, context)
    return context.train_log


# ---------------------------------------------------------------- as many tokens, as much of the teacher


@pytest.mark.parametrize(("pause", "words", "epochs"), [(0, 8, 2), (2, 8, 2), (0, 30, 3)])
def test_matched_tokens_are_those_of_dhrd_but_for_half_an_epoch(
    pause: int, words: int, epochs: int, toy: db.TaskData, context: db.Context
) -> None:
    rows = tuple(replace(row, rationale=" ".join([f"{row.rationale}", *["so"] * words])) for row in toy.train)
    toy = replace(toy, train=rows)
    context.budget = context.budget.model_copy(update={"epochs": epochs, "tuning": "head", "max_rationale": 64})
    whole = fitted(f"dhrd[pause={pause}]", toy, context)["tokens"]
    plain = fitted(f"pooled[pause={pause}]", toy, context)
    log = fitted(f"pooled[match=tokens,pause={pause}]", toy, context)
    one = plain["tokens"] / epochs
    assert abs(log["tokens"] - whole) <= one / 2
    assert log["epochs_wanted"] == len(log["epochs"]) == log["tokens"] / one > epochs
    assert log["steps"] == 3 * log["epochs_wanted"], "the schedule of the learning rate is over all of them"
    assert "epochs_wanted" not in plain
    assert context.budget.epochs == epochs, "the budget of others stays"


@pytest.mark.parametrize(("params", "spare"), [("", 40), ("", 3), (",label_tokens=200", 40), (",label_tokens=7.5", 40)])
def test_the_teachers_tokens_buy_labels(params: str, spare: int, toy: db.TaskData, context: db.Context) -> None:
    context.budget = context.budget.model_copy(update={"tuning": "head", "epochs": 1})
    none = replace(toy.train[0], rationale=None)
    toy = replace(toy, train=(none, *toy.train[1:]), spare=tuple(toy_rows(spare, 100)))
    log = fitted(f"pooled[match=cost{params}]", toy, context)
    # The tokens of the tiny backbone are bytes.
    read = [len(row.example.prompt.text) for row in toy.train]
    spent = sum(read[1:]) + sum(len(f"{row.rationale}") for row in toy.train[1:])
    price = float(params.partition("tokens=")[2] or sum(read) / len(read) + 1)
    assert log["spare_wanted"] == int(spent / price)
    assert log["spare_used"] == min(log["spare_wanted"], spare)
    assert log["rows"] == 12 + log["spare_used"]
    bought = sum(len(row.example.prompt.text) for row in toy.spare[: log["spare_used"]])
    assert log["tokens"] == sum(read) + bought, "they are the first of the spare rows"


def test_cards_say_what_a_matched_baseline_reads() -> None:
    plain, tokens, cost = (db.method_spec(f"pooled[match={kind}]").card for kind in ("none", "tokens", "cost"))
    assert (plain.role, tokens.role, cost.role) == ("baseline", "control", "control")
    assert [card.uses_rationales for card in (plain, tokens, cost)] == [False, True, True]
    assert [card.uses_spare for card in (plain, tokens, cost)] == [False, False, True]
    assert db.method_spec("dhrd[soft=0.5]").card.uses_soft_labels
    assert not db.method_spec("dhrd").card.uses_soft_labels
    assert not db.method_spec("soft-labels[gold=1]").card.uses_soft_labels


@pytest.mark.parametrize("name", ["pooled[match=tokens]", "pooled[match=cost]"])
def test_how_long_rationales_are_is_what_a_matched_baseline_reads(name: str) -> None:
    # Which epoch is best decides whether further steps change what is kept; on a card dropout draws other numbers.
    verify(name, next(check for check in checks if check.name == "rationales"), "tiny[device=cpu]")


# ---------------------------------------------------------------- spare rows


@cache
def loaded_task(task: str) -> LoadedTask:
    return ROWS.load(task)


def names(rows: Sequence[LabeledExample]) -> set[str]:
    return {row.example.id for row in rows}


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["CB", "MultiRC", "WSC"]), st.integers(1, 60), st.integers(0, 30), st.integers(0, 3), st.booleans()
)
def test_spare_rows_are_all_that_stand_beside_no_other_split(
    task: str, train_rows: int, dev_rows: int, seed: int, odd: bool
) -> None:
    loaded = loaded_task(task)
    if odd:  # some rows have no rationale, some share a text with test rows
        rows = enumerate(loaded.train)
        kept = (replace(row, rationale="Because." if i % 3 else None, beside_test=i % 7 == 0) for i, row in rows)
        loaded = replace(loaded, train=tuple(kept))
    budget = db.Budget(name="b", train_rows=train_rows, dev_rows=dev_rows)
    data, _ = split(loaded, budget, seed)
    of = {each.example.id: row for row in loaded.train for each in row.examples}
    clusters, used = {of[name].cluster for name in names(data.dev)}, {of[name].id for name in names(data.train)}
    free = [row for row in loaded.train if not (row.id in used or row.cluster in clusters or row.beside_test)]
    assert names(data.spare) == {each.example.id for row in free for each in row.examples}
    if not odd:
        more, _ = split(loaded, budget.model_copy(update={"train_rows": None}), seed)
        rest = [row for row in more.train if row.example.id in names(data.spare)]
        assert list(data.spare) == rest, "in the order in which they would be drawn"


def test_rows_that_share_a_text_with_test_rows_are_never_spare(tmp_path: Path) -> None:
    loaded = write(tmp_path, BY_TEXT, **SHARED).load("moods")
    data, _ = split(loaded, db.Budget(name="b", dev_rows=0, train_rows=1, require_rationale=False), 0)
    assert names(data.spare) == {"a1", "a5", "a6"} - names(data.train)


def test_a_method_is_lent_what_its_card_asks_for(toy: db.TaskData) -> None:
    taught = replace(toy, train=tuple(replace(row, soft=(0.2, 0.8)) for row in toy.train), spare=tuple(toy_rows(3, 50)))
    assert taught.lent_to(db.method_spec("pooled").card) == toy
    assert taught.lent_to(db.method_spec("pooled[match=cost]").card) == replace(toy, spare=taught.spare)
    assert taught.lent_to(db.method_spec("soft-labels").card) == replace(taught, spare=())


# ---------------------------------------------------------------- other text


def test_other_text_is_as_long_as_the_rationale_and_begins_elsewhere_in_each_row(
    toy: db.TaskData, context: db.Context
) -> None:
    made, trained_ = trainer("lm-other-text", toy, context)
    essays = " " + (builtin_folder("baselines") / "other_text.txt").read_text(encoding="utf-8")
    encode = Encoder(context.backbone, context.budget, toy.card)
    dhrd = new("dhrd")
    other = {}
    for row in toy.train:
        tokens, straight = made.reasoning(row, encode), dhrd.reasoning(row, encode)
        assert len(tokens) == len(straight)
        assert tokens == made.reasoning(row, encode)
        other[row.example.id] = context.backbone.decode(tokens)
        assert other[row.example.id].removeprefix("\nReasoning:") in essays + essays
    assert len(set(other.values())) == len(other)
    assert made.reasoning(replace(toy.train[0], rationale=None), encode) == []

    def whole(row: LabeledExample) -> list[Text]:
        return [Text("", x(row) + other[row.example.id] + y(row), row.label, input=x(row))]

    actual = float(trained_.backward(flat(trained_)))
    expected = slow_loss(toy.train, whole, {"cls": 1.0, "lm": 1.0}, context, trained_.head)
    assert actual == pytest.approx(expected, rel=1e-4)
    context.seed = 1
    again, _ = trainer("lm-other-text", toy, context)
    assert [again.reasoning(row, encode) for row in toy.train] != [made.reasoning(row, encode) for row in toy.train]


# ---------------------------------------------------------------- two passes


@pytest.mark.parametrize("name", ["r-drop", "r-drop[alpha=0.3,label_smoothing=0.2]"])
def test_two_passes_are_averaged_and_drawn_together(name: str, toy: db.TaskData, context: db.Context) -> None:
    """From the logits that were seen, by the definitions: cross-entropies and both divergences, as sums."""
    made = new(name)
    trained_ = trained(made, toy, context)
    smoothing = made.params.label_smoothing
    seen: list[tuple[Sequence[db.Row], Tensor, Tensor]] = []
    own = trained_.loss
    assert own is not None

    def noted(first: db.Pass) -> Tensor:
        passes = [first]
        again = first.again
        first.again = lambda: passes.append(again()) or passes[-1]  # type: ignore[method-assign,func-returns-value]
        value: Tensor = own(first)
        seen.append((first.rows, passes[0].logits.detach(), passes[1].logits.detach()))
        return value

    trained_.loss = noted
    trained_.set_dropout(True)
    found = float(trained_.backward(flat(trained_)))
    losses = []
    for rows, first, second in seen:
        for row, one, two in zip(rows, first.double(), second.double(), strict=True):
            p, q = (each.exp() / each.exp().sum() for each in (one, two))
            target = [smoothing / 2 + (1 - smoothing) * (k == row.label) for k in range(2)]
            entropy = sum(-t * (p[k].log() + q[k].log()) / 2 for k, t in enumerate(target))
            apart = sum(p[k] * (p[k] / q[k]).log() + q[k] * (q[k] / p[k]).log() for k in range(2)) / 2
            assert apart > 0, "the head drops out"
            losses.append(entropy + made.params.alpha * apart)
    assert len(losses) == len(toy.train)
    assert found == pytest.approx(float(sum(losses)) / len(losses), rel=1e-4)
    trained_.close()


def test_two_passes_are_refused_where_nothing_drops_out(toy: db.TaskData, context: db.Context) -> None:
    with pytest.raises(UserError, match="Nothing drops out under tuning=top:1 with a linear head"):
        new("r-drop[head=linear]").fit(toy, context)
    context.budget = context.budget.model_copy(update={"tuning": "lora", "epochs": 1})
    new("r-drop[head=linear]").fit(toy, context)


# ---------------------------------------------------------------- soft labels


@given(
    st.lists(st.floats(0.001, 1), min_size=2, max_size=5),
    st.floats(0, 1),
    st.floats(0.05, 20),
    st.integers(0, 4),
)
def test_a_mixture_is_a_softmax_at_the_temperature_and_the_label(
    weights: list[float], share: float, temperature: float, label: int
) -> None:
    soft = tuple(weight / sum(weights) for weight in weights)
    row = replace(toy_rows(1)[0], label=label % len(soft), soft=soft)
    mixed = row.mixed(share, temperature)
    logits = torch.tensor(soft, dtype=torch.float64).log() / temperature
    expected = share * logits.softmax(-1) + (1 - share) * F.one_hot(torch.tensor(row.label), len(soft))
    if share == 0:
        assert mixed is None
    else:
        torch.testing.assert_close(torch.tensor(mixed, dtype=torch.float64), expected)
    assert replace(row, soft=None).mixed(share) is None


def lines(task: str, made: Callable[[int], dict[str, Any]], count: int | None = None) -> list[Rationale]:
    """A line for each of the first train rows of a task of mini7, with what `made` says of it."""
    rows = ROWS.load(task).train[:count]
    return [
        Rationale.model_validate({"idx": row.id, "input_sha256_16": row.input_hash, "rationale": "", **made(number)})
        for number, row in enumerate(rows)
    ]


def store(folder: Path, task: str, made: Callable[[int], dict[str, Any]], count: int | None = None) -> Path:
    with RationaleStore(folder).writer(task) as writer:
        writer.extend(lines(task, made, count))
    return folder


def stated(number: int) -> dict[str, Any]:
    return {"probabilities": {"entailment": number % 10 / 10, "not_entailment": 1 - number % 10 / 10}}


def test_probabilities_and_confidences_become_those_of_the_classes(tmp_path: Path) -> None:
    sure = {"answer": "contradiction", "confidence": 0.7}
    loaded = ROWS.load("CB", rationales=store(tmp_path / "a", "CB", lambda number: sure, 5))
    softs = [row.examples[0].soft for row in loaded.train]
    assert softs[5:] == [None] * (len(softs) - 5)
    names = loaded.card.labels
    for soft in softs[:5]:
        expected = [0.7 if name == "contradiction" else 0.15 for name in names]
        assert soft == pytest.approx(expected)
    loaded = ROWS.load("RTE", rationales=store(tmp_path / "b", "RTE", stated))
    where = loaded.card.labels.index("entailment")
    assert [row.examples[0].soft[where] for row in loaded.train] == pytest.approx(  # type: ignore[index]
        [number % 10 / 10 for number in range(len(loaded.train))]
    )
    assert all(row.rationale is None for row in loaded.train)
    assert ROWS.load("RTE").soft_fingerprint == ""


def test_a_row_asked_by_candidate_has_each_ones_share(tmp_path: Path) -> None:
    folder = store(tmp_path, "COPA", lambda number: {"answer": "choice2", "confidence": 0.9}, 3)
    card = ROWS.card.tasks["COPA"]
    name = next(name for name, prompt in card.prompts.items() if prompt.candidates)
    row = ROWS.load("COPA", prompt=name, rationales=folder).train[0]
    assert [example.soft for example in row.examples] == [pytest.approx((0.9, 0.1)), pytest.approx((0.1, 0.9))]


def test_a_line_counts_by_its_row_and_input_alone() -> None:
    definition, rows = ROWS.card.tasks["RTE"], ROWS.load("RTE").train

    def found(*said: dict[str, Any]) -> dict[str, tuple[float, ...]]:
        made = [line for each in said for line in lines("RTE", lambda number: each, 1)]  # noqa: B023
        return dict(soft_labels(rows, definition, made))  # type: ignore[arg-type]

    opinion = {"answer": "entailment", "confidence": 0.6}
    assert len(found(opinion)) == 1
    assert found(opinion | {"label": "not_entailment"}) == found(opinion), "the gold label has no say"
    assert found(opinion | {"sample": 1}, opinion | {"confidence": 0.9}) == found(opinion | {"confidence": 0.9})
    for nothing in ({"rejected": "no"}, {"confidence": None}, {"input_sha256_16": "0" * 16}, {"idx": "none"}):
        assert found(opinion | nothing) == {}
    with pytest.raises(UserError, match="name a class 'entailmint'") as caught:
        found(opinion | {"answer": "entailmint"})
    assert "entailment" in str(caught.value.hint)


@pytest.mark.parametrize("shares", [{"entailment": 0.5}, {"entailment": 1.5, "not_entailment": -0.5}])
def test_probabilities_that_are_none_are_refused_with_the_line(shares: dict[str, float], tmp_path: Path) -> None:
    line = {"idx": 0, "rationale": "", "input_sha256_16": "0" * 16, "probabilities": shares}
    (tmp_path / "RTE.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"RTE\.jsonl, line 1: .*(add up to 0\.5|less than or equal to 1)"):
        ROWS.load("RTE", rationales=tmp_path)


def planned(methods: tuple[str, ...], tmp_path: Path, rationales: Path | None = None) -> Plan:
    return make_plan(
        db.RunRequest(
            methods=methods, suite="mini7", tasks=("RTE",), backbone="tiny", budget=SMALL, seeds=(0,),
            results=tmp_path / "results", rationales=rationales and str(rationales), allow_missing_rationales=True,
        )
    )  # fmt: skip


def test_identities_change_where_soft_labels_and_spare_rows_are_read(tmp_path: Path) -> None:
    methods = ("pooled", "dhrd", "soft-labels", "dhrd[soft=0.5]", "pooled[match=cost]")
    one = planned(methods, tmp_path, store(tmp_path / "a", "RTE", stated))
    other = planned(methods, tmp_path, store(tmp_path / "b", "RTE", lambda number: stated(number + 1)))
    same = [a.identity == b.identity for a, b in zip(one.cells, other.cells, strict=True)]
    assert same == [True, True, False, False, True]
    softs = [a.parts.soft == b.parts.soft for a, b in zip(one.cells, other.cells, strict=True)]
    assert softs == same, "by this a table keeps two teachers of a task apart, as in test_stats_selection.py"
    for cell in one.cells:
        hashed = cell.parts.hashed()
        assert ("soft" in hashed) == ("soft" in cell.method.name)
        assert ("spare" in hashed) == ("cost" in cell.method.name) == bool(cell.data.spare)
        assert any(row.soft for row in cell.data.train) == ("soft" in cell.method.name)
        assert data_of(json.loads(json.dumps(job(cell, None)))) == cell.data, "another process is given the same"


def test_soft_labels_are_asked_for_in_one_line(tmp_path: Path) -> None:
    options = ["run", "--suite", "mini7", "--tasks", "rte", "--backbone", "tiny", "--budget", SMALL, "--seeds", "1"]
    done = CliRunner().invoke(app, [*options, "--methods", "soft-labels", "--results", str(tmp_path)])
    assert done.exit_code
    assert isinstance(done.exception, UserError)
    assert "No train row of RTE has soft labels, which soft-labels learns from." in str(done.exception)


def test_matched_and_soft_methods_by_the_command_line(tmp_path: Path) -> None:
    def made(number: int) -> dict[str, Any]:
        return {"rationale": f"Sentence {number} says so."} | (stated(number) if number % 2 else {})

    folder, results = store(tmp_path / "store", "RTE", made), tmp_path / "results"
    methods = "pooled,pooled[match=tokens],pooled[match=cost],soft-labels,dhrd[soft=0.5],lm-other-text,r-drop"
    done = CliRunner().invoke(
        app,
        ["run", "--suite", "mini7", "--tasks", "rte", "--backbone", "tiny", "--budget", SMALL, "--seeds", "1",
         "--methods", methods, "--results", str(results), "--rationales", str(folder)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "train rows have soft labels; the others have their label" in " ".join(done.output.split())
    found = [read_record(path) for path in results.rglob("seed*.json")]
    records = {record.cell.method: record for record in found}
    assert {record.status for record in records.values()} == {"ok"}
    assert records["pooled[match=tokens]"].train.epochs_wanted == len(
        records["pooled[match=tokens]"].train.epochs or ()
    )
    cost = records["pooled[match=cost]"].train
    assert cost.rows == 6 + (cost.spare_used or 0) > 6
    assert cost.spare_wanted == cost.spare_used
    checked = CliRunner().invoke(app, ["records", "check", str(results)])
    assert checked.exit_code == 0, checked.output


def test_scores_for_train_rows_become_soft_labels(tmp_path: Path) -> None:
    rows = ROWS.load("RTE").train[:4]
    scores = [{"entailment": number - 1.5, "not_entailment": 2.0} for number in range(4)]
    said = [{"id": row.id, "label": row.label, "scores": each} for row, each in zip(rows, scores, strict=True)]
    (tmp_path / "scores.json").write_text(json.dumps(said))
    command = ["rationales", "from-scores", str(tmp_path / "scores.json"), "--suite", "mini7", "--task", "rte"]
    command += ["--teacher", "large", "--output", str(tmp_path / "store")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "soft labels of 4 train rows" in done.output
    loaded = ROWS.load("RTE", rationales=tmp_path / "store")
    softs = torch.tensor([row.examples[0].soft for row in loaded.train[:4]])
    logits = torch.tensor([[each[name] for name in loaded.card.labels] for each in scores])
    torch.testing.assert_close(softs, logits.softmax(-1), rtol=0, atol=1e-5)
    again = CliRunner().invoke(app, command)
    assert "already" in str(again.exception)
    for wrong, words in (
        ("[{}]", "records predictions"),
        ("[", "no JSON"),
        ('[{"id": "t", "scores": {"a": 0, "b": 0}}]', "no train row"),
    ):
        (tmp_path / "scores.json").write_text(wrong)
        done = CliRunner().invoke(app, [*command[:-1], str(tmp_path / "other")])
        assert isinstance(done.exception, UserError)
        assert words in f"{done.exception} {done.exception.hint}"
