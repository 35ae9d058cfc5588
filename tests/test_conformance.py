"""The kit on the methods that are there, and on methods that are broken on purpose."""

from __future__ import annotations

import gc
import itertools
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import dhrd_bench as db
from dhrd_bench import plugins, registry
from dhrd_bench.backbones import Backbone, resolve
from dhrd_bench.backbones.loading import load_fresh, settle
from dhrd_bench.commands.check import check_command
from dhrd_bench.conformance import Check, checks, verify
from dhrd_bench.conformance.running import CheckOutcome, run_check
from dhrd_bench.conformance.subject import CheckError, Subject
from dhrd_bench.data.suite import TestSplit
from dhrd_bench.methods import MethodSpec

FITS = itertools.count()
BY_NAME = {check.name: check for check in checks}


class FirstWord(db.Method):
    """The class of the train rows that begin with the same word; a sound method without a backbone."""

    card = db.MethodCard(name="first-word", summary="s", objective="o", paper="none", inference="none")

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        if not task.train:
            raise ValueError("no train rows")
        self.classes = len(task.card.labels)
        self.table = {self.word(row.example): row.label for row in task.train}

    def word(self, example: db.Example) -> str:
        return example.prompt.passage.partition(" ")[0]

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        zeros = [0] * len(examples)
        labels = [self.table.get(self.word(example), 0) for example in examples]
        return db.Predictions(labels, tokens_in=zeros, tokens_out=zeros)

    def save(self, folder: Path) -> None:
        (folder / "table.json").write_text(json.dumps([self.classes, self.table]))

    def load(self, folder: Path, task: db.TaskCard, context: db.Context) -> None:
        self.classes, self.table = json.loads((folder / "table.json").read_text())


def card(**changes: Any) -> db.MethodCard:
    return FirstWord.card.model_copy(update=changes)


def spec(cls: type[db.Method]) -> MethodSpec:
    return MethodSpec(cls.card.name, cls, cls.Params())


def outcome(cls: type[db.Method], check: str, backbone: Backbone) -> CheckOutcome:
    return run_check(Subject(spec(cls), backbone), BY_NAME[check])


# ---------------------------------------------------------------- broken on purpose


class NoSummary(FirstWord):
    card = card(summary=" ")


class OddVersion(FirstWord):
    card = card(version="one")


class UnknownExpectation(FirstWord):
    card = card(expected_failures={"two-clases": "because"})


class NoReason(FirstWord):
    card = card(expected_failures={"independence": ""})


class OddParameter(FirstWord):
    class Params(db.MethodParams):
        width: float = float("nan")


