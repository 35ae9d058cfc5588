"""Tiny random models of many architectures, and the library's own answers for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertDecoderConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from dhrd_bench.backbones import Backbone

SHAPE: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
MIXED = ["sliding_attention", "full_attention"] * 2
WIDE = 1024
"""A window that nothing here leaves."""

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "qwen3-moe": Qwen3MoeConfig(**SHAPE, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    "mistral": MistralConfig(**SHAPE, head_dim=8, sliding_window=None),
    "gemma2": Gemma2Config(
        **SHAPE, head_dim=8, layer_types=["full_attention"] * 4,
        final_logit_softcapping=0.8, attn_logit_softcapping=None,
    ),
    "gemma3": Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=WIDE, layer_types=MIXED),
    "phi3": Phi3Config(**SHAPE, sliding_window=None),
    "phi": PhiConfig(**SHAPE),
    "smollm3": SmolLM3Config(**SHAPE),
    "olmo2": Olmo2Config(**SHAPE),
    "gpt-neox": GPTNeoXConfig(**{key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}),
    "gpt2": GPT2Config(
        vocab_size=258, n_embd=32, n_layer=4, n_head=4, n_positions=512, bos_token_id=None, eos_token_id=1
    ),
    "granite": GraniteConfig(
        **SHAPE, logits_scaling=8.0, embedding_multiplier=12.0, residual_multiplier=0.3, attention_multiplier=0.1
    ),
    "cohere": CohereConfig(**SHAPE, logit_scale=0.25),
}  # fmt: skip
"""Within their window, where they have one, and without caps on attention scores."""

WINDOWED: dict[str, PreTrainedConfig] = {
    "mistral": MistralConfig(**SHAPE, head_dim=8, sliding_window=6),
    "phi3": Phi3Config(**SHAPE, sliding_window=6),
    "qwen2": Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=6, max_window_layers=2),
    "gemma2": Gemma2Config(**SHAPE, head_dim=8, sliding_window=6, attn_logit_softcapping=0.1),
    "gemma3": Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=6, layer_types=MIXED),
    "modernbert-decoder": ModernBertDecoderConfig(
        **{key: value for key, value in SHAPE.items() if key not in ("num_key_value_heads", "bos_token_id")},
        local_attention=12, bos_token_id=1, cls_token_id=1, sep_token_id=1,
    ),
}  # fmt: skip
"""Windows that are left soon, and caps on attention scores that matter."""


def make_model(config: PreTrainedConfig) -> Any:
    """Return a model all of whose weights are random: fresh biases are 0 and fresh norms 1, which hides faults."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_backbone(config: PreTrainedConfig, like: Backbone) -> Backbone:
    """Return a backbone with that model, and card and tokenizer of another."""
    return Backbone(like.card, make_model(config).to(like.device), like.tokenizer, "")


@torch.no_grad()
def native(backbone: Backbone, ids: list[int] | Tensor) -> Tensor:
    """Return the library's own logits ``(n, V)`` of one sequence, with its plainest attention and its own masks."""
    backbone.model.set_attn_implementation("eager")
    try:
        logits: Tensor = backbone.model(
            input_ids=torch.as_tensor(ids, device=backbone.device)[None], use_cache=False
        ).logits[0]
    finally:
        backbone.model.set_attn_implementation("dhrd_packed")
    return logits
