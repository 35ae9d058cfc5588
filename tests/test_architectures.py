"""Any decoder: what is computed here is what transformers computes, or the backbone is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import CONFIGS, WINDOWED, make_backbone, make_model, native
from torch import Tensor
from transformers import BloomConfig, GptOssConfig, OPTConfig, PreTrainedConfig

from dhrd_bench.backbones import Backbone, agreement, load, resolve
from dhrd_bench.backbones.agreement import check_agreement, find_difference
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.contracts import Budget, Context, Decoding, Lora, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.inference.decode import decode
from dhrd_bench.inference.engine import Stop
from dhrd_bench.inference.transformers import Transformers
from dhrd_bench.modeling.fitted import Fitted
from dhrd_bench.training.losses import CHUNK, lm_loss_sum
from dhrd_bench.training.tuning import Tuning

ALL = [
    *(pytest.param(config, id=name) for name, config in CONFIGS.items()),
    *(pytest.param(config, id=f"{name}-window") for name, config in WINDOWED.items()),
]
SCALED = ["llama", "gemma2", "granite", "cohere", "phi"]
"""Logits as they are, capped, divided, multiplied, and with a bias."""


@pytest.fixture
def sequences(tiny: Backbone) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(2, 258, (length,), generator=generator).to(tiny.device) for length in (9, 9, 5, 23)]


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(torch.log_softmax(found, -1), torch.log_softmax(expected, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", ALL)
def test_packed_log_probabilities_are_those_of_transformers(
    config: PreTrainedConfig, tiny: Backbone, sequences: list[Tensor]
) -> None:
    """In one piece, and divided before any block."""
    backbone = make_backbone(config, tiny)
    expected = torch.cat([native(backbone, ids) for ids in sequences])
    ids, lengths = torch.cat(sequences), [len(each) for each in sequences]
    with torch.no_grad():
        near(backbone.logits(backbone.hidden(ids, lengths)), expected)
        for block in range(1, 4):
            lower = backbone.hidden(ids, lengths, 0, block)
            near(backbone.logits(backbone.hidden(lower, lengths, block)), expected)
        middle = backbone.hidden(backbone.hidden(ids, lengths, 0, 1), lengths, 1, 3)
        near(backbone.logits(backbone.hidden(middle, lengths, 3)), expected)


@pytest.mark.parametrize("config", ALL)
def test_text_continued_from_slots_is_that_of_transformers(
    config: PreTrainedConfig, tiny: Backbone, sequences: list[Tensor]
) -> None:
    backbone, cut = make_backbone(config, tiny), 4
    slots = backbone.slots(len(sequences), 32)
    lengths = [len(ids) - cut for ids in sequences]
    with torch.no_grad():
        slots.open(lengths, 1)
        backbone.hidden(torch.cat([ids[:-cut] for ids in sequences]), lengths, slots=slots)
        for place in range(-cut, 0):
            tokens = torch.stack([ids[place] for ids in sequences])
            found = backbone.logits(backbone.step(tokens, slots, max(slots.held) + 1))
            slots.end_step()
            near(found, torch.stack([native(backbone, ids)[place] for ids in sequences]))


@pytest.mark.parametrize("config", ALL)
def test_answers_are_scored_as_transformers_would(config: PreTrainedConfig, tiny: Backbone) -> None:
    backbone = make_backbone(config, tiny)
    prompts, answers = [list(range(20, 31)), list(range(70, 75))], [[4], [5, 6, 7], [5, 9]]
    (table,) = [table for _, table in Transformers(backbone).log_likelihoods(prompts, answers)]
    expected = [[likelihood(backbone, prompt, answer) for answer in answers] for prompt in sorted(prompts, key=len)]
    assert table == [pytest.approx(row, rel=1e-4, abs=1e-4) for row in expected]


def likelihood(backbone: Backbone, prompt: list[int], answer: list[int]) -> float:
    rows = torch.log_softmax(native(backbone, prompt + answer), -1)
    return float(sum(rows[len(prompt) - 1 + place, token] for place, token in enumerate(answer)))


@pytest.mark.parametrize("name", SCALED)
def test_decoding_notes_the_log_probabilities_of_transformers(name: str, tiny: Backbone) -> None:
    backbone, prompt = make_backbone(CONFIGS[name], tiny), list(range(30, 40))
    chosen = int(native(backbone, prompt)[-1].argmax())
    stop = Stop(((chosen,),), after=1, watch=(7, 8))
    (found,) = decode(backbone, [prompt], Decoding(max_new_tokens=4, batch_size=1), stop, [0])
    assert found.ids[0] == chosen
    expected = torch.log_softmax(native(backbone, [*prompt, chosen])[-1], -1)[[7, 8]]
    assert found.after_marker == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("count", [1, 5, CHUNK + 188])
@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("trained", [False, True], ids=["frozen-head", "trained-head"])
def test_lm_loss_and_gradient_equal_plain_cross_entropy(name: str, count: int, trained: bool, tiny: Backbone) -> None:
    """With scale, cap and bias written out; autograd does what `lm_loss_sum` does by hand."""
    backbone = make_backbone(CONFIGS[name], tiny)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, 32, generator=generator).to(tiny.device).requires_grad_()
    targets = torch.randint(258, (count,), generator=generator).to(tiny.device)
    head = backbone.model.get_output_embeddings()
    head.requires_grad_(trained)
    known = [hidden, *(head.parameters() if trained else ())]
    logits = hidden @ head.weight.T + (0 if head.bias is None else head.bias)
    logits = {"gemma2": 0.8 * torch.tanh(logits / 0.8), "granite": logits / 8, "cohere": logits / 4}.get(name, logits)
    slow = F.cross_entropy(logits, targets, reduction="sum")
    fast = lm_loss_sum(hidden, backbone, targets)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    for found, expected in zip(torch.autograd.grad(3 * fast, known), torch.autograd.grad(3 * slow, known), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(lm_loss_sum(hidden, backbone, targets), slow, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_top_blocks_are_trained_with_the_final_norm(name: str, tiny: Backbone, budget: Budget) -> None:
    """The parameters are those that a loss on the last block's output reaches."""
    backbone = make_backbone(CONFIGS[name], tiny)
    lower = backbone.hidden(torch.arange(2, 12), [10], 0, 3)
    backbone.model.requires_grad_(True)
    backbone.hidden(lower.detach(), [10], 3).sum().backward()
    reached = {name for name, parameter in backbone.model.named_parameters() if parameter.grad is not None}
    backbone.model.zero_grad()
    tuning = Tuning(backbone, budget.model_copy(update={"tuning": "top:1"}), 0)
    assert tuning.frozen_blocks == 3
    assert set(tuning._names) == reached


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(vocab_size=258, hidden_size=32, n_layer=2, n_head=4),
        OPTConfig(
            vocab_size=258, hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=2,
            num_attention_heads=4,
        ),
        GptOssConfig(
            vocab_size=258, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, num_local_experts=4, pad_token_id=0,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        ),
    ],
    ids=["attention of its own", "a decoder within a decoder", "attention sinks"],
)  # fmt: skip
def test_what_cannot_be_run_right_is_refused_in_one_line(
    config: PreTrainedConfig, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    make_model(config).save_pretrained(tmp_path / "other")
    tiny.tokenizer.save_pretrained(tmp_path / "other")
    card = resolve(f"{tmp_path / 'other'}[dtype=float32,device=cpu]")
    with pytest.raises(UserError, match=r"Backbone 'other' \(\w+\) cannot be used: .*list backbones") as refusal:
        load(card)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="cannot be used"):
        load(card)


