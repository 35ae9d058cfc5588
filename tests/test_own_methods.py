"""What a method from outside can ask for: pooling, soft targets, weights, curricula, losses, other methods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import toy_rows
from rich.console import Console
from slow import beside, slow_hidden
from torch import Tensor, nn
from trainers import flat, gradients, new, trained

import dhrd_bench as db
from dhrd_bench import plugins
from dhrd_bench.conformance import run_checks
from dhrd_bench.grid.estimate import Rates, estimate_seconds
from dhrd_bench.grid.identity import method_identity
from dhrd_bench.grid.isolation import is_plugin
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.run import run_plan
from dhrd_bench.modeling.encode import PAUSE
from dhrd_bench.modeling.pooling import AttentionPool
from dhrd_bench.progress import Display
from dhrd_bench.request import RunRequest
from dhrd_bench.results.loading import load_results
from dhrd_bench.training.trainer import Trainer

HEADER = """
from __future__ import annotations
from dataclasses import replace
import json
import torch
import dhrd_bench as db

def card(name, **more):
    return db.MethodCard(name=name, summary="s", objective="o", paper="p", **({"inference": "pooled"} | more))
"""

PLUGINS = {
    "own_mean": """
class Mean(torch.nn.Module):
    def forward(self, states, lengths):
        return torch.stack([each.mean(0) for each in states.split(lengths)])

@db.register
class OwnMean(db.method("pooled")):
    card = card("own-mean")

    def pool(self, context):
        return Mean()
""",
    "own_smoothing": """
@db.register
class OwnSmoothing(db.method("pooled")):
    card = card("own-smoothing")

    class Params(db.method("pooled").Params):
        smoothing: float = 0.1

    def rows(self, row, encode):
        (made,), classes = super().rows(row, encode), len(encode.card.labels)
        rest = self.params.smoothing / classes
        soft = tuple(rest + (1 - self.params.smoothing) * (label == row.label) for label in range(classes))
        return [replace(made, soft=soft)]
""",
    "stepwise": """
@db.register
class Stepwise(db.method("cot")):
    card = card("stepwise", inference="generate", uses_rationales=True)

    def rows_at(self, row, encode, epoch, epochs):
        (made,), r = self.rows(row, encode), encode.reasoning(row.rationale)
        gone = len(r) * epoch // max(1, epochs - 1)
        ids = made.ids[: made.input_length] + made.ids[made.input_length + gone :]
        return [replace(made, ids=ids, lm=(0, len(ids)))]
""",
    "own_r_drop": """
@db.register
class OwnRDrop(db.method("pooled")):
    card = card("own-r-drop")

    def loss(self, seen):
        p, q = (each.logits.log_softmax(-1) for each in (seen, seen.again()))
        return ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2
""",
    "unsure": """
@db.register
class Unsure(db.Composed):
    card = card("unsure")

    class Params(db.MethodParams):
        fast: db.MethodReference = "pooled"
        slow: db.MethodReference = "cot"
        margin: float = 0.05

    def predict(self, examples, context):
        fast = self.parts["fast"].predict(examples, context.inner("fast"))
        gaps = [sorted(scores)[-1] - sorted(scores)[-2] for scores in fast.scores]
        places = [place for place, gap in enumerate(gaps) if gap < self.params.margin]
        slow = self.parts["slow"].predict([examples[place] for place in places], context.inner("slow"))
        context.lap(len(examples))
        return fast.corrected(places, slow)
""",
}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder with the plug-ins above; what they register is gone after the test."""
    plugins.load_all()
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, source in PLUGINS.items():
        (folder / f"{name}.py").write_text(HEADER + source)
    with plugins.isolated():
        plugins.include(folder)
        assert not plugins.state.broken
        yield folder


def slow_pooled(trainer: Trainer, states: Tensor) -> Tensor:
    """One state of those of an input, by the definitions."""
    if trainer.pooling == "last":
        return states[-1]
    if isinstance(trainer.pool, AttentionPool):
        fits = torch.stack([(state * trainer.pool.query).sum() for state in states]) / states.shape[1] ** 0.5
        shares = fits.exp() / fits.exp().sum()
        return sum(share * state for share, state in zip(shares, states, strict=True))  # type: ignore[return-value]
    return states.mean(0)


# ---------------------------------------------------------------- pooling


