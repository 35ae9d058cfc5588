"""Outputs of the frozen lower blocks, computed once per sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.layout import fillings, sent
from dhrd_bench.modeling.batches import packs
from dhrd_bench.modeling.encode import Row

LIMIT = 3 << 30
"""Bytes kept on a backbone before the store is emptied."""

FULL = 4096
"""Tokens of every pack on a card."""

Key = tuple[int, tuple[int, ...]]
"""How many blocks are frozen, and the tokens."""


def input_states(backbone: Backbone, rows: Sequence[Row], frozen_blocks: int) -> Tensor:
    """Return what the trained blocks take in for `rows`, end to end.

    ``(T, d)`` states after the frozen blocks (after the final norm, if all are frozen). States are kept on the
    backbone by sequence, so that later epochs, seeds and methods with the same sequence reuse them. They are the same
    to the last bit whatever was computed beside them: which cell is the first to need a sequence, and with what others,
    is another one after a kill, with workers, or in a grid of fewer methods, and products of packs of other sizes are
    rounded otherwise. So each sequence is computed alone, or, where attention takes all in one call, in packs that are
    all filled up to one size. For the same reason it is not made use of that an input's states begin those of
    [x, r, y]. Frozen blocks have no dropout, whatever the model's configuration says: what one step drew would be kept
    for all the others.
    """
    store = backbone.frozen_states
    keys = [(frozen_blocks, tuple(row.ids)) for row in rows]
    if any(key not in store for key in keys):
        if sum(states.numel() * states.element_size() for states in store.values()) > LIMIT:
            store.clear()
        _compute(backbone, [key for key in dict.fromkeys(keys) if key not in store])
    return torch.cat([store[key] for key in keys])


@torch.no_grad()
def _compute(backbone: Backbone, missing: Sequence[Key]) -> None:
    training = backbone.model.training
    backbone.model.eval()
    try:
        for pack in packs([len(ids) for _, ids in missing], FULL if backbone.one_call else 1):
            _compute_pack(backbone, [missing[i] for i in pack])
    finally:
        backbone.model.train(training)


def _compute_pack(backbone: Backbone, keys: Sequence[Key]) -> None:
    blocks, lengths = keys[0][0], [len(ids) for _, ids in keys]
    tokens, layout = [token for _, ids in keys for token in ids], backbone.layout(lengths)
    if backbone.one_call and len(tokens) < FULL:
        more = FULL - len(tokens)
        tokens, layout = tokens + [0] * more, layout.padded(FULL, len(keys) + fillings(more, FULL), FULL)
    stop = None if blocks == backbone.depth else blocks
    states = backbone.run(sent(tokens, backbone.device), layout, 0, stop)
    for key, own in zip(keys, torch.split(states, [*lengths, len(tokens) - sum(lengths)]), strict=False):
        backbone.frozen_states[key] = own.clone()
