"""How the states of an input become the one that the classification head reads."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dhrd_bench.backbones import Backbone

Pooling = Literal["last", "mean", "attention"]

Pool = nn.Module | None
"""A module from states ``(T, d)`` of inputs that lie end to end, and their lengths, to one state an input ``(n, d)``,
all float32; None is the state of the token that has read the whole input."""


class MeanPool(nn.Module):
    """The mean over an input's tokens."""

    def forward(self, states: Tensor, lengths: list[int]) -> Tensor:
        """Return the mean ``(n, d)`` of each input's states."""
        return _sums(states, lengths) / torch.tensor(lengths, device=states.device)[:, None]


class AttentionPool(nn.Module):
    """A mean weighted by how well each state fits one learned query, softmax(h q / sqrt(d)).

    The pooling of Yang et al. 2016 (hierarchical attention networks) without their hidden layer. The initial query
    comes from `seed` alone.
    """

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed))
        self.query = nn.Parameter(0.02 * drawn)

    def forward(self, states: Tensor, lengths: list[int]) -> Tensor:
        """Return the weighted mean ``(n, d)`` of each input's states."""
        fits = states @ self.query / states.shape[1] ** 0.5
        weights = torch.cat([torch.softmax(each, 0) for each in torch.split(fits, lengths)])
        return _sums(states * weights[:, None], lengths)


def make_pool(kind: Pooling, width: int, seed: int) -> Pool:
    """Return the pool called `kind` for states of size `width`."""
    if kind == "attention":
        return AttentionPool(width, seed)
    return MeanPool() if kind == "mean" else None


def places_read(pool: Pool, backbone: Backbone, length: int) -> range:
    """Return the places of an input of `length` tokens whose states `pool` reads; never those behind it."""
    if pool is not None:
        return range(length)
    whole = backbone.whole_place(length)
    return range(whole, whole + 1)


def pooled(pool: Pool, states: Tensor, lengths: list[int]) -> Tensor:
    """Return one float32 state an input, ``(n, d)``, of the states that `places_read` names, end to end."""
    with torch.autocast(states.device.type, enabled=False):
        states = states.float()
        if pool is None:
            return states
        out: Tensor = pool(states, lengths)
    return out


def _sums(states: Tensor, lengths: list[int]) -> Tensor:
    return torch.stack([each.sum(0) for each in torch.split(states, lengths)])
