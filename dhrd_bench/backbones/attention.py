"""Attention within sequences that lie end to end: run by run on any device, in one call where a card can."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dhrd_bench.backbones.layout import Layout, Ragged, Runs, positions_of, varlen_options


@dataclass(frozen=True)
class Scoring:
    """How scores are made and limited, as a model's config has it.

    Attributes
    ----------
    scaling
        Factor of the scores; None is one over the root of the head's width.
    dropout
        Share of the weights dropped while training.
    window
        Tokens that a token sees, itself included; None is all before it.
    softcap
        Bound to which scores are bent (Gemma 2), if any.
    """

    scaling: float | None = None
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None


def attend(query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, layout: Layout) -> Tensor:
    """Return causal attention within each sequence, ``(T, H, D)``, of ``(H, T, D)``; keys may have fewer heads."""
    if layout.ragged is not None:
        return _by_varlen(query, key, value, scoring, layout.ragged)
    return _by_runs(query, key, value, scoring, layout.runs)


def _by_runs(query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, runs: Runs) -> Tensor:
    sizes = [count * length for count, length in runs.segments]
    parts = zip(*(torch.split(tensor, sizes, dim=1) for tensor in (query, key, value)), strict=True)
    outputs: list[Tensor] = []
    for (count, length), part in zip(runs.segments, parts, strict=True):
        q, k, v = (p.reshape(p.shape[0], count, length, p.shape[2]).transpose(0, 1) for p in part)
        window = None if scoring.window is None or scoring.window >= length else scoring.window
        plain = not runs.branches and window is None and scoring.softcap is None
        mask = None if plain else _mask(length, runs.branches, window, q.device)
        if scoring.softcap is None or mask is None:
            attended = F.scaled_dot_product_attention(
                q, k, v, mask, scoring.dropout, is_causal=plain, scale=scoring.scaling, enable_gqa=True
            )
        else:
            attended = capped_attention(q, k, v, mask, scoring)
        outputs.append(attended.transpose(1, 2).reshape(count * length, query.shape[0], value.shape[2]))
    return torch.cat(outputs)


def capped_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scoring: Scoring) -> Tensor:
    """Attention whose scores are bent to stay within a bound, which no fused kernel here does.

    Parameters
    ----------
    query, key, value
        ``(n, H, L, D)`` and ``(n, H_kv, S, D)``.
    mask
        Whether a query sees a key; broadcast to ``(n, H, L, S)``.
    """
    assert scoring.softcap is not None
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scale = query.shape[-1] ** -0.5 if scoring.scaling is None else scoring.scaling
    scores = scoring.softcap * torch.tanh((query @ key.transpose(-1, -2)) * scale / scoring.softcap)
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1, dtype=torch.float32).to(value.dtype)
    return F.dropout(weights, scoring.dropout) @ value


def attend_slots(
    query: Tensor, keys: Tensor, values: Tensor, starts: Tensor, used: Tensor, longest: int, scoring: Scoring
) -> Tensor:
    """Return attention of a query a slot to what its slot holds, in one call that reads nothing else.

    Parameters
    ----------
    query
        ``(n, H, D)`` of the first n slots.
    keys, values
        ``(N, C, H_kv, D)``: slots of C places.
    starts
        ``(2, n + 1)`` int32: where queries and slots begin, end to end.
    used
        ``(n,)`` int32: places that each slot holds, that of the query included.
    longest
        A bound on them.

    Returns
    -------
    Tensor
        ``(n, H, D)``.
    """
    from torch.nn.attention.varlen import varlen_attn

    attend: Any = varlen_attn
    attended: Tensor = attend(
        query.to(values.dtype).contiguous(),
        keys.flatten(0, 1),
        values.flatten(0, 1),
        starts[0],
        starts[1],
        1,
        longest,
        scale=scoring.scaling,
        # A single query at the end of its keys sees all of them.
        window_size=(-1, -1) if scoring.window is None else (scoring.window - 1, 0),
        seqused_k=used,
        enable_gqa=True,
    )
    return attended


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _mask(length: int, branches: tuple[int, ...], window: int | None, device: torch.device) -> Tensor:
    """Return ``(length, length)``: what each position sees. A branch sees the stem and itself."""
    tail = torch.tensor([number for number, size in enumerate(branches, 1) for _ in range(size)], dtype=torch.long)
    branch = torch.cat([tail.new_zeros(length - len(tail)), tail])
    seen = ((branch[None] == branch[:, None]) | (branch[None] == 0)).tril()
    if window is not None:
        place = torch.from_numpy(positions_of([length], branches))
        seen &= place[:, None] - place[None] < window
    return seen.to(device)


def _by_varlen(query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, ragged: Ragged) -> Tensor:
    """Return ``(T, H, D)`` of ``(H, T, D)`` in one call."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor.transpose(0, 1) for tensor in (query, key, value))
    if ragged.keys is not None:
        k, v = k.index_select(0, ragged.keys), v.index_select(0, ragged.keys)
    assert not scoring.dropout, "see `Backbone.one_call`"
    options: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in varlen_options() else {}
    if not options and q.shape[1] != k.shape[1]:
        k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], 1) for tensor in (k, v))
    attended: Any = varlen_attn(
        # Rotary embeddings leave float32 queries and keys where the hidden states are float32 under autocast.
        q.to(v.dtype).contiguous(),
        k.to(v.dtype).contiguous(),
        v.contiguous(),
        ragged.starts_q,
        ragged.starts_k,
        ragged.longest_q,
        ragged.longest_k,
        scale=scoring.scaling,
        window_size=(-1 if scoring.window is None else scoring.window - 1, 0),
        **options,
    )
    out: Tensor = attended
    return out
