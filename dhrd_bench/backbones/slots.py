"""Keys and values of sequences that are being continued, one slot a sequence.

Sequences lie at the front of their slots, so prompts of any length are read without padding, and a
slot that falls free takes the next sequence while the others go on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dhrd_bench.backbones.attention import Scoring, attend_slots, capped_attention


class Slots:
    """A cache of `count` sequences of up to `capacity` tokens; the active ones come first.

    Parameters
    ----------
    one_call
        Whether attention takes slots of all lengths at once; see `Backbone.one_call`.

    Attributes
    ----------
    held
        Tokens that each active slot holds, on the host.
    lengths
        ``(count,)`` the same on the device; 0 where a slot is free.
    """

    def __init__(self, count: int, capacity: int, depth: int, device: torch.device, *, one_call: bool = False) -> None:
        self.count, self.capacity, self.depth, self.device = count, capacity, depth, device
        self.one_call = one_call
        self.held: list[int] = []
        self.lengths = torch.zeros(count, dtype=torch.long, device=device)
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._filling: tuple[Tensor, Tensor, Tensor] | None = None
        # Of the step under way: its slots, where their tokens go, what they then hold, where they begin, how far back
        # each place lies.
        self._rows = self._last = self._used = self._starts = self._back = self.lengths[:0]
        self._width = 0
        self._masks: dict[tuple[int | None, torch.dtype | None], Tensor] = {}

    @property
    def active(self) -> int:
        """How many slots are in use."""
        return len(self.held)

    def open(self, lengths: list[int], copies: int) -> None:
        """Take new slots for sequences about to be read, `copies` of each."""
        first = self.active
        fresh = [length for length in lengths for _ in range(copies)]
        self.held += fresh
        assert self.active <= self.count
        self.lengths[first : self.active] = torch.tensor(fresh, device=self.device)
        # Where each token of the packed sequences goes: slot and place, once a copy.
        sizes = torch.tensor(lengths)
        token = torch.arange(int(sizes.sum()))
        place = token - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        slot = first + copies * torch.repeat_interleave(torch.arange(len(lengths)), sizes)
        slots = torch.cat([slot + copy for copy in range(copies)])
        self._filling = (
            token.repeat(copies).to(self.device),
            slots.to(self.device),
            place.repeat(copies).to(self.device),
        )

    def fill(self, block: int, key: Tensor, value: Tensor) -> None:
        """Store what `block` computed for the sequences opened last, packed as ``(H, T, D)``."""
        assert self._filling is not None
        keys, values = self._storage(key, value)
        token, slot, place = self._filling
        keys[block, slot, place] = key.transpose(0, 1)[token]
        values[block, slot, place] = value.transpose(0, 1)[token]

    def begin_step(self, rows: int, width: int) -> Tensor:
        """Make room for one more token in each of the first `rows` slots; return their positions ``(rows,)``.

        Parameters
        ----------
        rows
            At least the active ones; what a free slot gets counts for nothing.
        width
            Places of a slot that attention looks at; at least what the longest active one holds with this token.
        """
        positions = self.lengths[:rows].clone()
        self.lengths[:rows] += 1
        self._rows, self._last, self._width = torch.arange(rows, device=self.device), positions, width
        if self.one_call:
            self._used = self.lengths[:rows].int()
            starts = torch.arange(rows + 1, dtype=torch.int32, device=self.device)
            self._starts = torch.stack([starts, starts * self.capacity])
        else:
            self._back = positions[:, None] - torch.arange(width, device=self.device)
        self._masks = {}
        return positions

    def end_step(self) -> None:
        """Count the token of a step, which may have been run by a captured graph."""
        self.held = [length + 1 for length in self.held]
        if self.active < self.count:
            self.lengths[self.active :] = 0

    def attend(self, block: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring) -> Tensor:
        """Append one token to each slot of the step and attend to it.

        Parameters
        ----------
        query, key, value
            ``(H, n, D)`` of the n slots; keys and values may have fewer heads.

        Returns
        -------
        Tensor
            ``(n, H, D)``.
        """
        keys, values = self._storage(key, value)
        heads, count, width = query.shape
        keys[block, self._rows, self._last] = key.transpose(0, 1)
        values[block, self._rows, self._last] = value.transpose(0, 1)
        if self.one_call:
            past = keys[block], values[block]
            return attend_slots(query.transpose(0, 1), *past, self._starts, self._used, self._width, scoring)
        # The heads that share keys and values stand as queries of one head: nothing is repeated.
        grouped = query.transpose(0, 1).reshape(count, key.shape[0], heads // key.shape[0], width)
        past_keys, past_values = (store[block, :count, : self._width].transpose(1, 2) for store in (keys, values))
        mask = self._mask(scoring.window, None if scoring.softcap is not None else query.dtype)
        if scoring.softcap is not None:
            attended = capped_attention(grouped, past_keys, past_values, mask, scoring)
        else:
            attended = F.scaled_dot_product_attention(
                grouped, past_keys, past_values, attn_mask=mask, scale=scoring.scaling
            )
        return attended.reshape(count, heads, value.shape[2])

    def _mask(self, window: int | None, dtype: torch.dtype | None) -> Tensor:
        """Return what the tokens of the step see, ``(rows, 1, 1, width)``, made once a step.

        With a `dtype` it is what is added to the scores, which attention would else make anew in each block.
        """
        if (window, dtype) not in self._masks:
            hidden = (self._back < 0) if window is None else (self._back < 0) | (self._back >= window)
            mask = ~hidden
            if dtype is not None:
                mask = torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, float("-inf"))
            self._masks[window, dtype] = mask[:, None, None]
        return self._masks[window, dtype]

    def close(self, slot: int) -> None:
        """Free `slot`; the last active slot moves there."""
        last = self.active - 1
        if slot != last:
            length = self.held[last]
            for store in (self._keys, self._values):
                if store is not None:
                    store[:, slot, :length] = store[:, last, :length]
            self.held[slot] = length
            self.lengths[slot] = length
        self.held.pop()
        self.lengths[last] = 0

    def _storage(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if self._keys is None or self._values is None:
            shape = (self.depth, self.count, self.capacity, key.shape[0])
            # Zeros, as what is masked still enters attention with weight 0, and 0 times NaN is NaN.
            self._keys, self._values = key.new_zeros(*shape, key.shape[2]), value.new_zeros(*shape, value.shape[2])
        return self._keys, self._values