@pytest.mark.parametrize("tuning", ["top:1", "lora"])
@pytest.mark.parametrize(
    "name", ["pooled[pooling=mean]", "pooled[pooling=attention,pause=2]", "dhrd[pooling=mean,pause=3]", "dhrd[pause=1]"]
)
def test_loss_and_gradients_are_those_of_one_sequence_at_a_time(
    name: str, tuning: str, toy: db.TaskData, context: db.Context
) -> None:
    """Through the library's own forward pass; the fillers are pooled with x and are no LM targets."""
    context.budget = context.budget.model_copy(update={"tuning": tuning})
    trainer = trained(new(name), toy, context)
    params, backbone = db.method_spec(name).params, context.backbone
    losses: dict[str, list[Tensor]] = {"cls": [], "lm": []}
    for row, example in zip(flat(trainer), toy.train, strict=True):
        x = backbone.encode(example.example.prompt.text) + [backbone.encode(PAUSE)[-1]] * params.pause  # type: ignore[attr-defined]
        assert row.ids[: row.input_length] == x
        states = slow_hidden(backbone, row.ids)  # type: ignore[arg-type]
        logits = trainer.logits(slow_pooled(trainer, states[: len(x)])[None])
        losses["cls"].append(F.cross_entropy(logits, beside(logits, [example.label])))
        if name.startswith("dhrd"):
            words = backbone.logits(states[:-1]).float()
            each = F.cross_entropy(words, beside(words, row.ids[1:]), reduction="none")
            fillers = range(len(x) - params.pause, len(x))  # type: ignore[attr-defined]
            losses["lm"] += [loss for place, loss in enumerate(each, 1) if place not in fillers]
    expected = sum(torch.stack(each).mean() for each in losses.values() if each)
    expected.backward()  # type: ignore[union-attr,no-untyped-call]
    slow = gradients(trainer)
    for parameter in trainer.parameters:
        parameter.grad = None
    assert float(trainer.backward(flat(trainer))) == pytest.approx(expected.item(), rel=1e-4)
    for a, b in zip(gradients(trainer), slow, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-6)
    trainer.close()


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_nothing_behind_the_input_is_pooled(pooling: str, toy: db.TaskData, context: db.Context) -> None:
    """Another rationale changes neither the classification loss nor one of its gradients."""
    found = []
    for words in ("Because.", "For quite another reason, and in many more words than that."):
        rows = tuple(replace(row, rationale=words) for row in toy.train)
        trainer = trained(new(f"dhrd[pooling={pooling},pause=2,alpha=0]"), replace(toy, train=rows), context)
        found.append((float(trainer.backward(flat(trainer))), gradients(trainer)))
        trainer.close()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", ["pooled[pooling=attention,pause=2]", "own-mean"])
def test_what_pools_is_trained_saved_and_used_at_test_time(
    name: str, outside: Path, toy: db.TaskData, context: db.Context, tmp_path: Path
) -> None:
    made, examples = new(name), [row.example for row in toy.dev]
    made.fit(toy, context)
    if name != "own-mean":
        start = AttentionPool(context.backbone.width, context.stream("pool"))
        assert not torch.allclose(made.fitted.pool.query.cpu(), start.query)
    found = made.predict(examples, context)
    encoder = made.fitted.activate(context.backbone, context.budget)
    for example, scores, read in zip(examples, found.scores, found.tokens_in, strict=True):
        ids = encoder.input(example)
        assert read == len(ids)
        states = slow_hidden(context.backbone, ids)  # type: ignore[arg-type]
        pooled = states.mean(0)[None] if name == "own-mean" else made.fitted.pool(states, [len(ids)])
        torch.testing.assert_close(made.fitted.logits(pooled)[0].cpu(), torch.tensor(scores), rtol=1e-4, atol=1e-5)
    made.save(tmp_path / "fitted")
    again = new(name)
    again.load(tmp_path / "fitted", toy.card, context)
    restored = again.predict(examples, context).scores
    torch.testing.assert_close(torch.tensor(restored), torch.tensor(found.scores), rtol=1e-4, atol=1e-5)
    if name == "own-mean":
        with pytest.raises(db.UserError, match="pool of its own"):
            db.Fitted.load(tmp_path / "fitted", toy.card, context.backbone, context.budget)  # type: ignore[arg-type]


