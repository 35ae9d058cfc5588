"""Several processes that take one optimiser step together, each with a part of its rows.

Every process holds the whole model and draws the same numbers but for dropout. Gradients are summed over the processes
before they are clipped and used, so a step is that of one process, to rounding. A process that is alone needs nothing
of this: its part is the whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from dhrd_bench.modeling.encode import Row


def join(rank: int, processes: int, rendezvous: Path, *, cpu: bool) -> None:
    """Become number `rank` of so many processes on this machine, which find each other by the file `rendezvous`.

    On GPUs each has the one of its number.
    """
    # What accelerate reads, as torchrun and its own launcher say it.
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's own name may be none that it can reach itself by
    threads = torch.get_num_threads()
    from accelerate import PartialState

    PartialState(cpu=cpu, init_method=f"file://{rendezvous}", rank=rank, world_size=processes)
    torch.set_num_threads(threads)  # as the harness has shared them out


def rank() -> int:
    """Return the number of this process; 0 if it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def part(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows of a step that are this process's, about as many tokens as each of the others'."""
    if not distributed.is_initialized():
        return rows
    return sorted(rows, key=lambda row: -len(row.ids))[distributed.get_rank() :: distributed.get_world_size()]


def summed(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the loss of all processes, ``()``, and make every gradient that of all."""
    if not distributed.is_initialized():
        return loss
    from accelerate.utils import reduce

    for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
        own = [parameter for parameter in parameters if parameter.dtype == dtype]
        for parameter in own:
            if parameter.grad is None:  # none of its rows came here
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in own if parameter.grad is not None]
        whole = reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="sum")
        for gradient, piece in zip(gradients, whole.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))
    total: Tensor = reduce(loss, reduction="sum")
    return total
