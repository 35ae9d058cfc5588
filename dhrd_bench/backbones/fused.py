"""The small operations of a block, each in one kernel on a card: RMS norms, rotary embeddings, gated activations.

The library's own are some six passes over the states for a norm, ten for rotary embeddings, two for a gate, each a
launch; on a card that is more than half of all work. The fused ones compute in float32 and round once.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dhrd_bench.backbones.packed import PACKED

_log = logging.getLogger(__name__)

Forward = Callable[..., Any]


def fuse(model: nn.Module) -> None:
    """Let what is known of `model` run as one kernel each; see `split` for the way back."""
    for module in model.modules():
        kind: Any = type(module)
        if not hasattr(kind, "plain") and (forward := _forward_of(module)) is not None:
            module.__class__ = _fused(kind, forward)


def split(model: nn.Module) -> None:
    """Undo `fuse`."""
    for module in model.modules():
        kind: Any = type(module)
        if hasattr(kind, "plain"):
            module.__class__ = kind.plain


@cache
def _fused(kind: Any, forward: Forward) -> Any:
    # Not part of the model's identity: what is saved or copied carries the library's class name.
    return type(kind.__name__, (kind,), {"forward": forward, "plain": kind, "__module__": kind.__module__})


def _forward_of(module: Any) -> Forward | None:
    """Return what stands for the library's forward pass of `module`, if it is one that is known to the letter."""
    from transformers.models.llama import modeling_llama as llama  # needed on a card only

    kind = type(module)
    if kind.__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return _norm
    if _reads_like(kind.forward, llama.LlamaMLP.forward) and type(module.act_fn).__name__ in {"SiLU", "SiLUActivation"}:
        return _mlp if kernels() else None
    if _reads_like(kind.forward, llama.LlamaAttention.forward):
        names = ("apply_rotary_pos_emb", "rotate_half")
        alike = all(_reads_like(kind.forward.__globals__.get(name), getattr(llama, name)) for name in names)
        power_of_two = not module.head_dim & (module.head_dim - 1)
        return _attention if alike and power_of_two and kernels() else None
    return None


def _reads_like(one: Any, other: Any) -> bool:
    return one is other or (one is not None and _source(one) == _source(other))


@cache
def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed in, or compiled
        return repr(function)


@cache
def kernels() -> Any:
    """Return the module with the kernels; None where Triton is not installed or cannot compile them."""
    try:
        from dhrd_bench.backbones import kernels as module

        module.check()
    except Exception as error:  # whatever it is: a compiler that is missing, a card that is too old
        _log.info("Rotary embeddings and gates are computed as transformers does: %s", error)
        return None
    return module


def _norm(self: Any, hidden_states: Tensor) -> Tensor:
    """Norm over the last axis; the library's way where weight and states differ in dtype, as in training."""
    if self.weight.dtype != hidden_states.dtype:
        plain: Tensor = self.plain.forward(self, hidden_states)
        return plain
    with torch.autocast(hidden_states.device.type, enabled=False):
        return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


def _mlp(self: Any, x: Tensor) -> Any:
    """Gate, without gradients; the library's way with them."""
    if torch.is_grad_enabled():
        return self.plain.forward(self, x)
    return self.down_proj(kernels().gated(self.gate_proj(x), self.up_proj(x)))


def _attention(
    self: Any,
    hidden_states: Tensor,
    position_embeddings: Any = None,
    attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    **options: Any,
) -> Any:
    """Rotate queries and keys where they lie, in packs and without gradients; the library's way else."""
    if torch.is_grad_enabled() or past_key_values is not None or self.config._attn_implementation != PACKED:
        return self.plain.forward(self, hidden_states, position_embeddings, attention_mask, past_key_values, **options)
    shape = hidden_states.shape[:-1]
    query, key, value = (
        project(hidden_states).view(*shape, -1, self.head_dim) for project in (self.q_proj, self.k_proj, self.v_proj)
    )
    for states in (query, key):
        kernels().rotate(states, *position_embeddings)
    attend = ALL_ATTENTION_FUNCTIONS[PACKED]
    dropout = self.attention_dropout if self.training else 0.0
    heads = (states.transpose(1, 2) for states in (query, key, value))
    attended, weights = attend(self, *heads, attention_mask, dropout=dropout, scaling=self.scaling, **options)
    return self.o_proj(attended.reshape(*shape, -1)), weights
