"""What a cell draws, in joules: the hardware's own counters where there are some, or an estimate that was asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dhrd_bench.errors import UserError
from dhrd_bench.request import EnergySource
from dhrd_bench.results.schema import Energy

POWERCAP = Path("/sys/class/powercap")
OFTEN = 30.0
"""Seconds within which counters are read once more: the smallest wrap around after 65 kJ, minutes of a large CPU."""


@dataclass
class Stretch:
    """What was drawn while something was done; None where that cannot be said."""

    joules: float | None = None


class Meter:
    """Measures stretches of work. This one knows nothing; those that do say where from."""

    source = ""

    @contextmanager
    def stretch(self) -> Iterator[Stretch]:
        """Yield what tells, after the block, what it drew. No trouble with it is the block's."""
        found = Stretch()
        with suppress(Exception):
            self.start()
        try:
            yield found
        finally:
            with suppress(Exception):
                found.joules = self.stop()

    def start(self) -> None:
        """Begin a stretch."""

    def stop(self) -> float | None:
        """Return the joules since `start`."""
        return None

    def energy(self, train: Stretch, test: Stretch) -> Energy | None:
        """Return what a record says of two stretches, if both were measured."""
        if train.joules is None or test.joules is None or min(train.joules, test.joules) < 0:
            return None  # below 0: a counter has begun anew
        return Energy(source=self.source, train=train.joules, test=test.joules)


# ---------------------------------------------------------------- counters


class Counter(Protocol):
    """Something in the hardware that adds up."""

    source: str

    def joules(self) -> float:
        """Return the sum by now, from a beginning of its own; it never falls."""


class Counters(Meter):
    """What some counters tell together. Whatever else runs on that hardware is counted, too."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters
        self.source = "+".join(dict.fromkeys(counter.source for counter in counters))
        self._lock, self._over, self._before = threading.Lock(), threading.Event(), 0.0

    def start(self) -> None:
        """Read the counters, and go on reading them."""
        self._before = self._sum()
        self._over = threading.Event()
        threading.Thread(target=self._watch, args=(self._over,), daemon=True).start()

    def stop(self) -> float:
        """Return what has been added."""
        self._over.set()
        return self._sum() - self._before

    def _sum(self) -> float:
        with self._lock:
            return sum(counter.joules() for counter in self._counters)

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(OFTEN):
            with suppress(Exception):  # `stop` meets it again, if it stays
                self._sum()


class Rapl:
    """One zone of the processor's running average power limit: a package, or the memory beside it.

    Parameters
    ----------
    zone
        Its folder below ``/sys/class/powercap``.

    Raises
    ------
    OSError
        If it cannot be read; most systems let root alone do that.
    """

    source = "rapl"

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last, self._total = self._read(), 0

    def joules(self) -> float:
        """Return the sum since this was made, if the counter has wrapped around once at most since it was read."""
        now = self._read()
        self._total, self._last = self._total + (now - self._last) % self._range, now
        return self._total / 1e6

    def _read(self) -> int:
        return int(self._file.read_text())


def rapl_counters(folder: Path) -> list[Rapl]:
    """Return the counters of all packages and of memory; none where one of them cannot be read.

    A package's cores are part of it, and ``psys`` is the whole platform, which few have.
    """
    try:
        named = [(zone, (zone / "name").read_text().strip()) for zone in sorted(folder.glob("intel-rapl:*"))]
        return [Rapl(zone) for zone, name in named if name.startswith("package") or name == "dram"]
    except (OSError, ValueError):
        return []


class Nvml:
    """A card's own counter, of the whole board since the driver was loaded."""

    source = "nvml"

    def __init__(self, nvml: Any, uuid: str) -> None:
        nvml.nvmlInit()
        self._nvml, self._card = nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)

    def joules(self) -> float:
        """Return the counter, which is in millijoules."""
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._card)) / 1000


def nvml_counters(device: str) -> list[Nvml]:
    """Return the counter of the CUDA card `device`; none for another device, without one or without its library."""
    if not device.startswith("cuda"):
        return []
    import torch

    try:
        import pynvml
    except ImportError:
        return []
    try:
        card = Nvml(pynvml, f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        card.joules()  # cards before Volta have none, nor have parts of a card
    except pynvml.NVMLError:
        return []
    return [card]


# ---------------------------------------------------------------- an estimate


class CodeCarbon(Meter):
    """CodeCarbon's estimate for processor, memory and cards, from their loads where it finds no counter.

    Raises
    ------
    UserError
        If it is not installed.
    """

    source = "codecarbon"

    def __init__(self) -> None:
        try:
            from codecarbon import OfflineEmissionsTracker
        except ImportError as error:
            raise UserError(
                f"CodeCarbon cannot be imported ({error}).", "pip install 'dhrd-bench[codecarbon]'"
            ) from error
        # It wants a country, on which emissions depend and energy does not.
        self._tracker = OfflineEmissionsTracker(country_iso_code="USA", output_methods=[], log_level="critical")

    def start(self) -> None:
        """Begin a task of the tracker's."""
        self._tracker.start_task()

    def stop(self) -> float:
        """Return the task's energy, which is in kWh."""
        return float(self._tracker.stop_task().energy_consumed) * 3.6e6


def meter_of(source: EnergySource, device: str) -> Meter:
    """Return what measures as was asked for while a method works on `device`.

    Raises
    ------
    UserError
        If the estimate was asked for and cannot be had.
    """
    if source == "codecarbon":
        return CodeCarbon()
    counters: list[Counter] = [*rapl_counters(POWERCAP), *nvml_counters(device)]
    return Counters(counters) if counters else Meter()
