"""Training against direct, slow computations and Hugging Face's own forward pass."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from slow import beside, slow_hidden
from torch import Tensor, nn

from dhrd_bench import FineTuned, LabeledExample, Row, registry
from dhrd_bench.backbones import Backbone, load, resolve
from dhrd_bench.contracts import Budget, Context, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.inference.classification import classify
from dhrd_bench.modeling.batches import epoch_batches, packs
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.encode import Row as EncodedRow
from dhrd_bench.training.dropout import Dropout
from dhrd_bench.training.frozen import input_states
from dhrd_bench.training.loop import run_epochs
from dhrd_bench.training.trainer import Trainer

METHODS = ["pooled", "dhrd", "cot"]


def method(name: str, **params: object) -> FineTuned:
    cls = registry.methods.get(name)
    made = cls(cls.Params(**params))
    assert isinstance(made, FineTuned)
    return made


def trainer(name: str, toy: TaskData, context: Context, **params: object) -> Trainer:
    made = method(name, **params)
    head = "mlp" if made.weights().get("cls") else None
    return Trainer(context, toy, made.rows, dict(made.weights()), head)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 100))
def test_packs_hold_every_sequence_once_within_the_limit(lengths: list[int], tokens: int) -> None:
    groups = packs(lengths, tokens)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[i] for i in group) <= tokens for group in groups)
    flat = [lengths[i] for group in groups for i in group]
    assert flat == sorted(flat)


@given(st.integers(1, 50), st.integers(1, 9), st.integers(0, 2**62), st.integers(0, 3))
def test_an_epoch_visits_every_example_once(count: int, size: int, seed: int, epoch: int) -> None:
    batches = list(epoch_batches(count, size, seed, epoch))
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    assert batches == list(epoch_batches(count, size, seed, epoch))


def test_packed_forward_equals_hugging_face(tiny: Backbone) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(2, 258, n).tolist() for n in (3, 7, 7, 7, 20, 33)]
    lengths = [len(s) for s in sequences]
    packed = tiny.hidden(torch.tensor([t for s in sequences for t in s]), lengths).split(lengths)
    for ids, states in zip(sequences, packed, strict=True):
        torch.testing.assert_close(states, slow_hidden(tiny, ids), rtol=1e-4, atol=1e-5)


def test_lower_and_upper_blocks_make_the_whole(tiny: Backbone) -> None:
    ids = torch.arange(2, 40)
    whole = tiny.hidden(ids, [20, 18])
    lower = tiny.hidden(ids, [20, 18], 0, 2)
    torch.testing.assert_close(tiny.hidden(lower, [20, 18], 2), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scope", ["all", "rationale"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5)])
def test_one_pass_gives_the_loss_of_two(
    toy: TaskData, context: Context, scope: str, weights: tuple[float, float]
) -> None:
    """L = beta L_cls + alpha L_lm, each from a pass of its own over unpadded sequences."""
    alpha, beta = weights
    made = trainer("dhrd", toy, context, alpha=alpha, beta=beta, lm_scope=scope)
    made.set_dropout(False)
    backbone, encoder = context.backbone, Encoder(context.backbone, context.budget, toy.card)
    cls, lm = [], []
    for row in toy.train:
        x = encoder.input(row.example)
        assert made.head is not None
        logits = made.head(slow_hidden(backbone, x)[-1])[None]
        cls.append(F.cross_entropy(logits, beside(logits, [row.label])))
        s = x + encoder.reasoning(row.rationale or "") + encoder.answer(row.label)
        logits = slow_hidden(backbone, s) @ backbone.head_weight.T
        start = 1 if scope == "all" else len(x)
        lm.append(F.cross_entropy(logits[start - 1 : -1], beside(logits, s[start:]), reduction="none"))
    expected = beta * torch.stack(cls).mean() + alpha * torch.cat(lm).mean()
    actual = float(made.backward([row for rows in made.train for row in rows]))
    assert actual == pytest.approx(expected.item(), rel=1e-4)


def test_pooled_logits_do_not_depend_on_the_rationale(toy: TaskData, context: Context) -> None:
    made = trainer("dhrd", toy, context)
    made.set_dropout(False)
    encoder = Encoder(context.backbone, context.budget, toy.card)
    example = toy.train[3]
    x = encoder.input(example.example)
    alone = made.logits(made.hidden([EncodedRow(x, len(x))])[len(x) - 1][None])
    for rationale in ("", "No.", "Entirely other words, and many more of them than before."):
        (row,) = method("dhrd").rows(replace(example, rationale=rationale), encoder)
        with_rationale = made.logits(made.hidden([row])[row.input_length - 1][None])
        torch.testing.assert_close(with_rationale, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("tuning", ["top:1", "full", "lora"])
def test_gradient_does_not_depend_on_the_packs(toy: TaskData, context: Context, name: str, tuning: str) -> None:
    gradients = []
    for micro in (1, 100, 10_000):
        context.budget = context.budget.model_copy(update={"tuning": tuning, "micro_tokens": micro})
        made = trainer(name, toy, context)
        made.set_dropout(False)
        made.backward([row for rows in made.train for row in rows])
        gradients.append([p.grad.clone() for p in made.parameters if p.grad is not None])
        made.close()
    assert gradients[0]
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_frozen_states_are_the_computed_ones(toy: TaskData, context: Context) -> None:
    rows = [row for rows in trainer("dhrd", toy, context).train for row in rows]
    backbone = context.backbone
    direct = backbone.hidden(torch.tensor([t for row in rows for t in row.ids]), [len(row.ids) for row in rows], 0, 2)
    first = input_states(backbone, rows, 2)
    assert len(backbone.frozen_states) == len({tuple(row.ids) for row in rows})
    torch.testing.assert_close(first, direct, rtol=1e-5, atol=1e-6)
    assert torch.equal(input_states(backbone, rows, 2), first)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_frozen_states_are_the_same_to_the_last_bit_whatever_they_were_first_needed_with(dtype: str) -> None:
    """Cells run in another order after a kill and with workers, and find other sequences computed already."""
    backbone = load(resolve(f"tiny[dtype={dtype}]"))
    numbers = random.Random(0)
    ids = [[numbers.randrange(200) for _ in range(numbers.randrange(5, 120))] for _ in range(200)]
    rows = [EncodedRow(each, len(each)) for each in ids]
    for start in range(0, len(rows), 8):
        some = rows[start : start + 8]
        backbone.frozen_states.clear()
        together = input_states(backbone, some, backbone.depth - 1).split([len(row.ids) for row in some])
        for row, states in zip(some, together, strict=True):
            backbone.frozen_states.clear()
            assert torch.equal(input_states(backbone, [row], backbone.depth - 1), states)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    dropout = Dropout(p)
    states = torch.ones(400, 501, requires_grad=True)  # an odd count: raw numbers are cut in four
    torch.manual_seed(0)
    out = dropout(states)
    dropped = float((out == 0).float().mean())
    assert dropped == pytest.approx(p, abs=5 * (p * (1 - p) / out.numel()) ** 0.5)
    assert out.max().item() == pytest.approx(1 / (1 - p), rel=1e-4)
    assert float(out.detach().mean()) == pytest.approx(1.0, abs=0.01)
    (gradient,) = torch.autograd.grad(out.sum(), states)
    assert torch.equal(gradient, out.detach()), "the mask of the way back is that of the way there"
    assert not torch.equal(dropout(states), out), "each call has a mask of its own"
    torch.manual_seed(0)
    assert torch.equal(Dropout(p)(states), out)
    dropout.eval()
    assert dropout(states) is states
    assert dropout.train()(states.bfloat16()).dtype == torch.bfloat16


def test_lora_without_dropout_trains_as_peft_does(toy: TaskData, context: Context) -> None:
    """Loss and gradients of a step equal those with peft's own dropout module in place of ours."""
    budget = context.budget.model_copy(update={"tuning": "lora"})
    context.budget = budget.model_copy(update={"lora": budget.lora.model_copy(update={"dropout": 0.0})})
    context_of_ours = replace(context, budget=budget)
    found = []
    for here in (context, context_of_ours):
        made = trainer("dhrd", toy, here)
        kinds = {type(m) for m in here.backbone.model.modules() if "dropout" in type(m).__name__.lower()}
        on_a_cpu = context.backbone.device.type == "cpu"  # elsewhere peft's own is as fast
        assert (Dropout in kinds) == (here is context_of_ours and on_a_cpu)
        made.set_dropout(False)
        loss = float(made.backward([row for rows in made.train for row in rows]))
        found.append((loss, [p.grad.clone() for p in made.parameters if p.grad is not None]))
        made.close()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("tuning", ["top:1", "full", "lora", "head"])
