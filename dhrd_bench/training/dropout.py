"""Dropout whose mask costs little on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """Inverted dropout with masks from 16 random bits an element.

    PyTorch draws a double an element on the CPU, one after the other, a good part of a LoRA step. The
    share dropped is `p` rounded to 1/65,536, and what is kept is scaled by exactly the share kept, so the
    expected output is the input. The masks follow ``torch.manual_seed``: the first one drawn takes its
    seed from there.

    Parameters
    ----------
    p
        Share of the elements that are set to zero while training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = round(p * _LEVELS)
        self._bits: np.random.SFC64 | None = None

    def forward(self, states: Tensor) -> Tensor:
        """Return `states` with some elements zero and the others scaled up; as they are outside training."""
        if not self.training or not self.dropped:
            return states
        if self._bits is None:
            self._bits = np.random.SFC64(int(torch.randint(1 << 62, ()).item()))
        count = states.numel()
        # One raw number holds the bits of four elements.
        bits = self._bits.random_raw(-(-count // 4)).view(np.uint16)[:count]
        keep = torch.from_numpy(bits >= self.dropped).view(states.shape)
        return states * keep.to(states.dtype).mul_(_LEVELS / (_LEVELS - self.dropped))
