"""Keys and values of sequences that are being continued, one slot a sequence.

Sequences lie at the front of their slots, so prompts of any length are read without padding, and a
slot that falls free takes the next sequence while the others go on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Slots:
    """A cache of `count` sequences of up to `capacity` tokens; the active ones come first.

    Attributes
    ----------
    lengths
        ``(active,)`` tokens that each active slot holds.
    """

    def __init__(self, count: int, capacity: int, device: torch.device) -> None:
        self.count, self.capacity, self.device = count, capacity, device
        self.lengths = torch.zeros(0, dtype=torch.long, device=device)
        self._blocks: dict[int, tuple[Tensor, Tensor]] = {}
        self._filling: list[tuple[int, int]] = []
        self._mask: Tensor | None = None

    @property
    def active(self) -> int:
        """How many slots are in use."""
        return len(self.lengths)

    def open(self, lengths: list[int], copies: int) -> None:
        """Take new slots for sequences about to be read, `copies` of each."""
        self._filling = [(self.active + number * copies, length) for number, length in enumerate(lengths)]
        self._copies = copies
        fresh = torch.tensor([length for length in lengths for _ in range(copies)], device=self.device)
        self.lengths = torch.cat([self.lengths, fresh])
        assert self.active <= self.count

    def fill(self, block: int, key: Tensor, value: Tensor) -> None:
        """Store what `block` computed for the sequences opened last, packed as ``(H, T, D)``."""
        keys, values = self._storage(block, key)
        start = 0
        for slot, length in self._filling:
            for copy in range(self._copies):
                keys[slot + copy, :, :length] = key[:, start : start + length]
                values[slot + copy, :, :length] = value[:, start : start + length]
            start += length

    def begin_step(self) -> Tensor:
        """Make room for one more token in each active slot; return their positions ``(active,)``."""
        positions = self.lengths
        self.lengths = positions + 1
        longest = int(self.lengths.max())
        self._mask = (torch.arange(longest, device=self.device) < self.lengths[:, None])[:, None, None]
        return positions

    def attend(self, block: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Append one token to each active slot and attend to all of it.

        Parameters
        ----------
        query, key, value
            ``(H, n, D)`` of the n active slots; keys and values may have fewer heads.

        Returns
        -------
        Tensor
            ``(n, H, D)``.
        """
        assert self._mask is not None
        keys, values = self._storage(block, key)
        rows = torch.arange(self.active, device=self.device)
        keys[rows, :, self.lengths - 1] = key.transpose(0, 1)
        values[rows, :, self.lengths - 1] = value.transpose(0, 1)
        longest = self._mask.shape[-1]
        heads, count, width = query.shape
        # The heads that share keys and values stand as queries of one head: nothing is repeated.
        grouped = query.transpose(0, 1).reshape(count, key.shape[0], heads // key.shape[0], width)
        attended = F.scaled_dot_product_attention(
            grouped,
            keys[: self.active, :, :longest],
            values[: self.active, :, :longest],
            attn_mask=self._mask,
            scale=scaling,
        )
        return attended.reshape(count, heads, width)

    def close(self, slot: int) -> None:
        """Free `slot`; the last active slot moves there."""
        last = self.active - 1
        if slot != last:
            length = int(self.lengths[last])
            for keys, values in self._blocks.values():
                keys[slot, :, :length] = keys[last, :, :length]
                values[slot, :, :length] = values[last, :, :length]
            self.lengths[slot] = self.lengths[last]
        self.lengths = self.lengths[:-1]

    def _storage(self, block: int, like: Tensor) -> tuple[Tensor, Tensor]:
        if block not in self._blocks:
            shape = (self.count, like.shape[0], self.capacity, like.shape[2])
            # Zeros, as what is masked still enters attention with weight 0, and 0 times NaN is NaN.
            self._blocks[block] = (like.new_zeros(shape), like.new_zeros(shape))
        return self._blocks[block]
