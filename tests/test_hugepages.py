"""Huge pages: when a process asks for them, and that it then has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dhrd_bench import hugepages
from dhrd_bench.__main__ import program

ON_REQUEST = "always [madvise] never\n"
GIVEN = """
import torch
kept = torch.ones(64 << 20, dtype=torch.uint8)
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("AnonHugePages")))
"""


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system of which a test says how it gives huge pages, for a process that has not asked."""
    monkeypatch.setattr(hugepages, "_POLICY", tmp_path / "enabled")
    monkeypatch.setattr(hugepages, "_is_glibc", lambda: True)
    for name in (hugepages.VARIABLE, "DHRD_STARTED_AGAIN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "enabled"


@pytest.mark.parametrize(
    ("text", "asks", "has"),
    [(ON_REQUEST, True, False), ("[always] madvise never", False, True), ("always madvise [never]", False, False)],
)
def test_they_are_asked_for_where_they_are_given_on_request(policy: Path, text: str, asks: bool, has: bool) -> None:
    policy.write_text(text)
    assert bool(hugepages.asking()) == asks
    assert hugepages.given() == has


def test_a_system_without_them_and_a_user_who_decided_are_left_alone(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not hugepages.asking()  # no such file: another system
    policy.write_text(ON_REQUEST)
    monkeypatch.setattr(hugepages, "_is_glibc", lambda: False)
    assert not hugepages.asking()
    monkeypatch.setattr(hugepages, "_is_glibc", lambda: True)
    monkeypatch.setenv(hugepages.VARIABLE, "")
    assert not hugepages.asking()
    assert not hugepages.given()
    monkeypatch.setenv(hugepages.VARIABLE, "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1")
    assert hugepages.given()
    monkeypatch.setattr(hugepages, "_is_glibc", lambda: False)
    assert not hugepages.given()  # another library does not know the variable


@pytest.mark.skipif(not (hugepages.asking() or hugepages.given()), reason="this system gives no huge pages")
def test_a_process_that_asks_has_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GIVEN], capture_output=True, text=True, check=True, env=os.environ | hugepages.asking()
    )
    assert int(done.stdout) >= 32 << 10


@pytest.fixture
def starts(policy: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The surroundings of each start of another program, of which none takes place."""
    policy.write_text(ON_REQUEST)
    seen: list[dict[str, str]] = []

    def refuse(_: str, __: list[str], environment: dict[str, str]) -> None:
        seen.append(environment)
        raise FileNotFoundError

    monkeypatch.setattr(os, "execve", refuse)
    monkeypatch.setattr("dhrd_bench.cli.main", lambda: None)
    return seen


@pytest.mark.parametrize("words", [[], ["--help"], ["run", "-h"], ["--version"]])
def test_what_ends_at_once_is_not_started_again(
    words: list[str], starts: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["dhrd-bench", *words])
    program()
    assert not starts


def test_a_start_that_fails_or_is_of_no_effect_is_not_tried_again(
    starts: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python with privileges starts without the variable, whatever it was given."""
    monkeypatch.setattr(sys, "argv", ["dhrd-bench", "list"])
    program()
    (environment,) = starts
    for name in set(environment) - {hugepages.VARIABLE}:
        monkeypatch.setenv(name, environment[name])
    program()
    assert len(starts) == 1


@pytest.mark.parametrize("decided", [False, True])
def test_the_program_starts_once_more_to_have_them(decided: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (hugepages.VARIABLE, "DHRD_STARTED_AGAIN"):
        monkeypatch.delenv(name, raising=False)
    expected = bool(hugepages.asking() and not decided) or "[always]" in hugepages._policy()
    if decided:
        monkeypatch.setenv(hugepages.VARIABLE, "")
    done = subprocess.run([sys.executable, "-m", "dhrd_bench", "doctor", "--json"], capture_output=True, text=True)
    assert json.loads(done.stdout)["device"]["huge_pages"] == expected
    wrong = subprocess.run([sys.executable, "-m", "dhrd_bench", "rum"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "No such command" in wrong.stderr
