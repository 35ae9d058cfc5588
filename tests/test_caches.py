"""What lies in the cache folder is used as it was written, or made anew: backbones, fitted methods, calibrations."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError

from dhrd_bench.backbones import Backbone, gguf, load, resolve
from dhrd_bench.backbones.gguf import COMPLETE, converted
from dhrd_bench.backbones.loading import load_fresh, settle
from dhrd_bench.backbones.location import locate
from dhrd_bench.contracts import Budget
from dhrd_bench.errors import UserError
from dhrd_bench.grid import estimate
from dhrd_bench.grid.estimate import KEPT, Rates, kept_rates
from dhrd_bench.results.checksum import with_checksum, without_checksum


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---------------------------------------------------------------- converted backbones


class Conversions:
    """Conversions of a stand-in for a GGUF file; the tiny backbone comes out."""

    def __init__(self, tiny: Backbone, source: Path) -> None:
        self.tiny, self.source, self.count = tiny, source, 0
        source.write_bytes(b"GGUF")

    def convert(self, source: Path, folder: Path) -> None:
        assert source == self.source
        assert not list(folder.iterdir()), "nothing of the damaged one is left"
        self.count += 1
        self.tiny.model.save_pretrained(folder)
        self.tiny.tokenizer.save_pretrained(folder)
        complete = {"source": source.name, "files": gguf.file_digests(folder)}
        (folder / COMPLETE).write_text(json.dumps(complete))

    def weights(self) -> bytes:
        folder = converted(self.source)
        for path in folder.iterdir():  # as if it had been written a while ago
            if path.stat().st_mtime > 1e9 + 10:
                os.utime(path, (1e9, 1e9))
        return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def conversions(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conversions:
    made = Conversions(tiny, tmp_path / "small.gguf")
    monkeypatch.setattr(gguf, "_convert", made.convert)
    return made


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(255 - byte for byte in content[middle : middle + 4096])
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, 1000),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "gone": Path.unlink,
}


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_conversion_is_named_and_done_again(
    conversions: Conversions, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    whole = conversions.weights()
    folder = converted(conversions.source)
    assert conversions.count == 1
    DAMAGE[damage](folder / name)
    assert conversions.weights() == whole
    assert conversions.count == 2
    (told,) = caplog.messages
    assert str(folder) in told
    assert name in told
    assert "converted anew" in told
    assert conversions.weights() == whole
    assert conversions.count == 2, "and then it is as it should be"


def test_damage_that_changes_neither_size_nor_time_is_found(
    conversions: Conversions, caplog: pytest.LogCaptureFixture
) -> None:
    """So does a disk that loses a bit."""
    whole = conversions.weights()
    weights = converted(conversions.source) / "model.safetensors"
    before = weights.stat()
    flip(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert conversions.weights() == whole
    assert conversions.count == 2
    assert "model.safetensors" in caplog.text


def test_a_conversion_that_the_disk_has_no_room_for_leaves_nothing(
    conversions: Conversions, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(gguf, "_convert", full)
    with pytest.raises(UserError, match=r"Cannot convert the backbone into the cache .*No space left"):
        converted(conversions.source)
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize("content", [None, "", "[]", '{"source": "small.gguf", "bytes": 4}'])
def test_an_unfinished_or_unsigned_conversion_is_done_again(conversions: Conversions, content: str | None) -> None:
    """It was killed half-way, or is of a release that kept no digests."""
    folder = converted(conversions.source)
    (folder / COMPLETE).unlink() if content is None else (folder / COMPLETE).write_text(content)
    converted(conversions.source)
    assert conversions.count == 2


def test_a_cache_that_cannot_be_written_is_named(
    conversions: Conversions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"Cannot convert the backbone into the cache .*Set DHRD_CACHE"):
        converted(conversions.source)


@pytest.mark.slow
def test_flipped_weights_of_smollm2_change_no_outcome(cache: Path) -> None:
    card = settle(resolve("smollm2-135m[dtype=float32,device=cpu]"))
    ids = torch.arange(40, 60)
    before = load_fresh(card).hidden(ids, [20])
    (weights,) = (cache / "backbones").rglob("model.safetensors")
    flip(weights)
    assert torch.equal(load_fresh(card).hidden(ids, [20]), before)


def test_damaged_weights_of_a_local_folder_are_a_line(tiny: Backbone, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    os.truncate(folder / "model.safetensors", 1000)
    with pytest.raises(UserError, match="'mine' could not be loaded"):
        load(resolve(f"{folder}[dtype=float32,device=cpu]"))


def test_a_hub_that_cannot_be_reached_is_left_to_loading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client's HTTP library has errors of its own, which are no `OSError`."""

    class ConnectError(Exception):
        pass

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", Mock(side_effect=ConnectError("Name not known")))
    location = locate(resolve("qwen3-0.6b"))
    assert (location.kind, location.revision) == ("hub", "main")


# ---------------------------------------------------------------- calibrations


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tunings that were calibrated, in order; each calibration gives other rates."""
    calls: list[str] = []

    def calibrate(_: Backbone, budget: Budget) -> Rates:
        calls.append(budget.tuning)
        return Rates(len(calls), 1.0, 2.0, 0.0, 3.0)

    monkeypatch.setattr(estimate, "calibrate", calibrate)
    return calls


def test_a_calibration_is_kept_by_budget(tiny: Backbone, budget: Budget, measured: list[str]) -> None:
    first = kept_rates(tiny, budget)
    assert kept_rates(tiny, budget) == first
    other = kept_rates(tiny, budget.model_copy(update={"tuning": "full"}))
    assert other != first
    assert measured == ["top:1", "full"]


def test_a_calibration_grows_old(tiny: Backbone, budget: Budget, measured: list[str], cache: Path) -> None:
    first = kept_rates(tiny, budget)
    (file,) = (cache / "calibrations").iterdir()
    kept = json.loads(without_checksum(file.read_bytes()))
    for age, calls in ((KEPT / 2, 1), (KEPT + timedelta(hours=1), 2)):
        file.write_text(with_checksum(json.dumps(kept | {"measured": (datetime.now(UTC) - age).isoformat()})))
        assert (kept_rates(tiny, budget) == first) == (calls == 1)
        assert len(measured) == calls


@pytest.mark.parametrize(
    "change", [{"rates": {"forward": 1}}, {"rates": 3}, {"measured": "yesterday"}, {"measured": "2026-01-01"}, None]
)
def test_a_corrupt_calibration_is_measured_again(
    tiny: Backbone, budget: Budget, measured: list[str], cache: Path, change: dict[str, Any] | None
) -> None:
    kept_rates(tiny, budget)
    (file,) = (cache / "calibrations").iterdir()
    kept = json.loads(without_checksum(file.read_bytes()))
    file.write_text("no JSON" if change is None else with_checksum(json.dumps(kept | change)))
    kept_rates(tiny, budget)
    assert len(measured) == 2


def test_a_calibration_that_cannot_be_kept_fails_nothing(
    tiny: Backbone, budget: Budget, measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "file"))
    assert kept_rates(tiny, budget).decode == 3.0
