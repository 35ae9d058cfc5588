"""What a device can do, and when it is done."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def fast_bfloat16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 in hardware."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        cpu: Any = torch.cpu
        return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())
    return False


def synchronise(device: str) -> None:
    """Wait until the device has finished."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Have a CUDA device add up in one order, so that a seed gives the same weights twice.

    What has no such way there (none that training uses is known) goes on as it is. A CPU needs nothing.
    """
    if device.type != "cuda":
        yield
        return
    on, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Dd]eterministic")
        torch.use_deterministic_algorithms(True, warn_only=True)
        settings.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(on, warn_only=warns)
            settings.fill_uninitialized_memory = fills
