"""Less memory: weights in four bits with adapters beside them, moments in eight bits, float32 where it has to be."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from architectures import CONFIGS, make_model
from grids import plan, registry_as_it_was, run
from torch import Tensor
from trainers import flat, gradients, trainer
from transformers import LlamaForCausalLM

import dhrd_bench as db
from dhrd_bench.backbones import Backbone, load, loading, resolve
from dhrd_bench.backbones.fourbit import numbers, plain_state
from dhrd_bench.backbones.loading import load_fresh, settle
from dhrd_bench.contracts import Budget, Context, Lora, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.exporting import load as load_exported
from dhrd_bench.exporting.export import export
from dhrd_bench.grid.identity import relevant_budget
from dhrd_bench.inference.vllm import Vllm
from dhrd_bench.modeling.fitted import Fitted
from dhrd_bench.request import Options
from dhrd_bench.results.store import record_path
from dhrd_bench.throughput.roofline import model_flops
from dhrd_bench.training.loop import run_epochs
from dhrd_bench.training.optimizer import make_optimizer
from dhrd_bench.training.tuning import Tuning

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

pytest.importorskip("bitsandbytes")

LENGTHS = [3, 40, 7, 7, 23]

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""The values of four bits, as the paper lists them (Dettmers et al. 2023, appendix E)."""


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def quantized(request: pytest.FixtureRequest) -> Backbone:
    return fresh(f"tiny[quantize=nf4,dtype={request.param},device=cpu]")


@pytest.fixture(scope="module")
def exact() -> Backbone:
    """In four bits, and computing in float32."""
    return fresh("tiny[quantize=nf4,dtype=float32,device=cpu]")


@pytest.fixture
def adapting(exact: Backbone, budget: Budget) -> Iterator[Context]:
    """LoRA on weights in four bits, without dropout."""
    lora = budget.model_copy(update={"tuning": "lora", "lora": Lora(dropout=0.0), "micro_tokens": 400})
    yield Context(exact, lora, "toy", 0)
    exact.reset()


def fresh(reference: str) -> Backbone:
    return load_fresh(settle(resolve(reference)))


def written_out(backbone: Backbone) -> Backbone:
    """The same function as a plain model, in an object of its own."""
    config = copy.deepcopy(backbone.model.config)
    del config.quantization_config
    model = LlamaForCausalLM(config).to(backbone.dtype)
    model.model.load_state_dict(plain_state(backbone.trunk))
    return Backbone(backbone.card.model_copy(update={"quantize": None}), model, backbone.tokenizer, "")


def eager(backbone: Backbone, ids: list[int]) -> Tensor:
    """The states of one sequence by the library's own attention and mask."""
    backbone.model.set_attn_implementation("eager")
    try:
        states: Tensor = backbone.model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    finally:
        backbone.model.set_attn_implementation("dhrd_packed")
    return states


def off(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


# ---------------------------------------------------------------- weights in four bits


def test_packed_states_are_those_of_the_library(quantized: Backbone) -> None:
    rng = np.random.default_rng(0)
    texts = [rng.integers(2, 258, n).tolist() for n in LENGTHS]
    with torch.no_grad():
        found = quantized.hidden(torch.tensor([t for ids in texts for t in ids]), LENGTHS).split(LENGTHS)
        for ids, states in zip(texts, found, strict=True):
            assert off(states, eager(quantized, ids)) < {torch.float32: 1e-5, torch.bfloat16: 2e-2}[quantized.dtype]


def test_the_weights_are_the_nearest_values_of_four_bits(exact: Backbone, tiny: Backbone) -> None:
    """Blocks of 64 by their largest number, which is itself held in eight bits."""
    tiny.reset()
    original, state = tiny.trunk.state_dict(), plain_state(exact.trunk)
    assert state.keys() == original.keys()
    for name, weight in original.items():
        if not name.startswith("layers.") or weight.ndim < 2:
            assert torch.equal(state[name], weight.cpu()), "what is no linear layer stays as it is"
            continue
        blocks = weight.cpu().reshape(-1, 64)
        largest = blocks.abs().amax(1, keepdim=True)
        nearest = (blocks[..., None] / largest[..., None] - torch.tensor(NF4)).abs().argmin(-1)
        error = (state[name].reshape(-1, 64) - torch.tensor(NF4)[nearest] * largest).abs() / largest
        assert error.max() < 0.03
    assert sum(map(numbers, exact.model.parameters())) == sum(p.numel() for p in tiny.model.parameters())
    packed = sum(p.numel() * p.element_size() for p in exact.blocks.parameters())
    assert packed < 0.15 * sum(4 * p.numel() for p in tiny.blocks.parameters())
    assert model_flops(exact, 10, 5) == model_flops(tiny, 10, 5)


@pytest.mark.parametrize("name", ["tiny", "tiny-encoder"])
def test_gradients_pass_through_weights_that_were_read_without_any(name: str) -> None:
    """By loading, among others, which has compared states with those of the library; exactly, in float32."""
    backbone = fresh(f"{name}[quantize=nf4,dtype=float32,device=cpu]")
    assert backbone.quantized
    layer: Any = next(module for module in backbone.model.modules() if hasattr(module, "quant_state"))
    inputs, direction = torch.eye(layer.in_features), torch.randn(layer.out_features)
    with torch.no_grad():
        weights = layer(inputs)
    (layer(inputs.requires_grad_()) @ direction).sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad[0], weights @ direction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "targets"), [("gpt2", "c_attn"), ("qwen2", "q_proj"), ("gpt-neox", "dense")])
