"""Outputs of the frozen lower blocks, computed once per sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.modeling.encode import Row

LIMIT = 3 << 30
"""Bytes kept on a backbone before the store is emptied."""


def input_states(backbone: Backbone, rows: Sequence[Row], frozen_blocks: int) -> Tensor:
    """Return what the trained blocks take in for `rows`, end to end.

    ``(T, d)`` states after the frozen blocks (after the final norm, if all are frozen). States are kept on the
    backbone by sequence, so that later epochs, seeds and methods with the same sequence reuse them. Each sequence is
    computed alone: products of packs of other sizes are rounded otherwise, and which cell was the first to need a
    sequence, and with what beside it, is another one after a kill, with workers, or in a grid of fewer methods. For
    the same reason it is not made use of that an input's states begin those of [x, r, y]. Frozen blocks have no
    dropout, whatever the model's configuration says: what one step drew would be kept for all the others.
    """
    store = backbone.frozen_states
    keys = [(frozen_blocks, tuple(row.ids)) for row in rows]
    if any(key not in store for key in keys):
        if sum(states.numel() * states.element_size() for states in store.values()) > LIMIT:
            store.clear()
        _compute(backbone, [key for key in dict.fromkeys(keys) if key not in store])
    return torch.cat([store[key] for key in keys])


@torch.no_grad()
def _compute(backbone: Backbone, missing: Sequence[tuple[int, tuple[int, ...]]]) -> None:
    training = backbone.model.training
    backbone.model.eval()
    try:
        for blocks, ids in missing:
            stop = None if blocks == backbone.depth else blocks
            states = backbone.hidden(torch.tensor(ids, device=backbone.device), [len(ids)], 0, stop)
            backbone.frozen_states[blocks, ids] = states.clone()
    finally:
        backbone.model.train(training)
