"""How much a device takes at a time. Speed and memory depend on it, results do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from dhrd_bench.backbones.backbone import Backbone

PACK, LAP = 1024, 16384
"""Tokens of a forward pass: on a CPU, where more bring nothing; and at most, as each pack is one lap of the clock."""

MOST_SLOTS = 512


@dataclass(frozen=True)
class Sizes:
    """What fits, by a rule from the device's free memory and the model's shape.

    Attributes
    ----------
    pack
        Tokens of a forward pass without gradients; each is also one lap of the harness's clock.
    train
        Tokens of a training pass; None leaves it to the budget.
    cache
        Tokens whose keys and values may be kept while decoding; None leaves the rows to the budget.
    """

    pack: int = PACK
    train: int | None = None
    cache: int | None = None

    def pass_tokens(self, micro_tokens: int) -> int:
        """Return the tokens of a training pass under a budget."""
        return micro_tokens if self.train is None else max(micro_tokens, self.train)

    def slots(self, batch_size: int, capacity: int) -> int:
        """Return how many rows of at most `capacity` tokens are decoded at a time under a budget."""
        if self.cache is None:
            return batch_size
        return max(batch_size, min(MOST_SLOTS, self.cache // max(1, capacity)))


def sizes_of(backbone: Backbone) -> Sizes:
    """Return the sizes for the backbone's device.

    On CUDA a quarter of the free memory is for what a forward pass holds at a time (about one block's
    activations), half for what a training pass keeps (all blocks', twice over for adapters that work in float32),
    a quarter for keys and values. Out of memory is no failure: training halves its packs and goes on.
    """
    if backbone.device.type != "cuda":
        return Sizes()
    free = _free(backbone.device)
    config = backbone.model.config
    inner = int(getattr(config, "intermediate_size", 4 * backbone.width))
    bytes_each = 2 if backbone.dtype != torch.float32 else 4
    held = bytes_each * (12 * backbone.width + 3 * inner)
    kept = 2 * bytes_each * backbone.depth * (18 * backbone.width + 4 * inner)
    heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    head_width = int(getattr(config, "head_dim", None) or backbone.width // config.num_attention_heads)
    cached = 2 * bytes_each * backbone.depth * heads * head_width
    return Sizes(
        pack=_within(PACK, free // 4 // held, LAP),
        train=_within(PACK, free // 2 // kept, LAP),
        cache=free // 4 // cached,
    )


def _within(low: int, value: int, high: int) -> int:
    return max(low, min(high, value))


def _free(device: torch.device) -> int:
    """Return the bytes that this process may still take: the driver's free ones and its own allocator's."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
