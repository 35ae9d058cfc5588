"""Losses on the scored positions only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dhrd_bench.backbones import Backbone

CHUNK = 512
"""Positions whose logits exist at a time: 512 x 128k x 4 bytes is 256 MB for a Llama vocabulary."""


class _FrozenHeadCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of the logits of an LM head that is not trained.

    The gradient with respect to `hidden` is formed while the logits exist, chunk by chunk, so that
    no logits are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, backbone: Backbone, targets: Tensor, weights: Tensor | None) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(hidden), CHUNK):
            target = targets[start : start + CHUNK]
            with torch.enable_grad():
                piece = hidden[start : start + CHUNK].detach().requires_grad_()
                logits = backbone.logits(piece)
            log_probabilities = torch.log_softmax(logits.detach().float(), dim=-1)
            counted, place = (target >= 0)[:, None], target.clamp(min=0)[:, None]
            if weights is not None:
                counted = counted * weights[start : start + CHUNK, None]
            total -= (log_probabilities.gather(1, place) * counted).sum()
            # What cross-entropy is by the logits is written down, and saves a copy of them; autograd does the head.
            by_logits = log_probabilities.exp_()
            by_logits.scatter_add_(1, place, torch.full_like(place, -1.0, dtype=by_logits.dtype))
            (by_piece,) = torch.autograd.grad(logits, piece, by_logits.to(logits.dtype))
            gradient[start : start + CHUNK] = by_piece * counted
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0].to(gradient.dtype), None, None, None


def lm_loss_sum(hidden: Tensor, backbone: Backbone, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the summed next-token cross-entropy.

    Parameters
    ----------
    hidden
        ``(n, d)`` states from which the targets are predicted.
    backbone
        Makes logits of them.
    targets
        ``(n,)`` token ids.
    weights
        ``(n,)`` float32, of each target; None is 1 each.

    Returns
    -------
    Tensor
        A float32 scalar, in nats.
    """
    if torch.is_grad_enabled() and backbone.head_frozen:
        loss: Tensor = _FrozenHeadCrossEntropy.apply(hidden, backbone, targets, weights)  # type: ignore[no-untyped-call]
        return loss
    pieces = zip(torch.split(hidden, CHUNK), torch.split(targets, CHUNK), strict=True)
    if weights is None:
        return torch.stack([F.cross_entropy(backbone.logits(h).float(), t, reduction="sum") for h, t in pieces]).sum()
    each = torch.cat([F.cross_entropy(backbone.logits(h).float(), t, reduction="none") for h, t in pieces])
    return (each * weights).sum()
