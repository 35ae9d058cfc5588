"""The checks. Each runs a method and raises if it does not do what the check says."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dhrd_bench.conformance.subject import CheckError, Subject, ensure
from dhrd_bench.conformance.tasks import CheckTask, make_task, with_other_rationales
from dhrd_bench.contracts import Predictions

if TYPE_CHECKING:
    from dhrd_bench.grid.isolation import Runner


@dataclass(frozen=True)
class Check:
    """One thing that every method must keep to.

    Attributes
    ----------
    name
        What `MethodCard.expected_failures` calls it.
    about
        What must hold, in one line.
    run
        Raises if it does not.
    """

    name: str
    about: str
    run: Callable[[Subject], None]

    def __str__(self) -> str:
        return self.name


_registered: list[Check] = []


def _check(about: str) -> Callable[[Callable[[Subject], None]], None]:
    def add(function: Callable[[Subject], None]) -> None:
        _registered.append(Check(function.__name__.strip("_").replace("_", "-"), about, function))

    return add


@_check("The card is complete, and the parameters have defaults")
def _card(subject: Subject) -> None:
    card = subject.card
    for field in ("summary", "objective", "paper"):
        ensure(bool(getattr(card, field).strip()), f"{field!r} is empty (say so in words if there is none)")
    ensure(bool(re.fullmatch(r"\d+\.\d+\.\d+", card.version)), f"version {card.version!r} is not like 1.0.0")
    for name, reason in card.expected_failures.items():
        ensure(name in {each.name for each in checks}, f"expected_failures names no check: {name!r}")
        ensure(bool(reason.strip()), f"expected_failures[{name!r}] gives no reason")
    defaults = subject.spec.cls.Params()
    again = subject.spec.cls.Params.model_validate_json(defaults.model_dump_json())
    ensure(again == defaults, "the parameters do not survive JSON")


@_check("It fits and predicts a task of two classes")
def _two_classes(subject: Subject) -> None:
    subject.run(subject.task)


@_check("It fits and predicts a task of three classes with answers of several words")
def _three_classes(subject: Subject) -> None:
    subject.run(make_task(3, train=9))


@_check("It cuts inputs longer than the limit, and takes an empty passage")
def _long_inputs(subject: Subject) -> None:
    long = make_task(words=150, train=4, dev=2, test=3)
    empty = replace(long.test[0], prompt=replace(long.test[0].prompt, passage=""))
    predictions = subject.run(replace(long, test=(empty, *long.test[1:]))).predictions
    if subject.card.kinds:
        models = sum(not each.parts for each in subject.spec.whole)  # a method that runs others reads for each of them
        allowed = models * (subject.budget.max_length + 64)  # markers and the like are not part of the input
        longest = max(predictions.tokens_in)
        ensure(longest <= allowed, f"it reads {longest} tokens, which is over max_length")
        ensure(predictions.truncated == 2, f"it counts {predictions.truncated} truncated inputs where 2 are too long")


@_check("It fits one train row without dev rows, and predicts one example")
def _one_example(subject: Subject) -> None:
    subject.run(make_task(train=1, dev=0, test=1))


@_check("It takes other scripts, emoji, control characters and template syntax")
def _unicode(subject: Subject) -> None:
    subject.run(make_task(scripts=True))


@_check("It fits rows without rationales")
def _no_rationales(subject: Subject) -> None:
    subject.run(make_task(rationales=False))


@_check("The same seed gives the same predictions; another seed works, too")
def _same_seed(subject: Subject) -> None:
    again = subject.run(subject.task)
    difference = subject.difference(subject.base.predictions, again.predictions)
    ensure(not difference, f"two fits with seed 0: {difference}")
    subject.run(subject.task, seed=1)


@_check("A prediction depends on the example's text, not on its id, its neighbours, their order or global state")
def _independence(subject: Subject) -> None:
    import numpy as np
    import torch

    base, examples = subject.base, subject.task.test

    def same(what: str, predictions: Predictions, order: list[int]) -> None:
        difference = subject.difference(_take(base.predictions, order), predictions)
        ensure(not difference, f"{what}: {difference}")

    def predict(chosen: list[int]) -> Predictions:
        return subject.predict(base.method, [examples[i] for i in chosen], subject.task)

    everyone = list(range(len(examples)))
    same("in reverse order", predict(everyone[::-1]), everyone[::-1])
    for i in everyone:
        same("one at a time", predict([i]), [i])
    strangers = make_task(words=30).test
    mixed = subject.predict(base.method, [strangers[0], *examples[2:4], *strangers[1:]], subject.task)
    same("among other examples", _take(mixed, [1, 2]), [2, 3])
    renamed = [replace(example, id=f"other-{i}") for i, example in enumerate(examples)]
    same("under other ids", subject.predict(base.method, renamed, subject.task), everyone)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(12345)
    same("after the global random state has changed", predict(everyone), everyone)


@_check("Run by the harness it opens no file of the data, and test labels have no say in its predictions")
def _test_labels(subject: Subject) -> None:
    task, classes = subject.task, len(subject.task.data.card.labels)
    with _runner(subject) as runner:
        seen = _harness(subject, runner, task)
        for shift in range(1, classes):
            poisoned = replace(task, labels=tuple((label + shift) % classes for label in task.labels))
            ensure(_harness(subject, runner, poisoned) == seen, "with other test labels the predictions are others")


@_check("It reads rationales if its card says so, and does not if not")
def _rationales(subject: Subject) -> None:
    data = subject.task.data
    other = subject.run(replace(subject.task, data=with_other_rationales(data)))
    difference = subject.difference(subject.base.predictions, other.predictions)
    if not subject.card.uses_rationales:
        ensure(not difference, f"uses_rationales is false, but with other rationales {difference}")
        return
    changed = bool(difference) or subject.state(subject.base.method) != subject.state(other.method)
    ensure(changed, "uses_rationales is true, but other rationales change nothing")


@_check("What is saved (safetensors and JSON) and loaded again predicts the same")
def _save_and_load(subject: Subject) -> None:
    base = subject.base
    with subject.saved(base.method) as folder:
        others = {path.name for path in folder.rglob("*") if path.is_file()}
        others = {name for name in others if not name.endswith((".safetensors", ".json"))}
        ensure(not others, f"it saves {', '.join(sorted(others))}; only .safetensors and .json are loaded safely")
        subject.backbone.reset()
        restored = subject.new()
        task = subject.task.data.card
        restored.load(folder, task, subject.context(task.name))
        predictions = subject.predict(restored, subject.task.test, subject.task)
    difference = subject.difference(base.predictions, predictions)
    ensure(not difference, f"after loading: {difference}")


@_check("What is counted for speed adds up: examples, tokens, texts, truncated inputs")
def _counters(subject: Subject) -> None:
    predictions, count, kinds = subject.base.predictions, len(subject.task.test), subject.card.kinds
    for name, tokens in (("tokens_in", predictions.tokens_in), ("tokens_out", predictions.tokens_out)):
        ensure(len(tokens) == count and min(tokens) >= 0, f"{name} is not one count an example")
    laps = subject.base.laps
    ensure(not laps or (sum(laps) == count and min(laps) > 0), f"laps of {laps} examples for {count} examples")
    ensure(0 <= predictions.truncated <= count, f"{predictions.truncated} of {count} inputs truncated")
    if kinds:
        ensure(min(predictions.tokens_in) > 0, "an example was answered without reading a token")
    if kinds == ("generate",):
        ensure(predictions.texts is not None and len(predictions.texts) == count, "generated texts are missing")
        ensure(sum(predictions.tokens_out) > 0, "tokens_out counts no generated token")
    elif "generate" not in kinds:
        named = subject.card.inference
        ensure(not any(predictions.tokens_out), f"inference is {named!r}, but tokens_out counts generated tokens")


@_check("Without train rows a method that trains raises, and says why")
def _empty_train(subject: Subject) -> None:
    if not subject.card.trains:
        return
    try:
        subject.fit(replace(subject.task.data, train=()))
    except Exception as error:
        ensure(bool(str(error).strip()), f"it raises {type(error).__name__} without a word")
    else:
        ensure(False, "it fits no rows at all without complaint")


@_check("It leaves the backbone as it was: weights, frozen, in eval mode")
def _backbone(subject: Subject) -> None:
    subject.backbone.reset()
    before = _fingerprints(subject)
    subject.predict(subject.fit(subject.task.data), subject.task.test, subject.task)
    subject.backbone.reset()
    after = _fingerprints(subject)
    ensure(list(before) == list(after), "parameters were added to the backbone, or taken away")
    changed = [name for name in before if before[name] != after[name]]
    ensure(not changed, f"weights differ afterwards: {', '.join(changed[:3])}")
    ensure(not subject.backbone.model.training, "the backbone is left in training mode")


checks: tuple[Check, ...] = tuple(_registered)
"""All checks, in the order they are run."""


def _take(predictions: Predictions, order: list[int]) -> Predictions:
    """Return the predictions of some examples."""
    scores, texts = predictions.scores, predictions.texts
    return Predictions(
        labels=[predictions.labels[i] for i in order],
        scores=None if scores is None else [scores[i] for i in order],
        texts=None if texts is None else [texts[i] for i in order],
    )


def _fingerprints(subject: Subject) -> dict[str, tuple[float, bool]]:
    """Return a sum over each parameter that any change of a weight changes, and whether it would be trained."""
    import torch

    sums = {}
    for name, parameter in subject.backbone.model.named_parameters():
        flat = parameter.detach().double().flatten()
        weights = torch.linspace(1.0, 2.0, len(flat), dtype=torch.float64, device=flat.device)
        sums[name] = (float(flat @ weights), parameter.requires_grad)
    return sums


def _runner(subject: Subject) -> Runner:
    """Return what runs cells as the harness does for plug-ins; what others open is watched."""
    from dhrd_bench.grid.isolation import Runner, is_plugin

    folders = [subject.data_dir] if subject.data_dir else []
    return Runner(
        subject.backbone,
        "auto" if is_plugin(subject.spec) else "audit",
        folders=folders,
    )


def _harness(subject: Subject, runner: Runner, task: CheckTask) -> list[int]:
    """Run one cell as the harness does; return the predictions in its record."""
    from dhrd_bench.data.sources import Source
    from dhrd_bench.data.suite import LoadedTask, TestSplit
    from dhrd_bench.grid.identity import identity_parts
    from dhrd_bench.grid.plan import PlannedCell
    from dhrd_bench.grid.record import Answered
    from dhrd_bench.results.schema import BackboneIdentity, Cell, SuiteIdentity

    card, test, data = task.data.card, task.test, task.data.lent_to(subject.card)
    split = TestSplit(test, card.labels, tuple(example.id for example in test), task.labels)
    loaded = LoadedTask(card, (), split, Source("embedded"), "", "", 1.0)
    cell = Cell(
        suite="conformance", task=card.name, method=subject.spec.name, backbone=subject.backbone.card.name,
        budget=subject.budget.name, seed=0,
    )  # fmt: skip
    backbone = BackboneIdentity(revision=subject.backbone.revision, dtype=subject.backbone.card.dtype)
    suite = SuiteIdentity(name=cell.suite, version="1.0.0")
    parts = identity_parts(suite, loaded, data, split, subject.spec, backbone, subject.budget, cell.seed)
    planned = PlannedCell(cell, cell.suite, parts, subject.spec, subject.budget, loaded, data, split, None)
    attempt = runner.run(planned, lambda phase, done, total, figures: None)
    if not isinstance(attempt.result, Answered):
        raise CheckError(f"the harness recorded a failure: {attempt.error}")
    return attempt.result.outcome.rows.prediction
