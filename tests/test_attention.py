"""Layouts and the one-call attention, with a slow stand-in for the card's kernel; and packs that are filled up."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import make_backbone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModel, CohereConfig, GPT2Config, LlamaConfig, MistralConfig
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from dhrd_bench import registry
from dhrd_bench.backbones import Backbone, attention, fused, layout, load, resolve
from dhrd_bench.backbones.attention import Scoring, attend
from dhrd_bench.backbones.fused import fuse, split
from dhrd_bench.backbones.graphs import Graphs
from dhrd_bench.backbones.layout import Layout, fillings, positions_of
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.contracts import Context, TaskData
from dhrd_bench.inference.reading import Reader
from dhrd_bench.modeling.encode import Row
from dhrd_bench.training.pack import IGNORED, Pack
from dhrd_bench.training.trainer import Trainer

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}


def slow_varlen(
    q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, longest_q: int, longest_k: int, **settings: Any
) -> Tensor:
    """What `varlen_attn` is documented to do, one sequence after the other; causal from the end of the keys."""
    out = torch.full_like(q, float("nan"))
    window, bounds_q, bounds_k = settings["window_size"], starts_q.tolist(), starts_k.tolist()
    assert settings["enable_gqa"]
    ends_k = bounds_k[1:]
    if (used := settings.get("seqused_k")) is not None:
        ends_k = [start + count for start, count in zip(bounds_k, used.tolist(), strict=False)]
    for a, b, c, d in zip(bounds_q[:-1], bounds_q[1:], bounds_k[:-1], ends_k, strict=True):
        assert b - a <= longest_q
        assert d - c <= longest_k
        if a == b:
            continue
        keys_at = torch.arange(d - c, device=q.device)
        distance = keys_at[d - c - (b - a) :, None] - keys_at[None]
        seen = (distance >= 0) & ((window[0] < 0) | (distance <= window[0]))
        groups = q.shape[1] // k.shape[1]
        keys, values = (x[c:d].transpose(0, 1).repeat_interleave(groups, 0) for x in (k, v))
        scale = q.shape[2] ** -0.5 if settings["scale"] is None else settings["scale"]
        scores = (q[a:b].transpose(0, 1) @ keys.transpose(1, 2) * scale).masked_fill(~seen, float("-inf"))
        out[a:b] = (scores.softmax(-1) @ values).transpose(0, 1)
    return out


@pytest.fixture
def one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention goes by the stand-in from here on."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", slow_varlen)
    monkeypatch.setattr(attention, "varlen_options", lambda: frozenset({"enable_gqa"}))
    monkeypatch.setattr(Backbone, "one_call", True)


def states(tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(heads, tokens, 8, generator=generator) for heads in (4, 2, 2))  # type: ignore[return-value]


@pytest.mark.parametrize("branches", [(), (2,), (1, 3)])
@pytest.mark.parametrize("window", [None, 3, 6])
@pytest.mark.usefixtures("one_call")
def test_one_call_equals_a_call_a_run(branches: tuple[int, ...], window: int | None) -> None:
    lengths = [5, 5, 9, 20, 6]
    lying = Layout.of(lengths, CPU, branches, one_call=True)
    q, k, v = states(sum(lengths))
    scoring = Scoring(scaling=0.3, window=window)
    together = attend(q, k, v, scoring, lying)
    apart = attend(q, k, v, scoring, Layout(lying.positions, lying.runs))
    torch.testing.assert_close(together, apart)


def test_a_softcap_bends_the_scores() -> None:
    lengths = [4, 7]
    q, k, v = states(11)
    found = attend(q, k, v, Scoring(softcap=0.5), Layout.of(lengths, CPU))
    for a, b in ((0, 4), (4, 11)):
        keys, values = (x[:, a:b].repeat_interleave(2, 0) for x in (k, v))
        scores = 0.5 * torch.tanh(q[:, a:b] @ keys.transpose(1, 2) / 8**0.5 / 0.5)
        hidden = torch.ones(b - a, b - a).triu(1).bool()
        slow = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values
        torch.testing.assert_close(found[a:b].transpose(0, 1), slow)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.lists(st.integers(1, 4), max_size=3))
@settings(max_examples=60, deadline=None)
def test_positions_count_on_from_the_stem(stems: list[int], branches: list[int]) -> None:
    expected = [
        place
        for stem in stems
        for place in [*range(stem), *(stem + i for size in branches for i in range(size))]
    ]  # fmt: skip
    assert positions_of([stem + sum(branches) for stem in stems], tuple(branches)).tolist() == expected


# ---------------------------------------------------------------- packs that are filled up


def rows() -> list[Row]:
    return [
        Row([5, 6, 7, 8, 9, 10], 3, label=1, lm=(3, 6)),
        Row([11, 12, 13], 3, label=0),
        Row([14, 15, 16, 17], 2, lm=(2, 4), term="other"),
    ]


@pytest.mark.usefixtures("one_call")
@pytest.mark.parametrize("tuning", ["full", "lora", "top:1"])
def test_a_filled_up_pack_has_the_same_loss_and_gradient(toy: TaskData, context: Context, tuning: str) -> None:
    context.budget = context.budget.model_copy(update={"tuning": tuning})
    cls = registry.methods.get("dhrd")
    made: Any = cls(cls.Params())
    trainer = Trainer(context, toy, made.rows, {"cls": 1.0, "lm": 0.7, "other": 0.2}, "mlp")
    trainer.set_dropout(False)
    scales = {"cls": 0.5, "lm": 0.3, "other": 0.2}
    try:
        pack = trainer._pack(rows(), scales)
        size = pack.size.rounded()
        filled = pack.padded(size)
        assert filled.size.tokens == size.tokens == 512
        assert (filled.labels == IGNORED).sum() == size.pooled - 2
        found = []
        for each in (pack, filled):
            loss = trainer._pass(each)
            found.append((loss, [p.grad.clone() for p in trainer.parameters if p.grad is not None]))
            for parameter in trainer.parameters:
                parameter.grad = None
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    finally:
        trainer.close()


@pytest.mark.usefixtures("one_call")
def test_a_size_serves_what_fits_at_less_than_twice_the_work(tiny: Backbone) -> None:
    def size(tokens: int) -> Any:
        return Pack.of([Row([7] * tokens, tokens, label=0)], tiny, {"cls": 1.0}).size

    large = size(900).rounded()
    assert large.tokens == 1024
    assert large.serves(size(600))
    assert not large.serves(size(512)), "half of it would be filling"
    assert not large.serves(size(1025))
    without = Pack.of([Row([7] * 600, 600)], tiny, {"cls": 1.0}).size
    assert not large.serves(without), "no classification loss is another computation"
    many = Pack.of([Row([7] * 10, 10, label=0)] * 80, tiny, {"cls": 1.0}).size
    assert not large.serves(many)


@pytest.mark.usefixtures("one_call")
@pytest.mark.parametrize("window", [None, 1, 3, 40])
def test_slots_attend_in_one_call_as_otherwise(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some steps after prompts of several lengths, with a slot that falls free and is moved into."""
    monkeypatch.setattr(attention, "varlen_options", lambda: frozenset({"enable_gqa", "seqused_k"}))
    found, scoring = [], Scoring(window=window)
    for one_call in (False, True):
        slots, generator = Slots(5, 30, 2, CPU, one_call=one_call), torch.Generator().manual_seed(0)

        def heads(count: int, tokens: int, drawn: torch.Generator = generator) -> Tensor:
            return torch.randn(count, tokens, 8, generator=drawn)

        slots.open([3, 17, 1, 9], 1)
        for block in range(2):
            slots.fill(block, heads(2, 30), heads(2, 30))
        for step in range(4):
            rows = 5 if step % 2 else slots.active  # further slots count for nothing
            slots.begin_step(rows, max(slots.held) + 1 + step)
            for block in range(2):
                out = slots.attend(block, heads(4, rows), heads(2, rows), heads(2, rows), scoring)
                assert out.shape == (rows, 4, 8)
                found.append(out[: slots.active])
            slots.end_step()
            if step == 1:
                slots.close(0)
    half = len(found) // 2
    for plain, other in zip(found[:half], found[half:], strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("one_call")
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_layout_is_filled_up_with_short_sequences(lengths: list[int], more: int) -> None:
    longest, tokens = max(lengths), sum(lengths) + more
    sequences = len(lengths) + fillings(more, longest) + 2
    filled = Layout.of(lengths, CPU, one_call=True).padded(tokens, sequences, longest)
    assert filled.ragged is not None
    sizes = filled.ragged.starts_q.diff().tolist()
    assert sizes[: len(lengths)] == lengths
    assert (len(sizes), sum(sizes)) == (sequences, tokens)
    assert max(sizes) == longest
    assert filled.positions.tolist() == [place for size in sizes for place in range(size)]


@pytest.mark.usefixtures("one_call")
@torch.inference_mode()
def test_a_reader_fills_packs_up_to_one_size(tiny: Backbone) -> None:
    lengths = [[5] * 8, [9, 9, 10, 11], [40], [30, 3], [6]]
    reader = Reader(tiny, lengths)
    reader.on, reader.graphs = True, Graphs(tiny.device, on=False)  # the stand-in cannot be recorded
    for number, each in enumerate(lengths):
        ids = torch.arange(sum(each), device=tiny.device) % 200 + 2 + number
        found = reader.read(ids, each)
        assert len(found) == (40 if sum(each) > 20 else sum(each))
        torch.testing.assert_close(found[: len(ids)], tiny.hidden(ids, each), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "tiny-encoder"])
