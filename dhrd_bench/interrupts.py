"""Ctrl-C: the first one ends what is under way in good order, and cannot be lost; the second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that was interrupted, as a shell has it."""

_SHOW_CURSOR = "\x1b[?25h"


def always() -> bool:
    """Go on until there is nothing left to do."""
    return True


@contextmanager
def remembered_interrupts() -> Iterator[Callable[[], None]]:
    """Remember an interrupt beside raising it where the program stands; yield what raises it again.

    `KeyboardInterrupt` is raised wherever the main thread is, and is lost where that is a ``__del__``, a callback of
    a library in C, or a method's bare ``except``. A loop that calls what is yielded ends all the same.
    """
    seen = False

    def check() -> None:
        if seen:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # Not ours to hear: another thread than the main one, or a shell's background job, which is to outlive Ctrl-C.
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield check
        return

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen = True
        before(number, frame)

    with _handling(remember):
        try:
            yield check
        except Exception as error:
            if seen:  # a library in C that calls Python, as pydantic's serialiser, tells of it as an error of its own
                raise KeyboardInterrupt from error
            raise


@contextmanager
def second_interrupt_leaves() -> Iterator[None]:
    """Leave the program at a second interrupt, whatever it is doing: for a command, not for a notebook.

    Processes of its own end with it, see `dhrd_bench.grid.landlock.end_with_parent`.
    """
    interrupted = False
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            if sys.stdout.isatty():  # bars have hidden it
                os.write(sys.stdout.fileno(), _SHOW_CURSOR.encode())
            os._exit(INTERRUPTED)
        interrupted = True
        signal.default_int_handler(number, frame)

    try:
        with _handling(leave):
            yield
    finally:
        if interrupted:  # the program is leaving: a second one must not change its exit code on the way out
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
