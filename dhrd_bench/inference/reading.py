"""Reading many packs of sequences, as one recorded computation where a card can replay it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.layout import Layout, fillings

FEW = 3
"""Packs of one size below which recording does not pay."""


class Reader:
    """Forward passes over packs whose sizes are known beforehand.

    Packs are filled up to the largest one, those of less than half its tokens excepted.

    Parameters
    ----------
    lengths
        Those of the sequences of each pack.
    """

    def __init__(self, backbone: Backbone, lengths: Sequence[Sequence[int]]) -> None:
        self.backbone = backbone
        self.graphs = backbone.graphs()
        self.tokens = max((sum(each) for each in lengths), default=0)
        self.longest = max((max(each) for each in lengths), default=0)
        filled = [each for each in lengths if self._fills(each)]
        self.sequences = max((self._sequences(each) for each in filled), default=0)
        self.on = self.graphs.on and backbone.one_call and len(filled) >= FEW
        self._buffer: tuple[Tensor, Layout] | None = None

    def read(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return the states ``(T, d)`` of a pack, and perhaps of fillings behind; they hold until the next call."""
        layout = self.backbone.layout(lengths)
        if not self.on or not self._fills(lengths):
            return self.backbone.run(ids, layout)
        layout = layout.padded(self.tokens, self.sequences, self.longest)
        if self._buffer is None:
            self._buffer = torch.zeros(self.tokens, dtype=torch.long, device=ids.device), layout
        tokens, where = self._buffer
        tokens[: len(ids)] = ids
        if where is not layout:
            where.copy_(layout)
        return self.graphs.run("read", lambda: self.backbone.run(tokens, where))

    def _fills(self, lengths: Sequence[int]) -> bool:
        return 2 * sum(lengths) > self.tokens

    def _sequences(self, lengths: Sequence[int]) -> int:
        return len(lengths) + fillings(self.tokens - sum(lengths), self.longest)