def test_own_mean_is_the_built_in_one(outside: Path, toy: db.TaskData, context: db.Context) -> None:
    scores = []
    for name in ("own-mean", "pooled[pooling=mean]"):
        made = new(name)
        made.fit(toy, context)
        scores.append(made.predict([row.example for row in toy.dev], context).scores)
    torch.testing.assert_close(torch.tensor(scores[0]), torch.tensor(scores[1]), rtol=1e-4, atol=1e-5)


def test_a_new_backbone_says_itself_which_token_has_read_the_text(
    toy: db.TaskData, context: db.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and at test time alike: where it is the first token, only that one decides."""
    monkeypatch.setattr(type(context.backbone), "whole_place", lambda self, length: 0)
    made = new("pooled")
    made.fit(toy, context)
    scores = made.predict([row.example for row in toy.dev], context).scores
    assert scores == [pytest.approx(scores[0])] * len(scores), "all inputs begin alike, and nothing else is read"


# ---------------------------------------------------------------- targets and weights


def test_soft_targets_are_a_cross_entropy_with_probabilities(
    outside: Path, toy: db.TaskData, context: db.Context
) -> None:
    trainer = trained(new("own-smoothing[smoothing=0.4]"), toy, context)
    rows = [
        row if i % 3 else replace(row, soft=None) for i, row in enumerate(flat(trainer))
    ]  # some hard ones among them
    slow = []
    for row in rows:
        logits = trainer.logits(slow_hidden(context.backbone, row.ids)[-1][None])[0]  # type: ignore[arg-type]
        share = row.soft or [float(label == row.label) for label in range(2)]
        slow.append(-(beside(logits, list(share)) * logits.log_softmax(-1)).sum())
    assert float(trainer.backward(rows)) == pytest.approx(torch.stack(slow).mean().item(), rel=1e-4)
    hard = [replace(row, label=None, soft=(0.1, 0.9)) for row in rows]
    scores = trainer.evaluate(hard)
    assert scores.labelled == len(hard), "rows without a label count by their likeliest class"
    trainer.close()


@pytest.mark.parametrize("tuning", ["top:1", "full"])  # the LM head is frozen, and trained
def test_token_weights_are_those_of_a_mean(tuning: str, toy: db.TaskData, context: db.Context) -> None:
    context.budget = context.budget.model_copy(update={"tuning": tuning})
    trainer = trained(new("cot"), toy, context)
    rows = [row.weighted(lambda place: float(place % 3)) for row in flat(trainer)]
    total, weight = torch.zeros(()), 0.0
    for row in rows:
        words = context.backbone.logits(slow_hidden(context.backbone, row.ids)).float()  # type: ignore[arg-type]
        for place in row.targets:
            total = total + place % 3 * F.cross_entropy(words[place - 1][None], beside(words, [row.ids[place]])).cpu()
            weight += place % 3
    (total / weight).backward()  # type: ignore[no-untyped-call]
    slow = gradients(trainer)
    for parameter in trainer.parameters:
        parameter.grad = None
    trainer.pack_tokens = 150  # several packs
    assert float(trainer.backward(rows)) == pytest.approx((total / weight).item(), rel=1e-4)
    for a, b in zip(gradients(trainer), slow, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-6)
    trainer.close()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: db.Row([1, 2, 3], 2, soft=(0.5, 0.6)), "no probabilities"),
        (lambda: db.Row([1, 2, 3], 2, soft=(1.5, -0.5)), "no probabilities"),
        (lambda: db.Row([1, 2, 3], 2, lm=(0, 3), lm_weights=(1.0,)), "1 LM weights and 2 LM targets"),
        (lambda: db.Row([1, 2, 3], 2, lm=(0, 3), lm_weights=(1.0, -1.0)), "negative"),
    ],
)
def test_targets_that_are_none_are_refused(made: Any, words: str) -> None:
    with pytest.raises(db.UserError, match=words):
        made()


def test_soft_targets_of_another_number_of_classes_are_refused(toy: db.TaskData, context: db.Context) -> None:
    with pytest.raises(db.UserError, match=r"3 soft targets, the task 2 classes"):
        db.fine_tune(toy, context, lambda row, encode: [db.Row([5], 1, soft=(0.2, 0.2, 0.6))], weights={"cls": 1.0})
    context.backbone.reset()  # type: ignore[attr-defined]


# ---------------------------------------------------------------- curricula


def test_a_curriculum_makes_the_sequences_of_each_epoch(
    outside: Path, toy: db.TaskData, context: db.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.budget = context.budget.model_copy(update={"epochs": 3})
    made, seen = new("stepwise"), []
    step = Trainer.step

    def watched(self: Trainer, rows: Any) -> Tensor:
        seen.append(sum(len(row.ids) for row in rows))
        return step(self, rows)

    monkeypatch.setattr(Trainer, "step", watched)
    trainer = trained(made, toy, context)
    encoder = trainer._sequences.encoder
    r = [len(encoder.reasoning(row.rationale)) for row in toy.train]
    whole = sum(len(row.ids) for row in flat(trainer))
    assert [len(row.ids) for row in trainer.dev] == [
        len(encoder.input(row.example) + encoder.answer(row.label)) for row in toy.dev
    ], "dev rows are in the form of the last epoch"
    trainer.close()
    made.fit(toy, context)
    by_epoch = [sum(seen[start : start + 3]) for start in (0, 3, 6)]
    assert by_epoch == [whole, whole - sum(length // 2 for length in r), whole - sum(r)]
    assert context.train_log["tokens"] == sum(by_epoch)


# ---------------------------------------------------------------- losses of one's own


class ManyTerms(nn.Module):
    """Uses all that a pass tells, and a parameter of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.critic = nn.Parameter(torch.linspace(-1, 1, width))

    def forward(self, seen: db.Pass) -> Tensor:
        pairs = zip(seen.rows, seen.hidden, strict=True)
        near = torch.stack([(x[row.input_length - 1] * x[-1] * self.critic).mean() for row, x in pairs])
        return near + seen.logits.logsumexp(-1) + 0.5 * seen.cls_losses + 0.01 * seen.lm_losses


@pytest.mark.parametrize("tuning", ["top:1", "lora"])
def test_a_loss_of_ones_own_is_a_mean_over_the_step_however_it_is_packed(
    tuning: str, toy: db.TaskData, context: db.Context
) -> None:
    found = []
    for micro in (1, 120, 10_000):
        context.budget = context.budget.model_copy(update={"tuning": tuning, "micro_tokens": micro})
        dhrd, critic = new("dhrd"), ManyTerms(context.backbone.width)
        trainer = Trainer(context, toy, dhrd.rows, dhrd.weights(), "mlp", loss=critic)
        trainer.set_dropout(False)
        found.append((float(trainer.backward(flat(trainer))), gradients(trainer)))
        assert critic.critic.grad is not None
        assert any(parameter is critic.critic for parameter in trainer.parameters)
        if micro == 1:  # beside the others, written down
            slow = []
            for row in flat(trainer):
                states = slow_hidden(context.backbone, row.ids)  # type: ignore[arg-type]
                logits = trainer.logits(states[row.input_length - 1][None])
                words = context.backbone.logits(states[:-1]).float()
                own = (states[row.input_length - 1] * states[-1] * critic.critic).mean() + logits.logsumexp(-1)[0]
                own = own + 0.5 * F.cross_entropy(logits, beside(logits, [row.label]))
                slow.append(own + 0.01 * F.cross_entropy(words, beside(words, row.ids[1:]), reduction="sum"))
            own_mean = float(sum(slow) / len(slow))
            trainer.loss = None
            without = float(trainer.backward(flat(trainer)))
            assert found[0][0] == pytest.approx(without + own_mean, rel=1e-4)
        trainer.close()
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for a, b in zip(found[0][1], grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_two_passes_differ_by_dropout_alone(outside: Path, toy: db.TaskData, context: db.Context) -> None:
    context.budget = context.budget.model_copy(update={"tuning": "lora"})
    trainer = trained(new("own-r-drop"), toy, context)
    rows = flat(trainer)
    values: list[Tensor] = []
    own = trainer.loss
    assert own is not None

    def noted(seen: db.Pass) -> Tensor:
        values.append(own(seen))
        return values[-1]

    trainer.loss = noted
    trainer.backward(rows)
    assert torch.cat(values).abs().max() < 1e-10, "without dropout two passes are one"
    values.clear()
    trainer.set_dropout(True)
    trainer.backward(rows)
    assert torch.cat(values).min() > 0
    trainer.close()


def test_a_loss_of_another_shape_is_refused(toy: db.TaskData, context: db.Context) -> None:
    context.budget = context.budget.model_copy(update={"batch_size": 12, "micro_tokens": 10_000})
    with pytest.raises(db.UserError, match=r"shape \(\).*12 sequences.*one number a sequence"):
        db.fine_tune(toy, context, new("pooled").rows, weights={"cls": 1.0}, loss=lambda seen: seen.logits.sum())


# ---------------------------------------------------------------- methods that run others


REFERENCES = [
    "unsure[slow=cot[samples=3]]",
    "unsure[fast=dhrd[alpha=0.50,beta=1],slow=cot[decoding=paper,samples=2],margin=1]",
    "unsure[fast=unsure[slow=cot[samples=2]],margin=2]",
    'unsure[slow="cot[samples=3]"]',
]


@pytest.mark.parametrize("text", REFERENCES)
def test_references_within_references_have_one_spelling(text: str, outside: Path) -> None:
    spec = db.method_spec(text)
    again = db.method_spec(spec.name)
    assert (again.name, again.params) == (spec.name, spec.params)
    assert '"' not in spec.name
    assert method_identity(again) == method_identity(spec)
    assert db.method_spec(REFERENCES[0]).name == db.method_spec(REFERENCES[3]).name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unsure[slow=ccot]", r"Unknown method 'ccot'\. Did you mean 'cot'"),
        ("unsure[slow=cot[sample=3]]", r"Method 'cot' has no setting 'sample'\. Did you mean 'samples'"),
        ("unsure[slow=cot[samples=3]", "Cannot read"),
        ("unsure[slow=cot[samples=0]]", r"cot\[samples=0\].*greater than or equal to 1"),
    ],
)
def test_a_reference_to_nothing_is_refused_with_the_nearest_name(text: str, words: str, outside: Path) -> None:
    with pytest.raises(db.UserError, match=words):
        db.method_spec(text)