class OneTooFew(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return super().predict(examples[1:], context)


class NotANumber(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.scores = [[float("nan")] * self.classes] * len(examples)
        return found


class TwoClassesOnly(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.scores = [[0.0, 1.0]] * len(examples)
        return found


class NoEmptyPassage(FirstWord):
    def word(self, example: db.Example) -> str:
        return example.prompt.passage.split()[0]


class TwoRowsAtLeast(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, context)
        self.second = task.train[1]


class PlainLetters(FirstWord):
    def word(self, example: db.Example) -> str:
        example.prompt.text.encode("ascii")
        return super().word(example)


class NeedsRationales(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, context)
        self.lengths = [len(row.rationale) for row in task.train]  # type: ignore[arg-type]


class Dice(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, context)
        self.table = dict.fromkeys(self.table, next(FITS) % self.classes)


class ReadsIds(FirstWord):
    def word(self, example: db.Example) -> str:
        return example.id if example.id.startswith("other") else super().word(example)


class Ranks(FirstWord):
    """The first half of the examples it is shown is of class 0."""

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.labels = [int(place >= len(examples) / 2) for place in range(len(examples))]
        return found


class CountsNeighbours(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.scores = [[0.0, len(examples) / 1000]] * len(examples)
        return found


class Remembers(FirstWord):
    """Learns from the test examples as they come."""

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        self.seen = getattr(self, "seen", 0) + 1
        found = super().predict(examples, context)
        found.labels = [(label + self.seen) % self.classes for label in found.labels]
        return found


class GlobalDice(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.scores = [[0.0, float(torch.rand(()))] for _ in examples]
        return found


class Peeks(FirstWord):
    """Looks for the test labels in memory."""

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        for split in (each for each in gc.get_objects() if isinstance(each, TestSplit)):
            if len(split.labels) == len(found.labels) and split.examples[0] is examples[0]:
                found.labels = list(split.labels)
        return found


class Crashes(FirstWord):
    """Only under the harness, which warms up."""

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        if len(examples) == 8:
            raise RuntimeError("eight are too many")
        return super().predict(examples, context)


class ReadsRationalesInSecret(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, context)
        odd = sum(len(row.rationale or "") for row in task.train)
        self.table = dict.fromkeys(self.table, odd % 7 % self.classes)
        self.share = odd / 1000

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.scores = [[0.0, self.share]] * len(examples)
        return found


class BoastsOfRationales(FirstWord):
    card = card(uses_rationales=True)


class Forgets(FirstWord):
    def save(self, folder: Path) -> None:
        (folder / "table.json").write_text(json.dumps([self.classes, {}]))


class Pickles(FirstWord):
    def save(self, folder: Path) -> None:
        (folder / "table.pkl").write_bytes(pickle.dumps((self.classes, self.table)))


class CountsLapsTwice(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        context.lap(len(examples))
        context.lap(len(examples))
        return super().predict(examples, context)


class CountsNoTokens(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.tokens_in = []
        return found


class GeneratesNothing(FirstWord):
    card = card(inference="generate")


class WritesInSecret(FirstWord):
    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.tokens_out = [3] * len(examples)
        return found


class FitsNothing(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        self.classes, self.table = len(task.card.labels), {}


class FailsSilently(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        if not task.train:
            raise ValueError
        super().fit(task, context)


class Scratches(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, context)
        with torch.no_grad():
            context.backbone.model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3


class LeavesItTraining(FirstWord):
    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, context)
        context.backbone.reset = lambda: context.backbone.model.train()  # type: ignore[method-assign]


class Whole(db.method("pooled")):  # type: ignore[misc]
    """Takes inputs of any length."""

    card = db.method("pooled").card.model_copy(update={"name": "whole"})

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, self.longer(context))

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return super().predict(examples, self.longer(context))

    def longer(self, context: db.Context) -> db.Context:
        context.budget = context.budget.model_copy(update={"max_length": 100_000})
        return context


class CutsInSecret(db.method("pooled")):  # type: ignore[misc]
    card = db.method("pooled").card.model_copy(update={"name": "cuts"})

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        found = super().predict(examples, context)
        found.truncated = 0
        return found


BROKEN: list[tuple[str, type[db.Method], str]] = [
    ("card", NoSummary, "'summary' is empty"),
    ("card", OddVersion, "version 'one'"),
    ("card", UnknownExpectation, "names no check: 'two-clases'"),
    ("card", NoReason, "gives no reason"),
    ("card", OddParameter, "width"),
    ("two-classes", OneTooFew, "6 labels for 7 examples"),
    ("two-classes", NotANumber, "NaN"),
    ("three-classes", TwoClassesOnly, "scores are not"),
    ("long-inputs", NoEmptyPassage, "IndexError"),
    ("long-inputs", Whole, "over max_length"),
    ("long-inputs", CutsInSecret, "0 truncated inputs where 2 are too long"),
    ("one-example", TwoRowsAtLeast, "IndexError"),
    ("unicode", PlainLetters, "UnicodeEncodeError"),
    ("no-rationales", NeedsRationales, "TypeError"),
    ("same-seed", Dice, "two fits with seed 0: example"),
    ("independence", ReadsIds, "under other ids"),
    ("independence", Ranks, "in reverse order"),
    ("independence", CountsNeighbours, "one at a time: scores lie"),
    ("independence", Remembers, "in reverse order"),
    ("independence", GlobalDice, "scores lie"),
    ("test-labels", Peeks, "other test labels"),
    ("test-labels", Crashes, "eight are too many"),
    ("rationales", ReadsRationalesInSecret, "uses_rationales is false"),
    ("rationales", BoastsOfRationales, "uses_rationales is true"),
    ("save-and-load", Forgets, "after loading: example"),
    ("save-and-load", Pickles, "table.pkl"),
    ("counters", CountsLapsTwice, "laps of [7, 7] examples for 7"),
    ("counters", CountsNoTokens, "tokens_in is not one count an example"),
    ("counters", GeneratesNothing, "without reading a token"),
    ("counters", WritesInSecret, "tokens_out counts generated tokens"),
    ("empty-train", FitsNothing, "without complaint"),
    ("empty-train", FailsSilently, "without a word"),
    ("backbone", Scratches, "layers.0.mlp.up_proj.weight"),
    ("backbone", LeavesItTraining, "training mode"),
]


@pytest.fixture
def own_backbone() -> Backbone:
    """A backbone that a test may leave in any state."""
    return load_fresh(settle(resolve("tiny")))


@pytest.mark.parametrize(("check", "cls", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_every_check_can_fail(check: str, cls: type[db.Method], words: str, own_backbone: Backbone) -> None:
    found = outcome(cls, check, own_backbone)
    assert found.status == "fail", found
    assert words in found.detail


def test_there_is_a_broken_method_for_every_check() -> None:
    assert set(Counter(check for check, *_ in BROKEN)) == set(BY_NAME)


@pytest.mark.parametrize("check", checks, ids=str)
def test_a_sound_method_without_a_backbone_passes(check: Check, tiny: Backbone) -> None:
    assert outcome(FirstWord, check.name, tiny).detail == ""


# ---------------------------------------------------------------- the methods that are there


LATER = {
    "dhrd-key-tokens", "dhrd-rationale-only", "dhrd-shuffle-reasoning", "lm-other-text", "mi-cot", "r-drop", "scott",
    "stepwise-internalisation",
}  # fmt: skip
"""Close relatives of others, whose checks would lengthen every run of the tests."""


@pytest.mark.parametrize("check", checks, ids=str)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LATER)) for name in registry.methods.names()]
)
def test_built_in_methods_conform(name: str, check: Check) -> None:
    verify(name, check)


@pytest.mark.parametrize("check", checks, ids=str)
@pytest.mark.parametrize("name", ["cot[samples=3,decoding=diverse]", "rationale-mtl[predict=score]"])
def test_their_variants_conform(name: str, check: Check) -> None:
    verify(name, check)


# ---------------------------------------------------------------- expectations, table, exit code


class Honest(Ranks):
    card = card(name="honest", expected_failures={"independence": "ranks its examples"})


class Modest(FirstWord):
    card = card(name="modest", expected_failures={"independence": "thought to rank its examples"})


@pytest.fixture
def registered() -> Iterator[None]:
    """Broken, honest and modest methods in a registry of their own."""
    plugins.load_all()
    with plugins.isolated():
        registry.methods.entries.clear()
        for cls in (FirstWord, Honest, Modest, Whole):
            registry.methods.add(cls.card.name, lambda cls=cls: cls, "here")
        yield


def test_an_expected_failure_is_no_failure(registered: None) -> None:
    verify("honest", BY_NAME["independence"])
    with pytest.raises(CheckError, match="take it out of expected_failures"):
        verify("modest", BY_NAME["independence"])
    with pytest.raises(CheckError, match="whole, long-inputs: it reads"):
        verify("whole", BY_NAME["long-inputs"])


def run_command(console: Console, *methods: str, **options: Any) -> int:
    settings = {"everything": False, "backbone": "tiny", "as_json": False} | options
    return check_command(methods, console=console, **settings)


def test_the_table_and_the_exit_code(registered: None) -> None:
    console = Console(width=100, record=True)
    assert run_command(console, "honest", "modest", "first-word") == 0
    text = console.export_text()
    assert "honest fails, as expected independence: ranks its examples (in reverse order" in text
    assert "modest passes, though its card expects a failure independence" in text
    assert "45 checks on tiny, none failed" in text
    assert run_command(console, "whole") == 1
    text = console.export_text()
    assert "whole fails long-inputs: it reads" in text
    assert "It cuts inputs longer than the limit" in text


def test_all_and_json_and_plug_ins_that_did_not_load(registered: None, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=60)
    assert run_command(console, everything=True, as_json=True) == 1  # whole fails
    body = json.loads(capsys.readouterr().out)
    assert {each["method"] for each in body["outcomes"]} == {"first-word", "honest", "modest", "whole"}
    assert {each["status"] for each in body["outcomes"]} == {"pass", "fail", "expected", "unexpected pass"}
    del registry.methods.entries["whole"]
    assert run_command(console, everything=True) == 0
    plugins.state.broken["/some/where.py"] = "NameError: name 'x' is not defined"
    assert run_command(console, everything=True) == 1
    assert "/some/where.py: NameError" in capsys.readouterr().out
    assert run_command(console, "first-word") == 0


@pytest.mark.parametrize(("methods", "everything"), [([], False), (["first-word"], True)])
def test_what_to_check_must_be_said(methods: list[str], everything: bool, registered: None) -> None:
    with pytest.raises(db.UserError, match="or --all"):
        run_command(Console(), *methods, everything=everything)
    with pytest.raises(db.UserError, match="Did you mean 'honest'"):
        run_command(Console(), "honst")
