"""On a CUDA device: this project's fast paths against Hugging Face's own eager one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dhrd_bench import Fitted, classify, registry, score_labels
from dhrd_bench.backbones import Backbone, resolve
from dhrd_bench.backbones.fused import fuse, split
from dhrd_bench.backbones.graphs import Graphs
from dhrd_bench.backbones.loading import load_fresh, settle
from dhrd_bench.contracts import Budget, Context, Decoding, Example, Prompt, TaskCard, TaskData
from dhrd_bench.inference.decode import decode
from dhrd_bench.inference.engine import Stop
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.heads import classification_head
from dhrd_bench.training.pack import Pack
from dhrd_bench.training.trainer import Trainer

pytestmark = pytest.mark.gpu
LENGTHS = [3, 70, 7, 7, 200, 33, 129]

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Of ||found - expected|| / ||expected||. A bfloat16 has 8 bits, and both sides round at other places."""


def backbone_in(dtype: str, more: str = "") -> Backbone:
    """The tiny model on the card, in an object of its own."""
    return load_fresh(settle(resolve(f"tiny[dtype={dtype},device=cuda{more}]")))


def sequences() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(2, 258, n).tolist() for n in LENGTHS]


def eager(backbone: Backbone, ids: list[int]) -> Tensor:
    """The states of one sequence by the library's own operations, attention and mask."""
    split(backbone.model)
    backbone.model.set_attn_implementation("eager")
    try:
        output = backbone.model.model(input_ids=torch.tensor([ids], device="cuda"), use_cache=False)
    finally:
        backbone.model.set_attn_implementation("dhrd_packed")
        fuse(backbone.model)
    states: Tensor = output.last_hidden_state[0]
    return states