def test_a_card_over_others_says_what_they_do(outside: Path) -> None:
    both = db.method_spec("unsure").card
    assert (both.inference, both.kinds) == (("pooled", "generate"), ("pooled", "generate"))
    assert both.uses_rationales
    one = db.method_spec("unsure[slow=pooled[pause=1]]").card
    assert (one.inference, one.uses_rationales, one.trains) == ("pooled", False, True)
    bare = db.method_spec("unsure[fast=majority,slow=majority]").card
    assert (bare.inference, bare.kinds) == ("none", ())


def test_the_code_of_what_is_run_is_part_of_the_identity(outside: Path, tmp_path: Path) -> None:
    """An edit of an inner method is one of the outer method; another one that is not named is not."""
    codes = []
    for smoothing in ("0.1", "0.2"):
        folder = tmp_path / smoothing
        folder.mkdir()
        source = PLUGINS["own_smoothing"].replace("own-smoothing", "soft-inner").replace("0.1", smoothing)
        (folder / "soft_inner.py").write_text(HEADER + source)
        with plugins.isolated():
            plugins.include(folder)
            texts = ("unsure[fast=soft-inner]", "unsure[slow=unsure[fast=soft-inner]]", "unsure")
            codes.append([method_identity(db.method_spec(text)).code for text in texts])
    assert codes[0][0] != codes[1][0]
    assert codes[0][1] != codes[1][1]
    assert codes[0][2] == codes[1][2]


