"""Showing how far a run is: bars on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.results.schema import CellRecord


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}" for name, value in figures.items()
    )


def _outcome(record: CellRecord) -> str:
    if record.status == "failed":
        return f"[red]failed[/]: {escape(record.error or '')}"
    assert record.score is not None
    assert record.timing is not None
    return f"score {record.score:5.1f}   {record.timing.qps:8.2f} examples/s"


def _name(planned: PlannedCell) -> str:
    cell = planned.cell
    return escape(f"{cell.task} seed {cell.seed} {cell.method}")


def time_left(started: float, done: int, total: int) -> str:
    """Return ", about H:MM:SS left" if `done` of `total` equal parts took the time since `started`."""
    left = (time.perf_counter() - started) / done * (total - done)
    return f", about {timedelta(seconds=round(left))} left" if done < total else ""


def progress_bars(console: Console) -> Progress:
    """Return bars with name, count, time left and a field ``figures``; they vanish when done."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    return Progress(*columns, console=console, transient=True)


class Lines:
    """One line a cell, with the time left; for logs and pipes."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.done = console, total, 0
        self.started = time.perf_counter()
        self.name = ""

    def start_cell(self, planned: PlannedCell) -> None:
        """Remember the name."""
        self.name = _name(planned)

    def step(self, phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Say nothing: a log wants cells, not steps."""

    def finish_cell(self, record: CellRecord, seconds: float) -> None:
        """Print the cell's line."""
        self.done += 1
        eta = time_left(self.started, self.done, self.total)
        self.console.print(
            f"{self.done}/{self.total}  {self.name:<32} {_outcome(record)}  ({seconds:.0f} s{eta})",
            highlight=False,
            soft_wrap=True,
        )


class Bars(Lines):
    """A bar for the grid and one for the current cell, finished cells scrolling above them."""

    def __init__(self, console: Console, total: int, bars: Progress) -> None:
        super().__init__(console, total)
        self.bars = bars
        self.grid: TaskID = bars.add_task("cells", total=total, figures="")
        self.cell: TaskID = bars.add_task("", total=None, figures="")

    def start_cell(self, planned: PlannedCell) -> None:
        """Point the lower bar at the cell."""
        super().start_cell(planned)
        self.bars.reset(self.cell, description=self.name, total=None, figures="")

    def step(self, phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Move the lower bar."""
        self.bars.update(
            self.cell, description=f"{self.name}: {phase}", completed=done, total=total, figures=_figures(figures)
        )

    def finish_cell(self, record: CellRecord, seconds: float) -> None:
        """Move the upper bar and print the cell's line above."""
        super().finish_cell(record, seconds)
        self.bars.update(self.grid, completed=self.done)


@contextmanager
def show_progress(console: Console, total: int) -> Iterator[Lines]:
    """Yield the display that fits `console`."""
    if not console.is_terminal:
        yield Lines(console, total)
        return
    with progress_bars(console) as bars:
        yield Bars(console, total, bars)
