"""Ctrl-C: wherever it is swallowed, the run ends; a second one ends it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grids import plan, registry_as_it_was, run
from pydantic import BaseModel, field_serializer

from dhrd_bench.interrupts import remembered_interrupts
from dhrd_bench.results.store import read_records

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses


@pytest.fixture(autouse=True)
def interrupts_as_python_has_them() -> Iterator[None]:
    """A shell's background job ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    """Interrupt this process, and stay here until that is noticed."""
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1_000_000):
        pass


class Swallows:
    def __del__(self) -> None:
        interrupt()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_is_swallowed_is_raised_at_the_next_check() -> None:
    with remembered_interrupts() as check:
        check()
        Swallows()
        with pytest.raises(KeyboardInterrupt):
            check()


def test_an_interrupt_is_raised_where_the_program_stands() -> None:
    with pytest.raises(KeyboardInterrupt), remembered_interrupts():
        interrupt()


def test_an_interrupt_that_a_library_turns_into_its_own_error_is_one_all_the_same() -> None:
    class Interrupted(BaseModel):
        value: int = 0

        @field_serializer("value")
        def slow(self, value: int) -> int:
            interrupt()
            return value

    with pytest.raises(KeyboardInterrupt), remembered_interrupts():
        Interrupted().model_dump_json()
    with pytest.raises(ZeroDivisionError), remembered_interrupts():
        raise ZeroDivisionError


def test_what_ignores_interrupts_goes_on_ignoring_them() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with remembered_interrupts() as check:
            interrupt()
            check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_method_that_swallows_an_interrupt_ends_the_run_behind_its_cell(tmp_path: Path) -> None:
    import dhrd_bench as db

    @db.register
    class Deaf(db.method("majority")):  # type: ignore[misc]
        card = db.method("majority").card.model_copy(update={"name": "deaf", "role": "method"})

        def fit(self, task: Any, context: Any) -> None:
            try:
                interrupt()
            except BaseException:
                super().fit(task, context)

    with pytest.raises(KeyboardInterrupt):
        run(plan(tmp_path, methods="deaf", isolation="none"))
    records, _ = read_records(tmp_path)
    assert [record.status for record in records] == ["ok"]


STUBBORN = """
import sys, time
from dhrd_bench.interrupts import second_interrupt_leaves
with second_interrupt_leaves():
    for patience in (60, 0):
        try:
            print("ready", flush=True)
            time.sleep(60)
        except BaseException:
            pass
"""


def test_a_second_interrupt_leaves_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
