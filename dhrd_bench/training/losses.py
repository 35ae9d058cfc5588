"""Losses on the scored positions only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 512
"""Positions whose logits exist at a time: 512 x 128k x 4 bytes is 256 MB for a Llama vocabulary."""


class _FrozenLinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of ``hidden @ weight.T`` for a weight that is not trained.

    The gradient with respect to `hidden` is formed while the logits exist, chunk by chunk, so that
    no logits are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(hidden), CHUNK):
            piece, target = hidden[start : start + CHUNK], targets[start : start + CHUNK]
            log_probabilities = torch.log_softmax((piece @ weight.T).float(), dim=-1)
            counted, place = (target >= 0)[:, None], target.clamp(min=0)[:, None]
            total -= (log_probabilities.gather(1, place) * counted).sum()
            probabilities = log_probabilities.exp_()
            probabilities.scatter_add_(1, place, torch.full_like(place, -1.0, dtype=probabilities.dtype))
            probabilities *= counted
            gradient[start : start + CHUNK] = probabilities.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0].to(gradient.dtype), None, None


def lm_loss_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the summed next-token cross-entropy.

    Parameters
    ----------
    hidden
        ``(n, d)`` states from which the targets are predicted.
    weight
        ``(V, d)`` LM head.
    targets
        ``(n,)`` token ids.

    Returns
    -------
    Tensor
        A float32 scalar, in nats.
    """
    if weight.requires_grad or not torch.is_grad_enabled():
        pieces = zip(torch.split(hidden, CHUNK), torch.split(targets, CHUNK), strict=True)
        losses = [F.cross_entropy(F.linear(h, weight.to(h.dtype)).float(), t, reduction="sum") for h, t in pieces]
        return torch.stack(losses).sum()
    loss: Tensor = _FrozenLinearCrossEntropy.apply(hidden.to(weight.dtype), weight, targets)  # type: ignore[no-untyped-call]
    return loss
