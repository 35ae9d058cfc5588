"""Showing how far the timings are: bars on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from dhrd_bench.grid.progress import progress_bars, time_left

QUIET_SECONDS = 30.0
"""A log hears from a timing that goes on no more often than this."""


class Lines:
    """A line a timing, and one now and then while it goes on, with the time left.

    Parameters
    ----------
    console
        Where to print.
    total
        Timings to come.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.done = console, total, 0
        self.started = self.begun = self.said = time.perf_counter()
        self.name = ""

    def begin(self, name: str) -> None:
        """Name what is done next: a fit or a timing."""
        self.name = name
        self.begun = self.said = time.perf_counter()

    def step(self, done: int, total: int) -> None:
        """Show how far it has come."""
        if done < total and time.perf_counter() - self.said >= QUIET_SECONDS:
            self.said = time.perf_counter()
            self.say(f"{self.name}: {done}/{total}{time_left(self.begun, done, total)}")

    def end(self) -> None:
        """Say that a timing is finished."""
        self.done += 1
        seconds = time.perf_counter() - self.begun
        left = time_left(self.started, self.done, self.total)
        self.say(f"{self.done}/{self.total}  {self.name}  ({seconds:.0f} s{left})")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)


class Bars(Lines):
    """A bar for all timings and one for what is under way, lines scrolling above them."""

    def __init__(self, console: Console, total: int, bars: Progress) -> None:
        super().__init__(console, total)
        self.bars = bars
        self.all = bars.add_task("timings", total=total, figures="")
        self.current = bars.add_task("", total=None, figures="")

    def begin(self, name: str) -> None:
        """Point the lower bar at it."""
        super().begin(name)
        self.bars.reset(self.current, description=escape(name), total=None)

    def step(self, done: int, total: int) -> None:
        """Move the lower bar."""
        self.bars.update(self.current, completed=done, total=total)

    def end(self) -> None:
        """Move the upper bar."""
        super().end()
        self.bars.update(self.all, completed=self.done)


@contextmanager
def show_timings(console: Console, total: int) -> Iterator[Lines]:
    """Yield the display that fits `console`."""
    if not console.is_terminal:
        yield Lines(console, total)
        return
    with progress_bars(console) as bars:
        yield Bars(console, total, bars)
