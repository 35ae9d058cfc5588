"""Outputs of the frozen lower blocks, computed once per sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.modeling.batches import packs
from dhrd_bench.modeling.encode import Row

LIMIT = 3 << 30
"""Bytes kept on a backbone before the store is emptied."""


def input_states(backbone: Backbone, rows: Sequence[Row], frozen_blocks: int, tokens: int) -> Tensor:
    """Return what the trained blocks take in for `rows`, end to end.

    ``(T, d)`` states after the frozen blocks (after the final norm, if all are frozen). States are kept on the
    backbone by sequence, so that later epochs, seeds and methods with the same sequence reuse them. A sequence's
    states do not depend on what it was packed with, so it does not matter who computed them. That an input's
    states begin those of [x, r, y] is not made use of: they agree to rounding only, and a run that is killed and
    resumed must give the undisturbed table to the last digit. Frozen blocks have no dropout,
    whatever the model's configuration says: what one step drew would be kept for all the others.
    """
    store = backbone.frozen_states
    keys = [(frozen_blocks, tuple(row.ids)) for row in rows]
    missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in store}
    if missing:
        if sum(states.numel() * states.element_size() for states in store.values()) > LIMIT:
            store.clear()
            missing = dict(zip(keys, rows, strict=True))
        _compute(backbone, missing, frozen_blocks, tokens)
    return torch.cat([store[key] for key in keys])


@torch.no_grad()
def _compute(backbone: Backbone, missing: dict[tuple[int, tuple[int, ...]], Row], blocks: int, tokens: int) -> None:
    keys = list(missing)
    stop = None if blocks == backbone.depth else blocks
    training = backbone.model.training
    backbone.model.eval()
    try:
        for pack in packs([len(missing[key].ids) for key in keys], tokens):
            lengths = [len(missing[keys[i]].ids) for i in pack]
            ids = torch.tensor([token for i in pack for token in missing[keys[i]].ids], device=backbone.device)
            for i, states in zip(pack, torch.split(backbone.hidden(ids, lengths, 0, stop), lengths), strict=True):
                backbone.frozen_states[keys[i]] = states.clone()
    finally:
        backbone.model.train(training)