def test_a_model_that_is_built_from_its_configuration_changes_nothing(name: str) -> None:
    """The library notes in the configuration how the new model attends, and goes by it."""
    backbone = load(resolve(name))
    ids, lengths = torch.arange(2, 202, device=backbone.device), [100, 63, 37]
    with torch.inference_mode():
        before, attends = backbone.hidden(ids, lengths), backbone.trunk.config._attn_implementation
    AutoModel.from_config(backbone.trunk.config, attn_implementation="eager")
    with torch.inference_mode():
        assert torch.equal(backbone.hidden(ids, lengths), before)
    assert backbone.trunk.config._attn_implementation == attends


class StandIns:
    """What the kernels for a card compute."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate) * up

    def rotate(self, states: Tensor, cos: Tensor, sin: Tensor) -> None:
        states.copy_(apply_rotary_pos_emb(states, states, cos, sin, unsqueeze_dim=2)[0])


def test_fused_operations_compute_the_same(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms, gates and rotary embeddings, with gradients and without; a copy keeps them."""
    monkeypatch.setattr(fused, "kernels", StandIns)
    ids, lengths = torch.arange(2, 40), [20, 18]
    split(tiny.model)
    with torch.no_grad():
        plain, kinds = tiny.hidden(ids, lengths), [type(module) for module in tiny.model.modules()]
    fuse(tiny.model)
    try:
        now = {type(module) for module in tiny.model.modules()} - set(kinds)
        assert {kind.__name__ for kind in now} == {"LlamaRMSNorm", "LlamaMLP", "LlamaAttention"}
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                torch.testing.assert_close(tiny.hidden(ids, lengths), plain, rtol=1e-4, atol=1e-5)
        copied = copy.deepcopy(tiny.model)
        assert type(copied.model.norm) is type(tiny.model.model.norm)
    finally:
        split(tiny.model)
    assert [type(module) for module in tiny.model.modules()] == kinds
    monkeypatch.undo()
    if tiny.device.type == "cuda":
        fuse(tiny.model)


