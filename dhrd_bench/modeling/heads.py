"""The classification head."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

HeadKind = Literal["mlp", "linear", "unbiased"]


def classification_head(kind: HeadKind, width: int, classes: int, seed: int) -> nn.Sequential:
    """Return a float32 head from a pooled state ``(n, d)`` to logits ``(n, K)``.

    ``mlp`` is the paper's two-layer MLP; the paper leaves its width, activation and dropout open, and
    here they are d, GELU and 0.1. ``unbiased`` is one layer without a bias, as the sequence classifiers of
    transformers have it. The initial values come from `seed` alone, so that two methods with the same seed start
    from the same head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind != "mlp":
            return nn.Sequential(nn.Linear(width, classes, bias=kind == "linear"))
        return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, classes))
