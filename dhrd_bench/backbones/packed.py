"""Running a decoder LM over sequences laid end to end, without padding.

A batch of sequences is one row of tokens ``(1, T)``. The linear layers, which are nearly all of the
work, see the T real tokens and nothing else; attention runs within each sequence. Results of a
sequence do not depend on its neighbours.
"""

from __future__ import annotations

import copy
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

PACKED = "dhrd_packed"
"""Name of the attention function among Hugging Face's; no mask is built for a name it has no mask for."""


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: list[tuple[int, int]] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each of ``segments``, runs of (count, length) over ``(1, H, T, D)``."""
    assert segments is not None, "packed attention needs the lengths of its sequences"
    sizes = [count * length for count, length in segments]
    parts = zip(*(torch.split(tensor[0], sizes, dim=1) for tensor in (query, key, value)), strict=True)
    outputs: list[Tensor] = []
    for (count, length), part in zip(segments, parts, strict=True):
        q, k, v = (p.reshape(p.shape[0], count, length, p.shape[2]).transpose(0, 1) for p in part)
        attended = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=True
        )
        outputs.append(attended.transpose(1, 2).reshape(count * length, query.shape[1], query.shape[3]))
    return torch.cat(outputs)[None], None


AttentionInterface.register(PACKED, _packed_attention)


def packed_forward(trunk: Any, states: Tensor, lengths: list[int], start: int = 0, stop: int | None = None) -> Tensor:
    """Run blocks ``start`` to ``stop`` of a Hugging Face decoder over packed sequences.

    Parameters
    ----------
    trunk
        The decoder without LM head (``model.model``).
    states
        ``(T,)`` token ids if `start` is 0, else ``(T, d)`` hidden states after block ``start - 1``.
    lengths
        Length of each sequence; they add up to T. Neighbours of equal length share a kernel call.
    start, stop
        Blocks to run; with `stop` None the final norm is applied, too.

    Returns
    -------
    Tensor
        ``(T, d)`` hidden states.
    """
    part = trunk if start == 0 and stop is None else _part(trunk, start, stop)
    positions = torch.cat([torch.arange(length, device=states.device) for length in lengths])[None]
    segments = [(len(list(run)), length) for length, run in groupby(lengths)]
    inputs = {"input_ids": states[None]} if start == 0 else {"inputs_embeds": states[None]}
    output = part(**inputs, position_ids=positions, use_cache=False, segments=segments)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def _part(trunk: Any, start: int, stop: int | None) -> Any:
    """Return a view of `trunk` with some of its blocks; parameters are shared, nothing is copied."""
    view = copy.copy(trunk)
    view._modules = dict(trunk._modules)
    view.layers = nn.ModuleList(list(trunk.layers)[start:stop])
    if stop is not None:
        view.norm = nn.Identity()
    return view
