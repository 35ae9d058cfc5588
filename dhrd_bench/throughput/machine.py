"""Whether the device was ours while the clock ran."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class ProcessorTimes:
    """Processor seconds used on the whole machine and by this process and its children, at a time `wall`."""

    machine: float
    process: float
    wall: float

    @classmethod
    def now(cls) -> ProcessorTimes:
        """Read the counters."""
        machine = psutil.cpu_times()._asdict()
        # Time waiting for a disk is idle time, and that of guests is in the host's figures already.
        unused = sum(machine.get(kind, 0.0) for kind in ("idle", "iowait", "guest", "guest_nice"))
        return cls(sum(machine.values()) - unused, sum(os.times()[:4]), time.perf_counter())


class BusyMeter:
    """Measures how much of the processors others used since it was made."""

    def __init__(self) -> None:
        self._started = ProcessorTimes.now()

    def share(self) -> float:
        """Return processor time of other processes since the start, as a share of what there was."""
        start, now = self._started, ProcessorTimes.now()
        capacity = (now.wall - start.wall) * (os.cpu_count() or 1)
        if capacity <= 0:
            return 0.0
        return max(0.0, (now.machine - start.machine) - (now.process - start.process)) / capacity