# ---------------------------------------------------------------- the comparison at load


@pytest.mark.parametrize("config", ALL)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_run_right_is_let_in(config: PreTrainedConfig, dtype: str, tiny: Backbone) -> None:
    backbone = make_backbone(config, tiny)
    backbone.card = backbone.card.model_copy(update={"dtype": dtype})
    backbone.model.to(backbone.dtype)
    assert find_difference(backbone) == ""


def plain_head(self: Backbone, hidden: Tensor) -> Tensor:
    return hidden @ self.head_weight.T


def norm_twice(
    self: Backbone, states: Tensor, lengths: list[int], start: int = 0, *args: Any, **options: Any
) -> Tensor:
    found = RIGHT_HIDDEN(self, states, lengths, start, *args, **options)
    return self.trunk.norm(found) if start else found


def blind_to_branches(self: Backbone, states: Tensor, lengths: list[int], *args: Any, **options: Any) -> Tensor:
    options.pop("branches", None)
    return RIGHT_HIDDEN(self, states, lengths, *args, **options)


def neighbours_seen(self: Backbone, states: Tensor, lengths: list[int], *args: Any, **options: Any) -> Tensor:
    return RIGHT_HIDDEN(self, states, [sum(lengths)], *args, **options)


def slots_mixed_up(self: Backbone, tokens: Tensor, slots: Slots, width: int) -> Tensor:
    return RIGHT_STEP(self, tokens.flip(0), slots, width).flip(0)


RIGHT_HIDDEN, RIGHT_STEP = Backbone.hidden, Backbone.step


