"""Small tokenizers of the two common kinds, and a random LM over either."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dhrd_bench.backbones import Backbone, BackboneCard

START, END, TURN = "<s>", "</s>", "<|turn|>"
SPECIAL = ["<unk>", START, END, "<pad>", TURN]
MERGED = [" not", " Tr", "ru", "_en", "Te", "xt", "th", "er"]


def byte_level(start: bool = True, **settings: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as Llama 3 and SmolLM2 have; with `start`, its template begins a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in (word.replace(" ", "Ġ") for word in MERGED):
        merges += [(word[:end], word[end]) for end in range(1, len(word))]
    merges = list(dict.fromkeys(merges))
    vocabulary = {token: n for n, token in enumerate(dict.fromkeys([*SPECIAL, *alphabet, *map("".join, merges)]))}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return _finished(raw, START if start else "", "", settings)


def pieces(start: bool = True, end: bool = True, **settings: Any) -> PreTrainedTokenizerFast:
    """Unigram pieces in which a space is "▁", as SentencePiece has; the template may end a text, as T5's does."""
    words = ["▁not", "_entailment", "▁Tr", "Yes", "No", "▁the"]  # no "▁Yes": its space is a token of its own
    letters = [chr(code) for code in range(33, 127)]
    scored = [(token, -1.0) for token in SPECIAL] + [("▁", -4.0), ("\n", -4.0)]
    scored += [(word, -3.0) for word in words] + [(letter, -9.0) for letter in letters]
    raw = Tokenizer(models.Unigram(scored, unk_id=0))
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    raw.decoder = decoders.Metaspace(prepend_scheme="never")
    return _finished(raw, START if start else "", END if end else "", settings)


def _finished(raw: Tokenizer, start: str, end: str, settings: dict[str, Any]) -> PreTrainedTokenizerFast:
    raw.add_special_tokens(SPECIAL)
    template = " ".join(part for part in (start, "$A", end) if part)
    known = [(name, raw.token_to_id(name)) for name in (start, end) if name]
    raw.post_processor = processors.TemplateProcessing(single=template, pair=f"{template} $B", special_tokens=known)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=START, eos_token=END, unk_token="<unk>", pad_token="<pad>", **settings
    )


def lm(tokenizer: PreTrainedTokenizerFast, **config: Any) -> Backbone:
    """Return a random Llama of three blocks over the tokenizer's tokens, in float32 on the CPU."""
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, pad_token_id=3, **config,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(shape)
        with torch.no_grad():  # an untouched random LM is as good as uniform: answers would hardly differ
            for parameter in model.parameters():
                parameter.mul_(4.0) if parameter.ndim > 1 else None
    card = BackboneCard(name="small", dtype="float32", device="cpu")
    return Backbone(card, model, tokenizer, "small")