def off(found: Tensor, expected: Tensor) -> float:
    """Relative error over all elements."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def toy(rows: int) -> TaskData:
    from conftest import toy_rows

    card = TaskCard(
        name="toy", labels=("no", "yes"), answers=("No", "Yes"), metrics=("accuracy",), prompt="native",
        prompt_version="1.0.0", version="1.0.0",
    )  # fmt: skip
    return TaskData(card, tuple(toy_rows(rows)), tuple(toy_rows(8, rows)))


def trainer_of(backbone: Backbone, budget: Budget, task: TaskData, head: Any) -> Trainer:
    """A dual objective without dropout in the adapters."""
    budget = budget.model_copy(update={"lora": budget.lora.model_copy(update={"dropout": 0.0})})
    cls = registry.methods.get("dhrd")
    rows = cls(cls.Params()).rows  # type: ignore[attr-defined]
    return Trainer(Context(backbone, budget, "toy", 0), task, rows, {"cls": 1.0, "lm": 0.5}, head)


def settings(**changes: Any) -> Budget:
    fields: dict[str, Any] = {
        "name": "gpu", "epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "max_length": 256, "max_rationale": 64,
    }  # fmt: skip
    return Budget(**(fields | changes))


def test_small_operations_are_fused() -> None:
    """That they compute the same is what the other tests show."""
    kinds = {type(each).__name__ for each in backbone_in("bfloat16").model.modules() if hasattr(type(each), "plain")}
    assert kinds == {"LlamaRMSNorm", "LlamaMLP", "LlamaAttention"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_states(dtype: str) -> None:
    backbone, texts = backbone_in(dtype), sequences()
    assert backbone.one_call == (dtype == "bfloat16")
    with torch.no_grad():
        found = backbone.hidden(torch.tensor([t for ids in texts for t in ids]), LENGTHS).split(LENGTHS)
        for ids, states in zip(texts, found, strict=True):
            assert off(states, eager(backbone, ids)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tuning", ["full", "lora", "top:1"])
def test_loss_and_gradients(dtype: str, tuning: str) -> None:
    """Of a dual objective, against one sequence at a time through the eager path in float32."""
    found: dict[bool, Any] = {}
    for slow in (True, False):
        backbone = backbone_in("float32" if slow else dtype)
        trainer = trainer_of(backbone, settings(tuning=tuning), toy(8), "mlp")
        trainer.set_dropout(False)
        rows = [row for rows in trainer.train for row in rows]
        if slow:
            losses, lm = [], []
            for row in rows:
                states = eager(backbone, row.ids)
                logits = trainer.logits(states[row.input_length - 1][None])
                losses.append(F.cross_entropy(logits, torch.tensor([row.label], device="cuda")))
                at = row.targets
                words = states[at.start - 1 : at.stop - 1] @ backbone.head_weight.T
                targets = torch.tensor(row.ids[at.start : at.stop], device="cuda")
                lm.append(F.cross_entropy(words, targets, reduction="none"))
            loss = torch.stack(losses).mean() + 0.5 * torch.cat(lm).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss = trainer.backward(rows)
        gradients = [p.grad.flatten() for p in trainer.parameters if p.grad is not None]
        found[slow] = float(loss.detach()), torch.cat(gradients)
    assert found[False][0] == pytest.approx(found[True][0], rel=TOLERANCE[dtype])
    assert off(found[False][1], found[True][1]) < 2 * TOLERANCE[dtype]


@pytest.mark.parametrize("tuning", ["full", "lora", "top:1"])
def test_recorded_steps_equal_plain_ones(tuning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without recording and without filling up, to the rounding of bfloat16 products of other shapes."""
    found = []
    for limit in (24, 0):
        monkeypatch.setattr(Graphs.__init__, "__defaults__", (limit,))
        backbone = backbone_in("bfloat16")
        trainer = trainer_of(backbone, settings(tuning=tuning, epochs=1), toy(64), "linear")
        losses = [
            float(trainer.step([row for rows in trainer.train[start : start + 8] for row in rows]))
            for start in [*range(0, 64, 8)] * 2
        ]
        assert bool(trainer._graphs._recorded) == bool(limit)
        found.append((losses, torch.cat([p.detach().flatten() for p in trainer.parameters])))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=2e-2)
    assert off(found[0][1], found[1][1]) < 2e-2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_in_four_bits(dtype: str) -> None:
    """Packed states by the library's eager path, then adapters that learn; the fitted answers as it was trained."""
    backbone, texts = backbone_in(dtype, ",quantize=nf4"), sequences()
    with torch.no_grad():
        found = backbone.hidden(torch.tensor([t for ids in texts for t in ids]), LENGTHS).split(LENGTHS)
        for ids, states in zip(texts, found, strict=True):
            assert off(states, eager(backbone, ids)) < TOLERANCE[dtype]
    task = toy(40)
    context = Context(backbone, settings(tuning="lora", decoding=Decoding(max_new_tokens=16)), "toy", 0)
    for name in ("dhrd", "cot"):
        cls = registry.methods.get(name)
        made: Any = cls(cls.Params())
        made.fit(task, context)
        losses = [epoch["loss"] for epoch in context.train_log["epochs"]]
        assert losses[-1] < losses[0]
        assert len(made.predict([row.example for row in task.train], context).labels) == 40


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_moments_in_eight_bits(tuning: str, optimizer: str) -> None:
    """Beside recorded passes; after some steps the weights have gone nearly the way of AdamW."""
    ends = []
    for each in ("adamw", optimizer):
        trainer = trainer_of(backbone_in("bfloat16"), settings(tuning=tuning, optimizer=each), toy(32), "linear")
        start = torch.cat([p.detach().flatten().clone() for p in trainer.parameters])
        for first in [*range(0, 32, 8)] * 2:
            trainer.step([row for rows in trainer.train[first : first + 8] for row in rows])
        assert trainer._graphs._recorded
        ends.append(torch.cat([p.detach().flatten() for p in trainer.parameters]) - start)
    assert float(F.cosine_similarity(ends[0], ends[1], dim=0)) > 0.95


@pytest.mark.parametrize("name", ["dhrd", "cot"])
@pytest.mark.parametrize("tuning", ["full", "lora", "top:1"])
def test_a_seed_gives_the_same_predictions_twice(name: str, tuning: str) -> None:
    answers = []
    for _ in range(2):
        backbone, task = backbone_in("bfloat16"), toy(40)
        context = Context(backbone, settings(tuning=tuning, decoding=Decoding(max_new_tokens=16)), "toy", 0)
        cls = registry.methods.get(name)
        made: Any = cls(cls.Params())
        made.fit(task, context)
        weights = torch.cat([w.flatten() for w in made.fitted.weights.values()])
        answers.append((made.predict([row.example for row in task.train], context), weights))
    assert torch.equal(answers[0][1], answers[1][1])
    assert answers[0][0].labels == answers[1][0].labels
    assert answers[0][0].scores == answers[1][0].scores
    assert answers[0][0].texts == answers[1][0].texts


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@torch.no_grad()
def test_pooled_logits_and_label_scores(dtype: str) -> None:
    backbone, task = backbone_in(dtype), toy(12)
    card = task.card.model_copy(update={"answers": ("True enough", "False", "Neither one")})
    context = Context(backbone, settings(), "toy", 0)
    head = classification_head("mlp", backbone.width, 3, 0).cuda().eval()
    examples = [row.example for row in task.train]
    encoder = Encoder(backbone, context.budget, card)
    pooled = torch.tensor(classify(Fitted(card, head_kind="mlp", head=head), examples, context).scores)
    slow = torch.stack([head(eager(backbone, encoder.input(each))[-1].float()) for each in examples]).cpu()
    assert off(pooled, slow) < TOLERANCE[dtype]
    scores = torch.tensor(score_labels(Fitted(card), examples, context).scores)
    expected = []
    for each in examples:
        prompt = encoder.input(each) + encoder.answer_marker()
        for label in range(3):
            word = encoder.answer_word(label)
            words = torch.log_softmax((eager(backbone, prompt + word) @ backbone.head_weight.T).float(), -1)
            expected.append(float(words[len(prompt) - 1 : -1][range(len(word)), word].sum()))
    assert off(scores.flatten(), torch.tensor(expected)) < TOLERANCE[dtype]


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_text_continued_from_slots(dtype: str) -> None:
    """The states of tokens that are given one at a time are those of the whole text; one slot falls free on the way."""
    backbone, texts = backbone_in(dtype), [ids for ids in sequences() if len(ids) > 8]
    slots = backbone.slots(len(texts) + 2, 256)
    lengths = [len(ids) - 6 for ids in texts]
    slots.open(lengths, 1)
    backbone.hidden(torch.tensor([t for ids in texts for t in ids[:-6]]), lengths, slots=slots)
    expected = [eager(backbone, ids) for ids in texts]
    for place in range(-6, 0):
        tokens = torch.tensor([ids[place] for ids in texts] + [0], device="cuda")
        states = backbone.step(tokens, slots, 256)  # with a row more than there are
        for found, whole in zip(states, expected, strict=False):
            assert off(found, whole[place]) < TOLERANCE[dtype]
        slots.end_step()
        if place == -3:
            slots.close(0)
            texts[0], expected[0] = texts.pop(), expected.pop()