def test_a_built_in_method_that_runs_one_from_outside_is_kept_apart_as_that_one(outside: Path) -> None:
    spec = db.method_spec("pooled")
    assert not is_plugin(spec)
    assert is_plugin(replace_parts(spec, ("own-smoothing",)))


def replace_parts(spec: db.MethodSpec, parts: tuple[str, ...]) -> db.MethodSpec:
    """A built-in method with these for parts."""

    class Params(db.PooledParams):
        inner: tuple[db.MethodReference, ...] = parts

    return db.MethodSpec(spec.name, spec.cls, Params())


def test_inner_methods_are_those_that_would_run_by_themselves(
    outside: Path, toy: db.TaskData, context: db.Context
) -> None:
    """Same seeds, same answers; only what they count and leave is kept apart."""
    laps: list[int] = []
    shown: list[str] = []
    context.lap = laps.append
    context.progress = lambda phase, done, total, figures: shown.append(phase)
    examples = [row.example for row in toy_rows(6, 20)]
    made = new("unsure[margin=1000000.0]")
    made.fit(toy, context)
    answers = made.predict(examples, context)
    assert laps == [6]
    wanted = {f"{which} {phase}" for which in ("fast", "slow") for phase in ("train", "dev", "predict")}
    assert set(shown) == wanted
    assert set(context.train_log) == {"inner"}
    for name, text in (("fast", "pooled"), ("slow", "cot")):
        alone = db.Context(context.backbone, context.budget, context.task, context.seed)
        other = new(text)
        other.fit(toy, alone)
        assert other.predict(examples, alone).scores == made.parts[name].predict(examples, alone).scores
        inner = context.train_log["inner"][name]
        assert {key: value for key, value in inner.items() if key != "seconds"} == {
            key: value for key, value in alone.train_log.items() if key not in ("seconds", "inner")
        }
    slow = made.parts["slow"].predict(examples, context.inner("slow"))
    fast = made.parts["fast"].predict(examples, context.inner("fast"))
    assert (answers.labels, answers.texts) == (slow.labels, slow.texts)
    assert answers.tokens_in == [a + b for a, b in zip(fast.tokens_in, slow.tokens_in, strict=True)]


