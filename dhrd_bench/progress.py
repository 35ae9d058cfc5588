"""Showing how far long work is: bars on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from dhrd_bench.errors import shown

QUIET_SECONDS = 30.0
"""A log hears from one piece of work that goes on no more often than this."""


def literal(text: str) -> str:
    """Return `text` for Rich, which would read ``[red]`` as markup and sends what steers a terminal."""
    return escape(shown(text))


class Display:
    """One line a piece of work, and one now and then while it goes on, with the time left.

    Parameters
    ----------
    console
        Where to print.
    total
        Pieces of work to come.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.done = console, total, 0
        self.started = self.begun = self.spoke = time.perf_counter()
        self.name = ""
        self._under_way: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Name the piece that begins."""
        self.name = name
        self.begun = self.spoke = self._under_way[name] = time.perf_counter()

    def turn_to(self, name: str) -> None:
        """Speak of a piece that has begun before, where several are under way."""
        self.name, self.begun = name, self._under_way.get(name, self.begun)

    def step(self, phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Show how far the piece has come; `phase` may be empty."""
        if done < total and time.perf_counter() - self.spoke >= QUIET_SECONDS:
            self.spoke = time.perf_counter()
            self.say(f"{self.name}: {phase}{' ' * bool(phase)}{done}/{total}{time_left(self.begun, done, total)}")

    def end(self, outcome: str = "") -> None:
        """Say that the piece is finished, and how it went (text, not markup)."""
        self.done += 1
        self._under_way.pop(self.name, None)
        seconds = time.perf_counter() - self.begun
        left = time_left(self.started, self.done, self.total)
        self.say(f"{self.done}/{self.total}  {self.name:<32} {outcome}  ({seconds:.0f} s{left})")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(literal(text), highlight=False, soft_wrap=True)


class BarDisplay(Display):
    """A bar for all the work and one for the piece under way, lines scrolling above them."""

    def __init__(self, console: Console, total: int, bars: Progress, what: str) -> None:
        super().__init__(console, total)
        self.bars = bars
        self.all = bars.add_task(what, total=total, figures="")
        self.current = bars.add_task("", total=None, figures="")

    def begin(self, name: str) -> None:
        """Point the lower bar at the piece."""
        super().begin(name)
        self.bars.reset(self.current, description=literal(name), total=None, figures="")

    def step(self, phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Move the lower bar."""
        description = literal(f"{self.name}: {phase}" if phase else self.name)
        self.bars.update(self.current, description=description, completed=done, total=total, figures=_text(figures))

    def end(self, outcome: str = "") -> None:
        """Move the upper bar and print the piece's line above."""
        super().end(outcome)
        self.bars.update(self.all, completed=self.done)


@contextmanager
def show_progress(console: Console, total: int, what: str) -> Iterator[Display]:
    """Yield the display that fits `console`, of `total` pieces of work called `what`."""
    if not console.is_terminal:
        yield Display(console, total)
        return
    with bars(console) as progress:
        yield BarDisplay(console, total, progress, what)


def bars(console: Console) -> Progress:
    """Return bars with name, count, time left and a field ``figures``; they vanish when done."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def time_left(started: float, done: int, total: int) -> str:
    """Return ", about H:MM:SS left" if `done` of `total` equal parts took the time since `started`."""
    if not 0 < done < total:
        return ""
    return f", about {timedelta(seconds=round((time.perf_counter() - started) / done * (total - done)))} left"


def _text(figures: Mapping[str, float]) -> str:
    return "  ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}" for name, value in figures.items()
    )
