"""Running a decoder LM over sequences laid end to end, without padding.

A batch of sequences is one row of tokens ``(1, T)``. The linear layers, which are nearly all of the
work, see the T real tokens and nothing else; attention runs within each sequence. Results of a
sequence do not depend on its neighbours.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from dhrd_bench.backbones.blocks import run_blocks
from dhrd_bench.backbones.slots import Slots

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
    branches: tuple[int, ...] = (),
    slots: Slots | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each of ``segments``, runs of (count, length) over ``(1, H, T, D)``.

    Each sequence ends in ``branches`` of these lengths, which do not see each other. With ``slots`` the
    keys and values are kept there; without segments each token continues the sequence of its slot.
    """
    if slots is not None:
        block = int(module.layer_idx)  # type: ignore[arg-type]
        if segments is None:
            return slots.attend(block, query[0], key[0], value[0], scaling)[None], None
        slots.fill(block, key[0], value[0])
    assert segments is not None, "packed attention needs the lengths of its sequences"
    sizes = [count * length for count, length in segments]
    parts = zip(*(torch.split(tensor[0], sizes, dim=1) for tensor in (query, key, value)), strict=True)
    outputs: list[Tensor] = []
    for (count, length), part in zip(segments, parts, strict=True):
        q, k, v = (p.reshape(p.shape[0], count, length, p.shape[2]).transpose(0, 1) for p in part)
        mask = _branch_mask(length, branches, q.device) if branches else None
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, dropout_p=dropout, enable_gqa=True
        )
        outputs.append(attended.transpose(1, 2).reshape(count * length, query.shape[1], query.shape[3]))
    return torch.cat(outputs)[None], None


AttentionInterface.register(PACKED, _packed_attention)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _branch_mask(length: int, branches: tuple[int, ...], device: torch.device) -> Tensor:
    """Return ``(length, length)``: what each position sees. A branch sees the stem and itself."""
    tail = torch.tensor([number for number, size in enumerate(branches, 1) for _ in range(size)], device=device)
    branch = torch.cat([tail.new_zeros(length - len(tail)), tail])
    return ((branch[None] == branch[:, None]) | (branch[None] == 0)).tril()


def packed_forward(
    trunk: Any,
    states: Tensor,
    lengths: list[int],
    start: int = 0,
    stop: int | None = None,
    branches: tuple[int, ...] = (),
    slots: Slots | None = None,
) -> Tensor:
    """Run blocks ``start`` to ``stop`` of a Hugging Face decoder over packed sequences.

    Parameters
    ----------
    trunk
        The decoder without LM head.
    states
        ``(T,)`` token ids if `start` is 0, else ``(T, d)`` hidden states after block ``start - 1``.
    lengths
        Length of each sequence; they add up to T. Neighbours of equal length share a kernel call.
    start, stop
        Blocks to run; with `stop` None the final norm is applied, too.
    branches
        Lengths of alternative continuations at the end of every sequence, one after the other. Each
        continues the stem before them as if the others were not there.
    slots
        Where to keep the keys and values, if the sequences are to be continued by `step_forward`.

    Returns
    -------
    Tensor
        ``(T, d)`` hidden states.
    """
    options: dict[str, Any] = {
        "position_ids": torch.cat([_positions(length, branches) for length in lengths]).to(states.device)[None],
        "segments": [(len(list(run)), length) for length, run in groupby(lengths)],
        "branches": branches,
        "slots": slots,
        "use_cache": False,
    }
    return run_blocks(trunk, states[None], start, stop, **options)[0]


def step_forward(trunk: Any, tokens: Tensor, slots: Slots) -> Tensor:
    """Run all blocks on one more token of each active sequence in `slots`.

    Parameters
    ----------
    tokens
        ``(n,)`` token ids, one an active slot.

    Returns
    -------
    Tensor
        ``(n, d)`` hidden states.
    """
    positions = slots.begin_step()
    output = trunk(input_ids=tokens[None], position_ids=positions[None], use_cache=False, slots=slots)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def _positions(length: int, branches: tuple[int, ...]) -> Tensor:
    """Return each token's place in its own sequence; a branch counts on from the stem."""
    stem = length - sum(branches)
    return torch.cat([torch.arange(stem), *(torch.arange(stem, stem + size) for size in branches)])
