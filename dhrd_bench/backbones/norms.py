"""RMS norms in one kernel.

The library's own is some six passes over the states in float32, each a launch; on a card that is a good part of all
work beside the matrix products. The fused one computes in float32, too, and rounds once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fuse_norms(model: nn.Module) -> None:
    """Let the plain RMS norms of `model` run as one kernel; see `split_norms` for the way back."""
    for module in model.modules():
        kind: Any = type(module)
        if kind.__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and not hasattr(kind, "plain"):
            module.__class__ = _fused(kind)


def split_norms(model: nn.Module) -> None:
    """Undo `fuse_norms`."""
    for module in model.modules():
        kind: Any = type(module)
        if hasattr(kind, "plain"):
            module.__class__ = kind.plain


@cache
def _fused(kind: Any) -> Any:
    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        """Norm over the last axis; the library's way where weight and states differ in dtype, as in training."""
        if self.weight.dtype != hidden_states.dtype:
            plain: Tensor = kind.forward(self, hidden_states)
            return plain
        with torch.autocast(hidden_states.device.type, enabled=False):
            return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)

    # Not part of the model's identity: what is saved or copied carries the library's class name.
    return type(kind.__name__, (kind,), {"forward": forward, "plain": kind, "__module__": kind.__module__})