@torch.no_grad()
def test_greedy_decoding() -> None:
    """In float32, where no near-tie is decided by rounding; enough rows and steps that steps are recorded."""
    backbone, prompts = backbone_in("float32"), sequences() * 5
    found = decode(backbone, prompts, Decoding(max_new_tokens=12, batch_size=16), Stop((), 0), [0] * len(prompts))
    for prompt, continuation in zip(prompts[:7], found, strict=False):
        ids = list(prompt)
        for _ in range(12):
            ids.append(int((eager(backbone, ids)[-1] @ backbone.head_weight.T).argmax()))
            if ids[-1] == backbone.eos_id:
                break
        assert continuation.ids == [t for t in ids[len(prompt) :] if t != backbone.eos_id]
    assert [each.ids for each in found[:7]] == [each.ids for each in found[7:14]]


def test_laps_add_up_to_the_wall_clock() -> None:
    """The clock is read when the device is done: the laps of a long prediction are its time, not its launches'."""
    backbone, laps = backbone_in("bfloat16"), [time.perf_counter()]
    context = Context(backbone, settings(), "toy", 0, lap=lambda _: laps.append(time.perf_counter()))
    examples = [Example(str(i), Prompt("Text: ", "word " * 40, "?")) for i in range(3000)]
    head = classification_head("mlp", backbone.width, 2, 0).cuda().eval()
    classify(Fitted(toy(2).card, head_kind="mlp", head=head), examples, context)
    torch.cuda.synchronize()
    whole = time.perf_counter() - laps[0]
    assert len(laps) > 5
    assert laps[-1] - laps[0] == pytest.approx(whole, rel=0.02)


def test_out_of_memory_halves_the_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, task = backbone_in("bfloat16"), toy(16)
    cls = registry.methods.get("pooled")
    trainer = Trainer(Context(backbone, settings(), "toy", 0), task, cls(cls.Params()).rows, {"cls": 1.0}, "mlp")
    rows = [row for rows in trainer.train for row in rows]
    before, fitting = Trainer._recorded, []

    def scarce(self: Trainer, pack: Pack) -> Tensor:
        if len(pack.pooled) > 8:
            fitting.clear()
            torch.empty(1 << 50, device="cuda")
        fitting.append(len(pack.pooled))
        return before(self, pack)

    monkeypatch.setattr(Trainer, "_recorded", scarce)
    trainer.pack_tokens = sum(len(row.ids) for row in rows)
    loss = float(trainer.step(rows))
    assert trainer.out_of_memory > 0
    assert trainer.pack_tokens == sum(len(row.ids) for row in rows) // 2**trainer.out_of_memory
    assert len(fitting) > 1
    assert sum(fitting) == 16, "no row is left out, and none counts twice"
    assert np.isfinite(loss)


def test_sizes_follow_the_memory() -> None:
    from dhrd_bench.backbones.sizes import sizes_of

    sizes = sizes_of(backbone_in("bfloat16"))
    assert sizes.pack > 1024
    assert sizes.slots(48, 300) > 48
    assert engine_of(backbone_in("bfloat16")).name == "transformers"