def test_other_architectures_and_adapters_beside_them(
    name: str, targets: str, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder; with biases, and with a weight that lies transposed. Written out they are the same function."""
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    make_model(CONFIGS[name]).save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    backbone = fresh(f"{tmp_path / 'model'}[quantize=nf4,dtype=float32,device=cpu]")
    generator, weights = torch.Generator().manual_seed(0), {}
    for place, layer in backbone.model.named_modules():
        if place.endswith(f".{targets}"):
            weights[f"{place}.lora_A"] = torch.randn(2, layer.in_features, generator=generator)
            weights[f"{place}.lora_B"] = torch.randn(layer.out_features, 2, generator=generator)
    ids = torch.arange(2, 30)
    before = backbone.hidden(ids, [28])
    for beside in ({}, weights):
        backbone.load_weights(beside, object())
        plain = make_model(CONFIGS[name])
        plain.base_model.load_state_dict(plain_state(backbone.trunk))
        expected = plain.base_model(input_ids=ids[None]).last_hidden_state[0]
        found = backbone.hidden(ids, [28])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(found, before) == (not beside)


def test_loss_and_gradients_of_adapters_are_those_of_the_library(toy: TaskData, adapting: Context) -> None:
    """Of a dual objective, after the weights have been read without gradients, one sequence at a time."""
    backbone: Any = adapting.backbone
    _, made = trainer("dhrd", toy, adapting)
    made.evaluate(made.dev)
    loss = made.backward(flat(made))
    found = gradients(made)
    for parameter in made.parameters:
        parameter.grad = None
    classified, written = [], []
    for row in flat(made):
        states, at = eager(backbone, row.ids), row.targets
        logits = made.logits(states[row.input_length - 1][None])
        classified.append(F.cross_entropy(logits, torch.tensor([row.label])))
        words = states[at.start - 1 : at.stop - 1] @ backbone.head_weight.T
        written.append(F.cross_entropy(words, torch.tensor(row.ids[at.start : at.stop]), reduction="none"))
    expected = made.weights["cls"] * torch.stack(classified).mean() + made.weights["lm"] * torch.cat(written).mean()
    expected.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    for ours, theirs in zip(found, gradients(made), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    made.close()


def test_adapters_learn_as_beside_the_same_weights_written_out(toy: TaskData, adapting: Context) -> None:
    ends = []
    for backbone in (written_out(adapting.backbone), adapting.backbone):  # type: ignore[arg-type]
        _, made = trainer("dhrd", toy, replace(adapting, backbone=backbone))
        for _ in range(3):
            made.step(flat(made)[:5])
        ends.append(torch.cat([p.detach().flatten() for p in made.parameters]))
        made.close()
    assert off(ends[1], ends[0]) < 1e-3


def test_what_is_fitted_answers_as_while_it_was_trained(toy: TaskData, adapting: Context, tmp_path: Path) -> None:
    """Adapters stay beside the weights: put there anew, read from a file, written out into a plain model."""
    backbone, rows = adapting.backbone, [row.example for row in toy.train]
    assert isinstance(backbone, Backbone)
    _, made = trainer("pooled", toy, adapting)
    fitted = run_epochs(made, toy.card, adapting)
    made.set_dropout(False)
    ids = flat(made)[0].ids
    with torch.no_grad():
        expected = made.hidden(flat(made)[:1])
    made.close()
    original = backbone.hidden(torch.tensor(ids), [len(ids)])
    assert off(original, expected) > 1e-2, "something was learnt"

    def states(of: Backbone = backbone) -> Tensor:
        return of.hidden(torch.tensor(ids), [len(ids)])

    fitted.activate(backbone, adapting.budget)
    torch.testing.assert_close(states(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(states(written_out(backbone)), expected, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in backbone.model.parameters())
    scores = db.classify(fitted, rows, adapting).scores
    fitted.save(tmp_path)
    read = Fitted.load(tmp_path, toy.card, backbone, adapting.budget)
    np.testing.assert_allclose(db.classify(read, rows, adapting).scores, scores, rtol=1e-5, atol=1e-6)
    backbone.reset()
    assert torch.equal(states(), original)


def test_a_head_is_trained_on_states_of_weights_in_four_bits(toy: TaskData, exact: Backbone, budget: Budget) -> None:
    context = Context(exact, budget.model_copy(update={"tuning": "head"}), "toy", 0)
    made: Any = db.method("pooled")()
    made.fit(toy, context)
    assert made.fitted.weights == {}
    assert len(made.predict([row.example for row in toy.dev], context).labels) == len(toy.dev)


@pytest.mark.parametrize("tuning", ["full", "top:1"])
def test_weights_in_four_bits_are_not_trained(tuning: str, exact: Backbone, budget: Budget) -> None:
    with pytest.raises(UserError, match=rf"'tiny' is held in four bits.* tuning is {tuning}\..*tuning=lora") as refusal:
        Tuning(exact, budget.model_copy(update={"tuning": tuning}), 0)
    assert "\n" not in str(refusal.value)


def test_vllm_takes_no_weights_in_four_bits(exact: Backbone) -> None:
    with pytest.raises(UserError, match="weights in four bits"):
        Vllm(exact)


# ---------------------------------------------------------------- moments in eight bits


def test_moments_in_eight_bits_go_nearly_the_same_way(toy: TaskData, context: Context) -> None:
    """Of large parameters a quarter of the bytes; after some steps the weights are where AdamW puts them, nearly."""
    ends, held, start = [], [], torch.tensor(0)
    for optimizer in ("adamw", "adamw_8bit"):
        settings = {"tuning": "full", "optimizer": optimizer, "learning_rate": 1e-3}
        context.budget = context.budget.model_copy(update=settings)
        _, made = trainer("dhrd", toy, context)
        start = torch.cat([p.detach().flatten().clone() for p in made.tuning.parameters])
        for _ in range(4):
            made.backward(flat(made)[:5])
            made._update()
            made._schedule.step()
        ends.append(torch.cat([p.detach().flatten() for p in made.tuning.parameters]) - start)
        large = [state for p, state in made._optimizer.state.items() if p.numel() >= 4096]
        held.append(sum(t.numel() * t.element_size() for s in large for t in s.values() if torch.is_tensor(t)))
        made.close()
    assert held[1] < 0.4 * held[0]
    assert float(F.cosine_similarity(ends[0], ends[1], dim=0)) > 0.98
    assert off(ends[1], ends[0]) < 0.2


def test_groups_and_rate_are_those_of_adamw(budget: Budget) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((4, 4), (4,), (2, 2))]
    for optimizer in ("adamw", "adamw_8bit"):
        made = make_optimizer(parameters, budget.model_copy(update={"optimizer": optimizer}), torch.device("cpu"))
        assert [(len(g["params"]), g["weight_decay"], g["lr"]) for g in made.param_groups] == [
            (2, budget.weight_decay, budget.learning_rate), (1, 0.0, budget.learning_rate),
        ]  # fmt: skip


# ---------------------------------------------------------------- float32 where it has to be


def test_full_tuning_in_bfloat16_keeps_float32_weights(toy: TaskData, budget: Budget) -> None:
    """The blocks compute in bfloat16; steps too small for it add up; at the end the backbone is what it was."""
    backbone = fresh("tiny[dtype=bfloat16,device=cpu]")
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    settings = {"tuning": "full", "learning_rate": 1e-6, "warmup_steps": 0, "weight_decay": 0.0}
    _, made = trainer("dhrd", toy, Context(backbone, budget.model_copy(update=settings), "toy", 0))
    assert {p.dtype for p in made.parameters} == {torch.float32}
    seen: set[torch.dtype] = set()
    layer = backbone.blocks[0].mlp.up_proj  # type: ignore[union-attr]
    hook = layer.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    made.step(flat(made)[:5])
    hook.remove()
    assert seen == {torch.bfloat16}
    rounded = before["model.layers.0.mlp.up_proj.weight"]
    weight = dict(backbone.model.named_parameters())["model.layers.0.mlp.up_proj.weight"].detach()
    assert (weight != rounded.float()).double().mean() > 0.9
    assert (weight.bfloat16() != rounded).double().mean() < 0.1, "in bfloat16 most of the step would be lost"
    made.close()
    after = dict(backbone.model.named_parameters())
    assert all(torch.equal(after[name], p) and after[name].dtype == p.dtype for name, p in before.items())


# ---------------------------------------------------------------- as a user meets it

TINY4 = "tiny[device=cpu,quantize=nf4]"
LORA = "smoke[dev_rows=2,epochs=1,max_length=96,max_rationale=16,test_rows=8,train_rows=8,tuning=lora{more}]"


def test_identities_differ_where_outcomes_do_and_nowhere_else(tmp_path: Path, budget: Budget) -> None:
    def parts(**changes: Any) -> Any:
        wanted: dict[str, Any] = {"methods": "pooled", "tasks": "rte", "budget": LORA.format(more="")}
        return plan(tmp_path, **(wanted | {"backbone": "tiny[device=cpu]"} | changes)).cells[0].parts.hashed()

    plain = parts()
    assert "quantize" not in plain["backbone"]
    assert "optimizer" not in plain["budget"]
    assert "optimizer" not in relevant_budget(budget, generates=True)
    assert parts(budget=LORA.format(more=",optimizer=adamw")) == plain
    held = parts(backbone=TINY4)
    assert held["backbone"] == plain["backbone"] | {"quantize": "nf4"}
    assert held["budget"] == plain["budget"]
    moments = parts(budget=LORA.format(more=",optimizer=adamw_8bit"))
    assert moments["budget"] == plain["budget"] | {"optimizer": "adamw_8bit"}


def test_a_record_of_four_bits_is_made_again_and_exported_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With moments in eight bits. What is written is a plain model that needs no bitsandbytes."""
    budget = LORA.format(more=",optimizer=adamw_8bit,learning_rate=0.01")
    wanted: dict[str, Any] = {"methods": "pooled[head=unbiased]", "tasks": "rte", "seeds": "1"}
    wanted |= {"backbone": TINY4, "budget": budget}
    (record,) = run(plan(tmp_path / "results", **wanted))
    assert record.status == "ok", record.error
    assert (record.parts.backbone.quantize, record.cell.backbone) == ("nf4", TINY4)
    assert "bitsandbytes" in record.environment.packages
    assert plan(tmp_path / "results", **wanted).missing == []
    path = record_path(tmp_path / "results", record.cell)
    exported = export(path, tmp_path / "exported", Options(), lambda *_: None)
    assert exported.distance < 1e-3
    assert exported.flips == 0
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    model = load_exported(tmp_path / "exported", "cpu").model
    assert not hasattr(model.config, "quantization_config")
    assert all(p.is_floating_point() for p in model.parameters())
    monkeypatch.undo()
    with pytest.raises(UserError, match="weights in four bits"):
        export(path, tmp_path / "adapters", Options(), lambda *_: None, adapter=True)


@pytest.mark.parametrize(
    ("backbone", "budget", "words"),
    [
        (TINY4, "smoke", r"held in four bits.* tuning is top:4\..*tuning=lora"),
        (TINY4, "smoke[tuning=full]", r"held in four bits.* tuning is full\."),
        ("tiny[quantize=nf5]", "smoke", r"quantize.*Did you mean 'nf4'"),
        ("tiny[device=cpu]", "smoke[optimizer=paged_adamw_8bit]", r"the device is cpu\..*optimizer=adamw_8bit"),
        ("tiny", "smoke[optimizer=adam]", r"optimizer.*Did you mean 'adamw'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    tmp_path: Path, backbone: str, budget: str, words: str
) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        plan(tmp_path, methods="pooled", tasks="rte", backbone=backbone, budget=budget)
    assert "\n" not in str(refusal.value)
    if backbone != "tiny[quantize=nf5]" and budget != "smoke[optimizer=adam]":
        assert plan(tmp_path, methods="majority", tasks="rte", backbone=backbone, budget=budget).cells, "trains nothing"


@pytest.mark.parametrize(("settings", "cure"), [("", r"full\[quantize=nf4\]"), (",quantize=nf4", "a smaller one")])
def test_a_backbone_that_does_not_fit_is_refused(
    settings: str, cure: str, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.model.save_pretrained(tmp_path / "full")
    tiny.tokenizer.save_pretrained(tmp_path / "full")

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB.")

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", full)
    with pytest.raises(UserError, match=rf"'full' does not fit into the free memory of cpu\..*{cure}") as refusal:
        fresh(f"{tmp_path / 'full'}[device=cpu{settings}]")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "wanted",
    [{"backbone": TINY4, "budget": LORA.format(more="")}, {"budget": LORA.format(more=",optimizer=adamw_8bit")}],
    ids=["weights", "moments"],
)
def test_without_bitsandbytes_it_is_said_what_to_install(
    wanted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is loaded; what asks for neither goes on without it."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r"=\w+ needs bitsandbytes.*pip install 'dhrd-bench\[quant\]'") as refusal:
        plan(tmp_path, methods="pooled", tasks="rte", **wanted)
    assert "\n" not in str(refusal.value)
    assert plan(tmp_path, methods="majority", tasks="rte", budget=LORA.format(more=",optimizer=adamw_8bit")).cells
    if "backbone" in wanted:
        loading._loaded.clear()
        with pytest.raises(UserError, match="needs bitsandbytes"):
            load(resolve(TINY4))
