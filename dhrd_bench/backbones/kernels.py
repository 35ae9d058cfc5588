"""Kernels in Triton, which comes with PyTorch for cards. Import it where Triton is installed."""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _gated(gate, up, out, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    g = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, g / (1.0 + tl.exp(-g)) * u, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rotate(states, cos, sin, heads, most: tl.constexpr, half: tl.constexpr):  # type: ignore[no-untyped-def]
    token = tl.program_id(0).to(tl.int64)
    head, place = tl.arange(0, most)[:, None], tl.arange(0, half)[None, :]
    # Both halves of a head have the same angles.
    c = tl.load(cos + token * 2 * half + place).to(tl.float32)
    s = tl.load(sin + token * 2 * half + place).to(tl.float32)
    first = states + (token * heads + head) * 2 * half + place
    inside = (head < heads) & (place < half)
    a = tl.load(first, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(first + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(first, a * c - b * s, mask=inside)
    tl.store(first + half, b * c + a * s, mask=inside)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up`` of two tensors of one shape."""
    gate, up = gate.contiguous(), up.contiguous()
    out, count = torch.empty_like(gate), gate.numel()
    _gated[(triton.cdiv(count, ELEMENTS),)](gate, up, out, count, block=ELEMENTS)
    return out


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate `states` ``(1, T, H, D)`` in place by angles of these `cos` and `sin`, ``(1, T, D)``; D a power of two."""
    _, tokens, heads, width = states.shape
    _rotate[(tokens,)](
        states, cos.contiguous(), sin.contiguous(), heads, most=triton.next_power_of_2(heads), half=width // 2
    )


def check(device: str = "cuda") -> None:
    """Compute a little and compare.

    Raises
    ------
    ArithmeticError
        If a kernel does not compute what it should.
    """
    generator = torch.Generator().manual_seed(0)
    gate, up, states = (torch.randn(1, 5, 3, 16, generator=generator).to(device) for _ in range(3))
    angles = torch.randn(1, 5, 8, generator=generator).repeat(1, 1, 2).to(device)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.cat((-states[..., 8:], states[..., :8]), dim=-1)
    pairs = [(gated(gate, up), F.silu(gate) * up), (states, states * cos[:, :, None] + turned * sin[:, :, None])]
    rotate(states, cos, sin)
    if not all(torch.allclose(found, right, rtol=1e-4, atol=1e-5) for found, right in pairs):
        raise ArithmeticError("the kernels compute something else")