def test_the_kernels_compute_what_they_should() -> None:
    """Without a card, by Triton's interpreter."""
    pytest.importorskip("triton", exc_type=ImportError)
    code = "from dhrd_bench.backbones import kernels; kernels.check('cpu')"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"TRITON_INTERPRET": "1"})


def test_only_what_reads_as_expected_is_fused(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary embeddings of another kind under the same names, other gates, and no Triton: the library's own."""
    monkeypatch.setattr(fused, "kernels", StandIns)
    for config, names in (
        (CohereConfig(**SMALL, num_attention_heads=4), {"CohereMLP"}),
        (LlamaConfig(**SMALL, num_attention_heads=4, hidden_act="gelu"), {"LlamaRMSNorm", "LlamaAttention"}),
        (LlamaConfig(**SMALL, num_attention_heads=4, head_dim=12), {"LlamaRMSNorm", "LlamaMLP"}),
        (MistralConfig(**SMALL, num_attention_heads=4), {"MistralRMSNorm", "MistralMLP"}),
    ):
        model = make_backbone(config, tiny).model
        fuse(model)
        assert {type(each).__name__ for each in model.modules() if hasattr(type(each), "plain")} == names
    monkeypatch.undo()
    if tiny.device.type == "cpu":
        assert fused.kernels() is None


def test_dropout_of_attention_keeps_the_one_call_away(monkeypatch: pytest.MonkeyPatch, tiny: Backbone) -> None:
    """Under every name that configurations have for it: the kernel would leave it out without a word."""
    monkeypatch.setattr("dhrd_bench.backbones.backbone.has_varlen", lambda device: True)
    backbone = make_backbone(GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=258, attn_pdrop=0.0), tiny)
    backbone.card = backbone.card.model_copy(update={"dtype": "bfloat16"})
    assert backbone.one_call
    for name in ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob"):
        monkeypatch.setattr(backbone.model.config, name, 0.1, raising=False)
        assert not backbone.one_call
        monkeypatch.setattr(backbone.model.config, name, 0.0, raising=False)
    assert backbone.one_call


def test_a_kernel_that_knows_no_windows_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def early(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False) -> Tensor:
        return query

    assert layout.varlen_options.__wrapped__()
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", early)
    assert not layout.varlen_options.__wrapped__()


def test_elsewhere_than_on_a_card_nothing_is_recorded() -> None:
    graphs: Graphs[int] = Graphs(CPU)
    assert not graphs.on
    calls = iter(range(3))
    assert [graphs.run("key", lambda: next(calls)) for _ in range(3)] == [0, 1, 2]


@pytest.mark.usefixtures("one_call")
def test_the_backbone_goes_by_one_call(tiny: Backbone) -> None:
    ids = torch.arange(2, 40)
    together = tiny.hidden(ids, [20, 18], branches=(2, 3))
    lying = Layout.of([20, 18], tiny.device, (2, 3))
    apart = tiny.run(ids.to(tiny.device), Layout(lying.positions, lying.runs))
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