def test_training_leaves_the_backbone_as_it_was(toy: TaskData, context: Context, tuning: str) -> None:
    before = {name: p.clone() for name, p in context.backbone.model.named_parameters()}
    context.budget = context.budget.model_copy(update={"tuning": tuning})
    made = method("pooled")
    made.fit(toy, context)
    after = dict(context.backbone.model.named_parameters())
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for p in after.values())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("tuning", ["top:1", "lora"])
def test_same_seed_same_predictions_and_another_seed_another_fit(
    toy: TaskData, context: Context, name: str, tuning: str
) -> None:
    context.budget = context.budget.model_copy(update={"tuning": tuning})
    examples = [row.example for row in toy.train]
    outcomes, weights = [], []
    for seed in (0, 0, 1):
        context.seed = seed
        context.backbone.frozen_states.clear()
        made = method(name)
        made.fit(toy, context)
        outcomes.append(made.predict(examples, context))
        weights.append(torch.cat([w.flatten() for w in made.fitted.weights.values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert outcomes[0].scores == outcomes[1].scores
    assert outcomes[0].labels == outcomes[1].labels
    assert outcomes[0].texts == outcomes[1].texts


@pytest.mark.parametrize("tuning", ["top:1", "full", "lora", "head"])
def test_save_and_load_round_trip(toy: TaskData, context: Context, tuning: str, tmp_path: Path) -> None:
    context.budget = context.budget.model_copy(update={"tuning": tuning})
    made = method("dhrd")
    made.fit(toy, context)
    examples = [row.example for row in toy.dev]
    expected = made.predict(examples, context)
    made.save(tmp_path)
    again = method("dhrd")
    again.load(tmp_path, toy.card, context)
    np.testing.assert_allclose(again.predict(examples, context).scores, expected.scores, rtol=1e-5, atol=1e-6)


def test_classification_does_not_depend_on_order_or_neighbours(toy: TaskData, context: Context) -> None:
    made = method("pooled")
    made.fit(toy, context)
    examples = [row.example for row in toy.train]
    together = classify(made.fitted, examples, context).scores
    alone = [classify(made.fitted, [example], context).scores[0] for example in reversed(examples)]
    np.testing.assert_allclose(together, alone[::-1], rtol=1e-5, atol=1e-6)


def test_merged_lora_equals_the_adapters_in_float32(toy: TaskData, context: Context) -> None:
    context.budget = context.budget.model_copy(update={"tuning": "lora", "learning_rate": 1e-2})
    made = trainer("dhrd", toy, context)
    run_epochs(made, toy.card, context)
    example = toy.dev[0]
    ids = Encoder(context.backbone, context.budget, toy.card).input(example.example)
    with_adapters = made.hidden([EncodedRow(ids, len(ids))])
    weights, adapters = made.tuning.result()
    made.close()
    assert any(tensor.abs().max() > 0 for name, tensor in adapters.items() if name.endswith("lora_B"))
    context.backbone.load_weights(weights, object())
    torch.testing.assert_close(
        context.backbone.hidden(torch.tensor(ids), [len(ids)]), with_adapters, rtol=1e-4, atol=1e-5
    )
    context.backbone.reset()


def test_it_learns(toy: TaskData, context: Context) -> None:
    context.budget = context.budget.model_copy(update={"epochs": 40, "tuning": "full"})
    made = method("pooled")
    made.fit(replace(toy, dev=toy.train), context)
    predicted = made.predict([row.example for row in toy.train], context).labels
    assert np.mean([p == row.label for p, row in zip(predicted, toy.train, strict=True)]) >= 0.9


def test_long_inputs_lose_passage_and_nothing_else(context: Context, toy: TaskData) -> None:
    encoder = Encoder(context.backbone, context.budget.model_copy(update={"max_length": 40}), toy.card)
    example = toy.train[4].example
    long = replace(example, prompt=replace(example.prompt, passage="word " * 50))
    text = context.backbone.decode(encoder.input(long))
    assert text.startswith(example.prompt.before)
    assert text.endswith(example.prompt.after)
    assert len(encoder.input(long)) == 40
    assert encoder.truncated == {long.id}
    question = replace(example, prompt=replace(example.prompt, after="?" * 60))
    assert context.backbone.decode(encoder.input(question)).endswith("?" * 60)


def test_an_lm_target_has_a_context() -> None:
    assert list(EncodedRow([5, 6, 7], 2, lm=(0, 3)).targets) == [1, 2]
    assert list(EncodedRow([5, 6, 7], 2, lm=(2, 9)).targets) == [2]
    assert list(EncodedRow([5, 6, 7], 2).targets) == []


def test_no_training_rows_is_said_plainly(toy: TaskData, context: Context, budget: Budget) -> None:
    with pytest.raises(Exception, match="no training rows"):
        method("pooled").fit(replace(toy, train=()), context)


def test_rows_of_another_term_have_their_own_mean(toy: TaskData, context: Context) -> None:
    """a L_label + (1 - a) L_rationale with means of their own, as multi-task distillation has it."""

    def build(row: LabeledExample, encode: Encoder) -> list[Row]:
        x = encode.input(row.example)
        label, rationale = [*x, *encode.answer(row.label)], [*x, *encode.reasoning(row.rationale or "")]
        return [
            Row(label, len(x), lm=(len(x), len(label)), term="label"),
            Row(rationale, len(x), lm=(len(x), len(rationale)), term="rationale"),
        ]

    made = Trainer(context, toy, build, {"label": 0.3, "rationale": 0.7}, None)
    means = {}
    for term in ("label", "rationale"):
        losses = []
        for row in (row for rows in made.train for row in rows if row.term == term):
            logits = slow_hidden(context.backbone, row.ids) @ context.backbone.head_weight.T
            at = row.input_length
            losses.append(F.cross_entropy(logits[at - 1 : -1], beside(logits, row.ids[at:]), reduction="none"))
        means[term] = torch.cat(losses).mean().item()
    actual = float(made.backward([row for rows in made.train for row in rows]))
    assert actual == pytest.approx(0.3 * means["label"] + 0.7 * means["rationale"], rel=1e-4)


@pytest.mark.parametrize("tuning", ["top:1", "full", "lora"])
def test_computing_activations_anew_changes_no_gradient(
    toy: TaskData, context: Context, tuning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout in adapters and head: the second pass drops what the first one did."""
    monkeypatch.setattr("dhrd_bench.training.tuning.Dropout", nn.Dropout)
    found = []
    for again in (False, True):
        context.budget = context.budget.model_copy(update={"tuning": tuning, "gradient_checkpointing": again})
        made = trainer("dhrd", toy, context)
        made.set_dropout(True)
        rows = [row for rows in made.train for row in rows]
        calls: list[nn.Module] = []
        hook = context.backbone.blocks[-1].mlp.register_forward_pre_hook(
            lambda block, _, calls=calls: calls.append(block)
        )
        loss = float(made.backward(rows))
        hook.remove()
        found.append((loss, [p.grad.clone() for p in made.parameters if p.grad is not None], len(calls)))
        made.close()
        assert not any(getattr(module, "gradient_checkpointing", False) for module in context.backbone.model.modules())
    assert found[1][2] == 2 * found[0][2], "the blocks are run a second time"
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_step_that_does_not_fit_is_done_in_smaller_packs(
    toy: TaskData, context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is computed is the same, and the user is told of it when it happens. On a card: tests/test_gpu.py."""
    context.backbone = load(resolve("tiny[device=cpu]"))
    context.budget = context.budget.model_copy(update={"micro_tokens": 400})
    right, tokens = Trainer._pass, []

    def scarce(self: Trainer, pack: Any) -> Tensor:
        if len(pack.states) > 150:
            raise torch.OutOfMemoryError("no room")
        tokens.append(len(pack.states))
        return right(self, pack)

    made = trainer("pooled", toy, context)
    made.set_dropout(False)
    rows = [row for rows in made.train for row in rows]
    expected = float(made.backward(rows)), [p.grad.clone() for p in made.parameters if p.grad is not None]
    made.close()
    monkeypatch.setattr(Trainer, "_pass", scarce)
    made = trainer("pooled", toy, context)
    made.set_dropout(False)
    assert float(made.backward(rows)) == pytest.approx(expected[0], rel=1e-5)
    assert (made.pack_tokens, made.out_of_memory) == (100, 2)
    assert caplog.messages == [
        f"Out of memory: training goes on in packs of {tokens} tokens, half as many." for tokens in (200, 100)
    ]
    for a, b in zip(expected[1], [p.grad for p in made.parameters if p.grad is not None], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(Trainer, "_pass", lambda self, pack: (_ for _ in ()).throw(torch.OutOfMemoryError("no room")))
    with pytest.raises(torch.OutOfMemoryError):
        made.backward(rows)
    made.close()


def test_a_method_without_a_head_has_nothing_to_train_but_the_backbone(toy: TaskData, context: Context) -> None:
    context.budget = context.budget.model_copy(update={"tuning": "head"})
    with pytest.raises(UserError, match="tuning=head leaves nothing to train"):
        method("label-lm").fit(toy, context)
