"""Running a decoder LM over sequences laid end to end, without padding.

A batch of sequences is one row of tokens ``(1, T)``. The linear layers, which are nearly all of the
work, see the T real tokens and nothing else; attention runs within each sequence. Results of a
sequence do not depend on its neighbours.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

from dhrd_bench.backbones.attention import Scoring, attend
from dhrd_bench.backbones.blocks import run_blocks
from dhrd_bench.backbones.layout import Layout
from dhrd_bench.backbones.slots import Slots

PACKED = "dhrd_packed"
"""Name of the attention function among Hugging Face's; no mask is built for a name it has no mask for."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    slots: Slots | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence of ``layout`` over ``(1, H, T, D)``.

    With ``slots`` the keys and values are kept there; without a layout each token continues the sequence of
    its slot.
    """
    scoring = Scoring(
        settings.get("scaling"),
        settings.get("dropout", 0.0),
        settings.get("sliding_window"),
        settings.get("softcap"),
    )
    if slots is not None:
        block = int(module.layer_idx)  # type: ignore[arg-type]
        if layout is None:
            return slots.attend(block, query[0], key[0], value[0], scoring)[None], None
        slots.fill(block, key[0], value[0])
    assert layout is not None, "packed attention needs to know how its sequences lie"
    return attend(query[0], key[0], value[0], scoring, layout)[None], None


AttentionInterface.register(PACKED, _attention)


def packed_forward(
    trunk: Any, states: Tensor, layout: Layout, start: int = 0, stop: int | None = None, slots: Slots | None = None
) -> Tensor:
    """Run blocks ``start`` to ``stop`` of a Hugging Face decoder over packed sequences.

    Parameters
    ----------
    trunk
        The decoder without LM head.
    states
        ``(T,)`` token ids if `start` is 0, else ``(T, d)`` hidden states after block ``start - 1``.
    layout
        How the sequences lie; they add up to T.
    start, stop
        Blocks to run; with `stop` None the final norm is applied, too.
    slots
        Where to keep the keys and values, if the sequences are to be continued by `step_forward`.

    Returns
    -------
    Tensor
        ``(T, d)`` hidden states.
    """
    options: dict[str, Any] = {"position_ids": layout.positions[None], "layout": layout, "slots": slots}
    return run_blocks(trunk, states[None], start, stop, use_cache=False, **options)[0]


def step_forward(trunk: Any, tokens: Tensor, slots: Slots, width: int) -> Tensor:
    """Run all blocks on one more token of each of the first slots.

    Parameters
    ----------
    tokens
        ``(n,)`` token ids, one a slot.
    width
        Places of a slot that attention looks at; see `Slots.begin_step`.

    Returns
    -------
    Tensor
        ``(n, d)`` hidden states.
    """
    positions = slots.begin_step(len(tokens), width)
    output = trunk(input_ids=tokens[None], position_ids=positions[None], use_cache=False, slots=slots)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden
