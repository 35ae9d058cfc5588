"""What a cell asks of its method: fit, warm up, predict against the clock. No label of a test row is in reach of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

from dhrd_bench.contracts import Context, Example, Method, Predictions, TaskData
from dhrd_bench.grid.energy import Meter
from dhrd_bench.results.schema import Energy

WARMUP_EXAMPLES = 8
"""Examples predicted before the clock starts: first calls allocate, tune kernels and load weights."""


@dataclass(slots=True)
class Clock:
    """The harness's clock over a timed prediction."""

    laps: list[tuple[float, float]] = field(default_factory=list)
    _last: float = 0.0

    def start(self) -> None:
        """Begin the first lap, and forget those before."""
        self.laps.clear()
        self._last = time.perf_counter()

    def lap(self, examples: int) -> None:
        """End a lap in which `examples` were finished."""
        now = time.perf_counter()
        self.laps.append((float(examples), now - self._last))
        self._last = now

    def stop(self, examples: int) -> None:
        """End the last lap; what no lap has counted belongs to it."""
        counted = sum(count for count, _ in self.laps)
        rest = time.perf_counter() - self._last
        if counted < examples or not self.laps:
            self.laps.append((float(examples) - counted, rest))
        else:  # work after the last batch is part of that batch
            count, seconds = self.laps[-1]
            self.laps[-1] = (count, seconds + rest)


@dataclass(frozen=True)
class Performance:
    """What a method has done in a cell.

    Attributes
    ----------
    predictions
        For the test examples.
    laps
        (examples, seconds) of consecutive batches of the prediction.
    warmup_seconds
        Spent on predictions before the clock started.
    energy
        What fitting and predicting drew, if that could be measured.
    """

    predictions: Predictions
    laps: list[tuple[float, float]]
    warmup_seconds: float
    energy: Energy | None = None


def perform(
    method: Method, data: TaskData, examples: Sequence[Example], context: Context, meter: Meter | None = None
) -> Performance:
    """Fit `method` and have it predict `examples` against the clock, and under the `meter` if there is one."""
    clock, meter = Clock(), meter or Meter()
    context.lap = clock.lap
    with meter.stretch() as fitting:
        method.fit(data, context)
    started = time.perf_counter()
    # Not shown; its laps are forgotten when the clock starts.
    quiet = replace(context, progress=lambda phase, done, total, figures: None, train_log={})
    method.predict([row.example for row in data.train[:WARMUP_EXAMPLES]], quiet)
    warmup_seconds = time.perf_counter() - started
    with meter.stretch() as predicting:  # read outside of the clock
        clock.start()
        predictions = method.predict(examples, context)
        clock.stop(len(examples))
    return Performance(predictions, clock.laps, warmup_seconds, meter.energy(fitting, predicting))


# ---------------------------------------------------------------- no longer than


class OutOfTimeError(BaseException):
    """A cell has reached its time limit. No `Exception`: a method that handles all of these is not to handle this."""


def can_limit() -> bool:
    """Whether `at_most` works here: on Unix, in the main thread."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


@contextmanager
def at_most(seconds: float | None) -> Iterator[None]:
    """Interrupt the block after `seconds`; None lets it run.

    Python code is interrupted where it stands. A call into a library ends first.

    Raises
    ------
    OutOfTimeError
        When the time is over, and once a second from then on if that is swallowed.
    """
    if seconds is None:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError(time_over(seconds))

    before = signal.signal(signal.SIGALRM, over)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # once more, as the alarm may have gone off in the line above
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def time_over(seconds: float) -> str:
    """Say which limit a cell has reached."""
    return f"the cell's time limit of {seconds:g} s is over (--cell-timeout)"
