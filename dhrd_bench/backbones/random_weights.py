"""For tests: an LM or an encoder with random weights over bytes."""

from __future__ import annotations

from typing import Any

import torch

from dhrd_bench.contracts import Random


def byte_tokenizer(*, encoder: bool = False) -> Any:
    """Return a tokenizer whose tokens are bytes; an encoder's puts a text between two tokens of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<eos>", *(["<cls>"] if encoder else [])]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "eos_token": "<eos>"}
    if encoder:
        raw.post_processor = processors.TemplateProcessing(
            single="<cls> $A <eos>", special_tokens=[("<cls>", vocabulary["<cls>"]), ("<eos>", vocabulary["<eos>"])]
        )
        names["cls_token"] = "<cls>"  # noqa: S105 - no password
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def random_model(shape: Random) -> tuple[Any, Any]:
    """Return a model in float32 with weights from ``shape.seed``, and its tokenizer."""
    tokenizer = byte_tokenizer(encoder=shape.encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        return (_encoder if shape.encoder else _lm)(shape, len(tokenizer)), tokenizer


def _encoder(shape: Random, vocabulary: int) -> Any:
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=2 * shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        pad_token_id=0,
        eos_token_id=1,
        sep_token_id=1,
        bos_token_id=2,
        cls_token_id=2,
    )
    return ModernBertModel(config)


def _lm(shape: Random, vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=2 * shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=max(1, shape.heads // 2),
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)
