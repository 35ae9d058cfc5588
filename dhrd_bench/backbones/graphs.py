"""CUDA graphs: a computation of fixed shapes, recorded once and then launched as a whole.

A training or decoding step of a small model is thousands of short kernels, and Python takes longer to launch them
than the device to run them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

Out = TypeVar("Out")


class Graphs(Generic[Out]):
    """Computations by shape: run plainly the first time, recorded the second, replayed from then on.

    The first run is what settles workspaces and memory, as recording asks for. Elsewhere than on CUDA every
    call runs plainly.

    Parameters
    ----------
    device
        Where they run.
    limit
        Recordings kept; further shapes run plainly.
    on
        False runs everything plainly.
    """

    def __init__(self, device: torch.device, limit: int = 24, *, on: bool = True) -> None:
        self.device, self.limit = device, limit
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Out]] = {}
        self._on = on and device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._on else None  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if self._on else None

    @property
    def on(self) -> bool:
        """Whether computations are recorded here."""
        return self._on

    def run(self, key: Hashable, compute: Callable[[], Out]) -> Out:
        """Return what `compute` returns.

        Parameters
        ----------
        key
            What tells its shapes and Python branches apart from others.
        compute
            It reads and writes tensors that stay where they are, waits for nothing, and draws random numbers from
            the device's generator only. What it returns holds until the next run.
        """
        if self._stream is None:
            return compute()
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            out = self._run(key, compute)
        current.wait_stream(self._stream)
        return out

    def _run(self, key: Hashable, compute: Callable[[], Out]) -> Out:
        if key not in self._seen or (key not in self._recorded and len(self._recorded) >= self.limit):
            self._seen.add(key)
            return compute()
        if key not in self._recorded:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                out = compute()
            self._recorded[key] = graph, out
        graph, out = self._recorded[key]
        graph.replay()
        return out
