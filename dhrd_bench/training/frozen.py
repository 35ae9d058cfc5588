"""Outputs of the frozen lower blocks, computed once per sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.training.batches import packs
from dhrd_bench.training.encode import Row

LIMIT = 3 << 30
"""Bytes kept on a backbone before the store is emptied."""


def input_states(backbone: Backbone, rows: Sequence[Row], frozen_blocks: int, tokens: int) -> Tensor:
    """Return what the trained blocks take in for `rows`, end to end.

    ``(T,)`` token ids if nothing is frozen, else ``(T, d)`` states after the frozen blocks (after the
    final norm, if all are frozen). States are kept on the backbone by sequence, so that later epochs,
    seeds and methods with the same sequence reuse them; as attention is causal, the states of an input x
    are the first of those of [x, r, y], and a method that trains on x alone finds them there. A
    sequence's states do not depend on what it was packed with, so it does not matter who computed them.
    """
    if frozen_blocks == 0:
        return torch.tensor([token for row in rows for token in row.ids], device=backbone.device)
    store = backbone.frozen_states
    keys = [(frozen_blocks, tuple(row.ids)) for row in rows]
    missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in store}
    if missing:
        held = {states.untyped_storage().data_ptr(): states.untyped_storage().nbytes() for states in store.values()}
        if sum(held.values()) > LIMIT:
            store.clear()
            missing = dict(zip(keys, rows, strict=True))
        _compute(backbone, missing, frozen_blocks, tokens)
    return torch.cat([store[key] for key in keys])


@torch.no_grad()
def _compute(backbone: Backbone, missing: dict[tuple[int, tuple[int, ...]], Row], blocks: int, tokens: int) -> None:
    keys = list(missing)
    stop = None if blocks == backbone.depth else blocks
    for pack in packs([len(missing[key].ids) for key in keys], tokens):
        lengths = [len(missing[keys[i]].ids) for i in pack]
        ids = torch.tensor([token for i in pack for token in missing[keys[i]].ids], device=backbone.device)
        for i, states in zip(pack, torch.split(backbone.hidden(ids, lengths, 0, stop), lengths), strict=True):
            kept, row = states.clone(), missing[keys[i]]
            backbone.frozen_states[keys[i]] = kept
            backbone.frozen_states.setdefault((blocks, tuple(row.ids[: row.input_length])), kept[: row.input_length])
