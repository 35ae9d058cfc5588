"""Whether the device was ours while the clock ran."""

from __future__ import annotations

import os
import time
from pathlib import Path


class BusyMeter:
    """Measures how much of the processors others used between two moments.

    Linux only (``/proc/stat``); elsewhere `share` is 0 and nothing is claimed.
    """

    def __init__(self) -> None:
        self._all, self._own, self._wall = self._read()

    def share(self) -> float:
        """Return processor time of other processes since the start, as a share of what there was."""
        everything, own, wall = self._read()
        capacity = (wall - self._wall) * (os.cpu_count() or 1)
        if capacity <= 0:
            return 0.0
        return max(0.0, (everything - self._all) - (own - self._own)) / capacity

    @staticmethod
    def _read() -> tuple[float, float, float]:
        own = sum(os.times()[:4])
        try:
            fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        except OSError:
            return own, own, time.perf_counter()
        user, nice, system, _idle, _wait, irq, soft, steal = (float(field) for field in fields)
        ticks = os.sysconf("SC_CLK_TCK")
        return (user + nice + system + irq + soft + steal) / ticks, own, time.perf_counter()
