"""What was injected and what was lost: collected while the tests run, said at their end, and kept as JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent

Injected = Callable[..., None]


@pytest.fixture
def injected(record_property: Callable[[str, Any], None]) -> Injected:
    """Note a fault, how often it was injected, what was lost by it, and what else is to be said."""

    def note(fault: str, times: int, lost: int, said: str = "") -> None:
        record_property("injected", {"fault": fault, "times": times, "lost": lost, "said": said})

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    called = [report for report in reports if getattr(report, "when", "") == "call"]
    lines = [line for report in called for name, line in report.user_properties if name == "injected"]
    if not lines:
        return
    terminalreporter.section("what was injected, and what was lost")
    for line in lines:
        lost = line["lost"] or "nothing"
        terminalreporter.line(f"{line['fault']:<62} {line['times']:>5} times   lost: {lost}   {line['said']}".rstrip())
    place = ROOT / "build" / "chaos.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount disks of some kilobytes; they are gone after the test."""
    mounted: list[Path] = []

    def mount(name: str, kilobytes: int = 512, *options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        how = ",".join([f"size={kilobytes}k", *options])
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", folder], check=True)
