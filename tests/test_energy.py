"""Joules of a cell: counters that wrap around, hardware that has none, what a record says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from grids import plan, registry_as_it_was, run
from hypothesis import given
from hypothesis import strategies as st

import dhrd_bench as db
from dhrd_bench.contracts import Predictions
from dhrd_bench.errors import UserError
from dhrd_bench.grid import energy
from dhrd_bench.grid.energy import CodeCarbon, Counters, Meter, Rapl, meter_of, nvml_counters, rapl_counters
from dhrd_bench.grid.perform import Performance
from dhrd_bench.grid.wire import answer, performance_of
from dhrd_bench.request import RunRequest
from dhrd_bench.results.schema import Energy

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

RANGE = 65_532_610_987


def zone(folder: Path, name: str, microjoules: int = 0, top: int = RANGE) -> Path:
    folder.mkdir(parents=True)
    for file, text in {"name": name, "energy_uj": str(microjoules), "max_energy_range_uj": str(top)}.items():
        (folder / file).write_text(f"{text}\n")
    return folder


def add(place: Path, microjoules: int, top: int = RANGE) -> None:
    """Draw so much: the counter begins anew at its range."""
    file, new = place / "energy_uj", place / "new"
    new.write_text(str((int(file.read_text()) + microjoules) % top))
    new.replace(file)  # a counter is never half written


# ---------------------------------------------------------------- counters


@given(st.integers(1, 10**6), st.data())
def test_a_counter_that_wraps_around_loses_nothing(top: int, data: st.DataObject) -> None:
    class Held(Rapl):
        value = data.draw(st.integers(0, top - 1))

        def __init__(self) -> None:
            self._range, self._last, self._total = top, self.value, 0

        def _read(self) -> int:
            return self.value % top

    counter = Held()
    drawn = data.draw(st.lists(st.integers(0, top - 1), max_size=20))
    for amount in drawn:
        counter.value += amount
        counter.joules()
    assert counter.joules() == sum(drawn) / 1e6


def test_packages_and_memory_are_counted_once(tmp_path: Path) -> None:
    names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "1:0": "uncore", "2": "psys"}
    zones = {number: zone(tmp_path / f"intel-rapl:{number}", name, 5) for number, name in names.items()}
    zone(tmp_path / "intel-rapl-mmio:0", "package-0")  # the same package by another way
    meter = Counters(rapl_counters(tmp_path))
    with meter.stretch() as found:
        for power, place in enumerate(zones.values()):
            add(place, 10**power * 1_000_000)
    assert found.joules == 1 + 100 + 1000
    assert meter.source == "rapl"


def test_what_cannot_be_read_is_no_counter(tmp_path: Path) -> None:
    assert rapl_counters(tmp_path / "none") == []
    zone(tmp_path / "intel-rapl:0", "package-0")
    bad = zone(tmp_path / "intel-rapl:1", "package-1")
    (bad / "energy_uj").write_text("no number")
    assert rapl_counters(tmp_path) == []  # half of a machine is no figure
    (bad / "energy_uj").unlink()
    assert rapl_counters(tmp_path) == []


def test_a_long_stretch_may_wrap_around_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "OFTEN", 0.005)
    place = zone(tmp_path / "intel-rapl:0", "package-0", top=1_000_000)
    counter = Rapl(place)
    seen: list[float] = []
    plain = counter.joules
    monkeypatch.setattr(counter, "joules", lambda: seen.append(plain()) or seen[-1])
    with Counters([counter]).stretch() as found:
        for _ in range(5):
            add(place, 900_000, top=1_000_000)
            heard, deadline = len(seen), time.monotonic() + 10
            while len(seen) < heard + 2 and time.monotonic() < deadline:  # one may have been under way
                time.sleep(0.002)
    assert found.joules == pytest.approx(4.5)


def test_a_counter_that_breaks_or_begins_anew_gives_no_figure(tmp_path: Path) -> None:
    place = zone(tmp_path / "intel-rapl:0", "package-0")
    meter = Counters(rapl_counters(tmp_path))
    with meter.stretch() as broken:
        (place / "energy_uj").unlink()
    assert broken.joules is None
    falling = iter([10.0, 4.0, 4.0, 5.0])
    again = Counters([SimpleNamespace(source="nvml", joules=lambda: next(falling))])
    with again.stretch() as first:
        pass
    with again.stretch() as second:
        pass
    assert (first.joules, second.joules) == (-6.0, 1.0)
    assert again.energy(first, second) is None
    assert again.energy(second, second) == Energy(source="nvml", train=1.0, test=1.0)


class FakeNvml(SimpleNamespace):
    """NVML of a machine with one card, which may have no counter."""

    class NVMLError(Exception):
        pass

    def __init__(self, millijoules: int | None) -> None:
        super().__init__(millijoules=millijoules, inits=0)

    def nvmlInit(self) -> None:
        self.inits += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-1234":
            raise self.NVMLError("not found")
        return "card"

    def nvmlDeviceGetTotalEnergyConsumption(self, card: str) -> int:
        if self.millijoules is None:
            raise self.NVMLError("not supported")
        return int(self.millijoules)


def test_a_card_tells_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(uuid="1234"))
    nvml = FakeNvml(7_000)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = Counters(nvml_counters("cuda:0"))
    with meter.stretch() as found:
        nvml.millijoules += 2_500
    assert (found.joules, meter.source) == (2.5, "nvml")
    assert nvml_counters("cpu") == []
    nvml.millijoules = None
    assert nvml_counters("cuda:0") == []
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(uuid="99"))
    assert nvml_counters("cuda:0") == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_counters("cuda:0") == []


# ---------------------------------------------------------------- an estimate


@pytest.mark.slow
def test_codecarbon_estimates_more_for_more() -> None:
    pytest.importorskip("codecarbon")
    meter = meter_of("codecarbon", "cpu")
    drawn = []
    for seconds in (0.5, 2.0):
        with meter.stretch() as found:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass
        drawn.append(found.joules)
    assert 0 < drawn[0] < drawn[1]
    assert meter.energy(found, found) == Energy(source="codecarbon", train=found.joules, test=found.joules)


def test_an_estimate_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown source of energy figures 'codecarbn'. Did you mean 'codecarbon'\?"):
        RunRequest(energy="codecarbn")
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(UserError, match=r"pip install 'dhrd-bench\[codecarbon\]'"):
        CodeCarbon()
    wanted = plan(tmp_path, methods="majority", energy="codecarbon", workers=2)
    with pytest.raises(UserError, match="cannot be told apart between processes"):
        run(wanted)


# ---------------------------------------------------------------- cells and records


def drawing(draw: Callable[[int], None]) -> str:
    """Register a method that draws 5 J while it is fitted and 2 J whenever it predicts."""

    @db.register
    class Drawing(db.Method):
        card = db.MethodCard(name="drawing", summary="s", objective="o", paper="none", inference="none", trains=False)

        def fit(self, task: db.TaskData, context: db.Context) -> None:
            draw(5_000_000)

        def predict(self, examples: list[db.Example], context: db.Context) -> Predictions:
            draw(2_000_000)
            return Predictions(labels=[0] * len(examples))

    return "drawing"


def test_a_record_says_what_fitting_and_predicting_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = zone(tmp_path / "powercap" / "intel-rapl:0", "package-0", RANGE - 1)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(energy, "nvml_counters", lambda device: [])  # a card here draws what nobody plans
    method = drawing(lambda amount: add(place, amount))
    wanted = plan(tmp_path / "results", methods=method, tasks="rte", seeds="1", isolation="none")
    (record,) = run(wanted)
    assert record.energy == Energy(source="rapl", train=5.0, test=2.0)  # the warm-up is neither
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    again = plan(tmp_path / "results", methods=method, tasks="rte", seeds="1", isolation="none", force=True)
    (bare,) = run(again)
    assert bare.energy is None
    assert bare.identity == record.identity


def test_joules_reach_another_process_and_come_back() -> None:
    for told in (None, Energy(source="rapl+nvml", train=3.5, test=0.25)):
        performance = Performance(Predictions(labels=[1, 0]), [(2.0, 0.1)], 0.5, told)
        assert performance_of(json.loads(json.dumps(answer(performance)))) == performance


def test_a_meter_that_knows_nothing_says_nothing() -> None:
    with Meter().stretch() as found:
        pass
    assert found.joules is None
    assert Meter().energy(found, found) is None