@pytest.mark.parametrize(
    ("name", "method", "fault", "words"),
    [
        ("granite", "logits", plain_head, "its log-probabilities are not"),
        ("cohere", "logits", plain_head, "its log-probabilities are not"),
        ("gemma2", "logits", plain_head, "its log-probabilities are not"),
        ("phi", "logits", plain_head, "its log-probabilities are not"),
        ("llama", "hidden", norm_twice, "when it is run in two parts, from block 2 on"),
        ("llama", "hidden", blind_to_branches, "of alternative ends"),
        ("llama", "hidden", neighbours_seen, "its log-probabilities are not"),
        ("llama", "step", slots_mixed_up, "of text continued token by token"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_fault_is_found(
    name: str, method: str, fault: Callable[..., Tensor], words: str, dtype: str,
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    backbone = make_backbone(CONFIGS[name], tiny)
    backbone.card = backbone.card.model_copy(update={"dtype": dtype})
    backbone.model.to(backbone.dtype)
    assert find_difference(backbone) == ""
    monkeypatch.setattr(Backbone, method, fault)
    assert words in find_difference(backbone)


def test_a_window_is_looked_beyond_though_it_is_wide(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own size and the attention are put back; on an attention that knows no windows the words say so."""
    from transformers import AttentionInterface

    right = AttentionInterface()["dhrd_packed"]

    def no_windows(module: Any, *args: Any, **options: Any) -> Any:
        options.pop("sliding_window", None)
        return right(module, *args, **options)

    backbone = make_backbone(WINDOWED["mistral"], tiny)
    backbone.model.config.sliding_window = 512
    AttentionInterface.register("dhrd_packed", no_windows)
    try:
        assert "beyond the attention window" in find_difference(backbone)
    finally:
        AttentionInterface.register("dhrd_packed", right)
    assert backbone.model.config.sliding_window == 512
    assert backbone.model.config._attn_implementation == "dhrd_packed"


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Backbone]:
    """The backbones that were looked at from now on, with a cache of our own."""
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    found: list[Backbone] = []

    def counting(backbone: Backbone) -> str:
        found.append(backbone)
        return find_difference(backbone)

    monkeypatch.setattr(agreement, "find_difference", counting)
    return found


def test_a_model_is_looked_at_once(tiny: Backbone, looked: list[Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = make_backbone(CONFIGS["granite"], tiny)
    backbone.revision = "first"
    check_agreement(backbone)
    check_agreement(backbone)
    assert len(looked) == 1
    backbone.revision = "second"
    check_agreement(backbone)
    assert len(looked) == 2, "other weights"
    monkeypatch.setattr(agreement.transformers, "__version__", "99.0")
    check_agreement(backbone)
    assert len(looked) == 3, "another version of the library"
    monkeypatch.setattr(agreement, "_code", lambda: "edited")
    check_agreement(backbone)
    assert len(looked) == 4, "other code"


def test_a_refusal_is_not_kept(tiny: Backbone, looked: list[Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = make_backbone(CONFIGS["granite"], tiny)
    with monkeypatch.context() as wrong:
        wrong.setattr(Backbone, "logits", plain_head)
        for _ in range(2):
            with pytest.raises(UserError, match="are not those of transformers"):
                check_agreement(backbone)
    check_agreement(backbone)
    assert len(looked) == 3


def test_nothing_of_the_model_is_copied_or_changed(tiny: Backbone) -> None:
    backbone = make_backbone(CONFIGS["gemma3"], tiny)
    before = {name: (p.data_ptr(), p.clone()) for name, p in backbone.model.named_parameters()}
    modules = [type(module) for module in backbone.model.modules()]
    state = torch.get_rng_state()
    find_difference(backbone)
    assert [type(module) for module in backbone.model.modules()] == modules
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in backbone.model.named_parameters():
        assert (parameter.data_ptr(), True) == (before[name][0], torch.equal(parameter, before[name][1]))


# ---------------------------------------------------------------- adapters


def test_lora_targets_that_the_backbone_has_not_are_named(tiny: Backbone, budget: Budget) -> None:
    backbone = make_backbone(CONFIGS["phi3"], tiny)
    with pytest.raises(UserError, match=r"adapt q_proj, k_proj, v_proj, up_proj, gate_proj, .* qkv_proj"):
        Tuning(backbone, budget.model_copy(update={"tuning": "lora"}), 0)


TARGETS = {"gpt2": ("c_attn", "c_proj"), "gpt-neox": ("query_key_value", "dense"), "phi3": ("qkv_proj", "down_proj")}


@pytest.mark.parametrize("name", TARGETS)
def test_adapters_of_other_layers_are_merged_and_read_alike(
    name: str, toy: TaskData, context: Context, tiny: Backbone, tmp_path: Path
) -> None:
    """Trained with the adapters in place, merged, and merged again from the saved factors: one model."""
    import dhrd_bench as db

    lora = Lora(targets=TARGETS[name], dropout=0.0)
    context.backbone = make_backbone(CONFIGS[name], tiny)
    context.budget = context.budget.model_copy(update={"tuning": "lora", "lora": lora})
    method: Any = db.method("pooled")()
    method.fit(toy, context)
    method.save(tmp_path)
    read = Fitted.load(tmp_path, toy.card, context.backbone, context.budget)
    assert read.weights.keys() == method.fitted.weights.keys()
    for key, weight in method.fitted.weights.items():
        torch.testing.assert_close(read.weights[key], weight)
        assert not torch.equal(weight, dict(context.backbone.model.named_parameters())[key])
