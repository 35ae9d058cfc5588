"""How much of the machine a figure uses."""

from __future__ import annotations

import time
from functools import cache

import torch

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.device import synchronise
from dhrd_bench.backbones.fourbit import numbers

ROWS = {"cpu": 1024, "cuda": 16384}
"""Tokens of the matrix product that stands for the machine's best."""


@cache
def peak_flops(device: str, dtype: torch.dtype, width: int, inner: int, repeats: int = 15) -> float:
    """Return FLOP/s of a product of the backbone's MLP shape: the best of `repeats`, as a roofline is a bound."""
    rows = ROWS.get(device.partition(":")[0], ROWS["cpu"])
    a = torch.randn(rows, width, device=device).to(dtype)
    b = torch.randn(inner, width, device=device).to(dtype)
    times = []
    with torch.inference_mode():
        for _ in range(repeats):
            started = time.perf_counter()
            torch.nn.functional.linear(a, b)
            synchronise(device)
            times.append(time.perf_counter() - started)
    return 2 * rows * width * inner / min(times)


def peak_of(backbone: Backbone) -> float:
    """Return FLOP/s that this machine reaches on the backbone's largest product."""
    inner = getattr(backbone.trunk.config, "intermediate_size", None) or 4 * backbone.width  # GPT-2 leaves it open
    return peak_flops(str(backbone.device), backbone.dtype, backbone.width, int(inner))


def model_flops(backbone: Backbone, tokens_in: int, tokens_out: int) -> float:
    """Return the floating-point operations of reading and writing so many tokens.

    Two a weight and token over the blocks, and over the LM head for each generated token; attention
    scores, which are small at these lengths, are left out.
    """
    blocks = sum(map(numbers, backbone.blocks.parameters()))
    head = backbone.head_weight.numel() if tokens_out else 0  # an encoder has none
    return float(2 * (blocks * (tokens_in + tokens_out) + head * tokens_out))
