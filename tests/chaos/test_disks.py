"""Disks that are full or cannot be written: one line, nothing half-written, and with room the same command goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from chaos.conftest import Injected
from chaos.runs import call, call_apart, command, lost, one_line, outcomes

pytestmark = pytest.mark.chaos

SmallDisk = Callable[..., Path]
FILLING = "filling"


def fill(disk: Path, leave: int) -> None:
    """Fill `disk` but for so many kilobytes."""
    with suppress(OSError):
        (disk / FILLING).write_bytes(bytes(1 << 24))
    taken = (disk / FILLING).stat().st_size
    with (disk / FILLING).open("r+b") as stream:
        stream.truncate(max(0, taken - leave * 1024))


def test_records_that_the_disk_has_no_room_for(tmp_path: Path, small_disk: SmallDisk, injected: Injected) -> None:
    disk, cache = small_disk("disk"), tmp_path / "cache"
    wanted = ("majority,cot",)
    assert call(command(tmp_path / "whole", *wanted, seeds="4"), cache).returncode == 0
    whole, gone = outcomes(tmp_path / "whole"), 0
    rooms = (0, 24, 40)
    for room in rooms:
        fill(disk, room)
        before = outcomes(disk / "out") if (disk / "out").exists() else {}
        said = one_line(call(command(disk / "out", *wanted, seeds="4"), cache))
        assert "No space left on device" in said
        assert not list(disk.rglob("*.tmp"))
        kept = outcomes(disk / "out") if (disk / "out").exists() else {}
        gone += lost(kept, before)
        assert all(whole[cell] == came_out for cell, came_out in kept.items())
        assert len(kept) < len(whole)
    assert kept, "some had room"
    (disk / FILLING).unlink()
    assert call(command(disk / "out", *wanted, seeds="4"), cache).returncode == 0
    gone += lost(outcomes(disk / "out"), whole)
    injected("disk full while records are written", len(rooms), gone)
    assert not gone


def test_fitted_methods_that_the_disk_has_no_room_for(
    tmp_path: Path, small_disk: SmallDisk, injected: Injected
) -> None:
    disk = small_disk("cache", 4096)
    words = command(tmp_path / "out", "majority,pooled", "--throughput", "offline", tasks="copa", seeds="2")
    fill(disk, 120)
    said = one_line(call(words, disk))
    assert "No space left on device" in said
    assert str(disk / "fitted") in said
    before = outcomes(tmp_path / "out")
    assert before, "what was finished has its record"
    assert all((folder / "complete.json").is_file() for folder in (disk / "fitted").iterdir())
    (disk / FILLING).unlink()
    done = call(words, disk)
    assert done.returncode in (0, 1), done.stderr  # 1: a figure that is not fit to be quoted
    after = outcomes(tmp_path / "out")
    missing = lost(after, before)
    injected("disk full while a fitted method is kept", 1, missing)
    assert not missing
    assert len(after) == 4
    assert len(list((disk / "fitted").iterdir())) == 4
    assert list((tmp_path / "out").rglob("throughput/*/*.json"))


def test_a_cache_that_is_full_costs_time_and_nothing_else(
    tmp_path: Path, small_disk: SmallDisk, injected: Injected
) -> None:
    disk = small_disk("cache")
    fill(disk, 0)
    done = call(command(tmp_path / "out", "majority,pooled"), disk)
    assert (done.returncode, done.stderr) == (0, "")
    injected("disk of the cache full", 1, 8 - len(outcomes(tmp_path / "out")))
    assert len(outcomes(tmp_path / "out")) == 8


def test_a_worker_that_has_no_room_costs_its_cells(tmp_path: Path, small_disk: SmallDisk, injected: Injected) -> None:
    disk = small_disk("scratch", 4096)
    words = command(tmp_path / "out", "majority,pooled", "--workers", "2", "--throughput", "offline", seeds="1")
    fill(disk, 120)
    done = call_apart(words, tmp_path / "cache", TMPDIR=str(disk))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stdout
    assert {method for _, method, _ in outcomes(tmp_path / "out")} == {"majority"}
    (disk / FILLING).unlink()
    assert call_apart(words, tmp_path / "cache", TMPDIR=str(disk)).returncode in (0, 1)
    injected("disk of the workers full", 1, 4 - len(outcomes(tmp_path / "out")))
    assert len(outcomes(tmp_path / "out")) == 4


@pytest.mark.parametrize("nested", ["", "mini7/tiny"])
def test_a_results_folder_that_cannot_be_written_is_told_before_work(
    tmp_path: Path, small_disk: SmallDisk, injected: Injected, nested: str
) -> None:
    small_disk(f"out/{nested}", 64, "ro")
    done = call(command(tmp_path / "out", "pooled"), tmp_path / "cache")
    said = one_line(done)
    assert "is not writable" in said
    assert str(tmp_path / "out") in said
    assert "to run" not in done.stdout
    injected(f"results folder {nested} read-only".replace("  ", " "), 1, 0)