def test_predictions_are_corrected_in_their_places() -> None:
    fast = db.Predictions([0, 1, 0], [[1.0, 0.0]] * 3, tokens_in=[3, 4, 5], tokens_out=[0, 0, 0], truncated=1)
    slow = db.Predictions([1, -1], None, ["a", "b"], [6, 7], [2, 3])
    both = fast.corrected([2, 0], slow)
    assert (both.labels, both.scores, both.texts) == ([-1, 1, 1], None, ["b", "", "a"])
    assert (both.tokens_in, both.tokens_out, both.truncated) == ([10, 4, 11], [3, 0, 2], 1)
    assert fast.corrected([], db.Predictions([], [])).labels == fast.labels


def test_a_composed_method_goes_the_whole_way_to_a_record(outside: Path, tmp_path: Path) -> None:
    request = RunRequest(
        methods=("unsure[slow=cot[samples=2],margin=0.3]",), tasks=("RTE",), backbone="tiny", seeds=(0,),
        isolation="none", budget="smoke[train_rows=6,dev_rows=2,test_rows=4,epochs=1,tuning=top:1,max_length=48,"
        "decoding={max_new_tokens: 4}]", results=tmp_path / "results",
    )  # fmt: skip
    plan = make_plan(request)
    assert plan.cells[0].parts.answers is not None, "what generates has the grammar of answers in its identity"
    assert "decoding" in plan.cells[0].parts.budget
    (record,) = run_plan(plan, Display(Console(quiet=True), 1))
    assert record.error is None
    assert record.method.inference == ("pooled", "generate")
    inner = record.train.inner
    assert inner is not None
    assert set(inner) == {"fast", "slow"}
    assert record.train.tokens == inner["fast"].tokens + inner["slow"].tokens  # type: ignore[operator]
    assert record.timing is not None
    assert [count for count, _ in record.timing.laps] == [4]
    again = load_results(tmp_path / "results")
    assert again.cells["inference"].tolist() == ["pooled+generate"]
    assert not again.problems
    assert json.loads(record.model_dump_json())["method"]["inference"] == ["pooled", "generate"]


def test_an_estimate_counts_parts_and_pauses(outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(forward=1.0, frozen=0.0, train=0.0, lm=0.0, decode=10.0)
    monkeypatch.setattr("dhrd_bench.grid.estimate.kept_rates", lambda backbone, budget: rates)
    names = ("pooled", "pooled[pause=5]", "cot", "unsure")
    request = RunRequest(methods=names, tasks=("RTE",), backbone="tiny", seeds=(0,), results=tmp_path)
    plan = make_plan(request)
    plain, paused, slow, both = estimate_seconds(plan)
    assert paused - plain == pytest.approx(5 * len(plan.cells[0].test.examples))
    assert both == pytest.approx(plain + slow)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unsure", "own-mean", "own-smoothing", "stepwise", "own-r-drop"])
def test_methods_from_outside_conform(name: str, outside: Path) -> None:
    assert [(each.check, each.detail) for each in run_checks(name) if each.status != "pass"] == []


def test_methods_from_outside_are_short_and_import_the_public_package_only() -> None:
    assert all(len(source.strip().splitlines()) < 30 for source in PLUGINS.values())
    names = {name for source in PLUGINS.values() for name in re.findall(r"\bdb\.(\w+)", source)}
    assert names <= set(db.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pooled[pooling=attention,pause=2]", "dhrd[pooling=mean]", "lm-input-only[pause=1]"])
def test_pooled_methods_conform_however_they_pool(name: str) -> None:
    assert [(each.check, each.detail) for each in run_checks(name) if each.status != "pass"] == []
