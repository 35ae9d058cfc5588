"""A display that has loggers hear, too, what it is told of the cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from dhrd_bench.progress import Display
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.tracking.loggers import LoggedRun, Logger, TrackedCell


@dataclass
class _Open:
    """The runs of a cell that is under way, by logger, and the training step that it has reached."""

    runs: dict[str, LoggedRun] = field(default_factory=dict)
    step: int = 0


class TrackedDisplay(Display):
    """Shows what `shown` shows, and logs it. What cannot be logged costs nothing but a line, once a logger.

    Use it in a ``with`` block: runs that are open at its end are closed as failed.

    Parameters
    ----------
    shown
        Where to show.
    cells
        The cells to come, by the name that the display is told.
    loggers
        By name.
    """

    def __init__(self, shown: Display, cells: Iterable[TrackedCell], loggers: Mapping[str, Logger]) -> None:
        super().__init__(shown.console, shown.total)
        self._shown, self._cells = shown, {cell.name: cell for cell in cells}
        self._loggers, self._open = dict(loggers), dict[str, _Open]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in list(self._open):
            self._close(name, {}, ok=False)

    def begin(self, name: str) -> None:
        """Show the cell that begins, and open its runs."""
        self.name = name
        self._shown.begin(name)
        opened = self._open[name] = _Open()

        def begin(logger: str) -> None:
            opened.runs[logger] = self._loggers[logger].begin(self._cells[name])

        self._each(begin, self._loggers)

    def turn_to(self, name: str) -> None:
        """Speak of a cell that has begun before."""
        self.name = name
        self._shown.turn_to(name)

    def step(self, phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Show how far the cell has come, and log its figures at the training step it has reached."""
        self._shown.step(phase, done, total, figures)
        opened = self._open[self.name]
        if phase == "train":
            opened.step = done
        if figures and phase != "predict":
            self._each(lambda logger: opened.runs[logger].log(figures, opened.step), opened.runs)

    def close(self, record: CellRecord) -> None:
        """Log what the cell has come to, and close its runs."""
        self._close(self.name, final_figures(record), ok=record.status == "ok")

    def end(self, outcome: str = "") -> None:
        """Show that the cell is finished."""
        self._shown.end(outcome)

    def _close(self, name: str, figures: Mapping[str, float], *, ok: bool) -> None:
        if opened := self._open.pop(name, None):
            self._each(lambda logger: opened.runs[logger].end(figures, ok=ok), opened.runs)

    def _each(self, do: Callable[[str], None], loggers: Iterable[str]) -> None:
        for logger in [name for name in loggers if name in self._loggers]:
            try:
                do(logger)
            except Exception as error:  # someone else's server is down: no reason to lose a cell
                del self._loggers[logger]
                said = " ".join(str(error).split())
                self._shown.say(f"{logger} hears no more of this run: {type(error).__name__}: {said}")


def final_figures(record: CellRecord) -> dict[str, float]:
    """Return the figures of a finished cell: score, metrics, speed, what training and prediction took."""
    timing, train, energy = record.timing, record.train, record.energy
    found: dict[str, float | None] = {
        "score": record.score,
        **record.metrics,
        "qps": timing.qps if timing else None,
        "test_seconds": timing.seconds if timing else None,
        "train_seconds": train.seconds,
        "train_tokens": train.tokens,
        "train_joules": energy.train if energy else None,
        "test_joules": energy.test if energy else None,
    }
    return {name: float(value) for name, value in found.items() if value is not None}
