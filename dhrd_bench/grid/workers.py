"""Several cells at a time: each worker is a process of its own, and this process alone scores and writes."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dhrd_bench.grid.isolation import Runner
from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.grid.record import Attempt
from dhrd_bench.interrupts import always
from dhrd_bench.progress import Display


@dataclass(frozen=True)
class _Step:
    """How far a cell is; without a phase it has begun."""

    planned: PlannedCell
    phase: str = ""
    done: int = 0
    total: int = 0
    figures: dict[str, float] | None = None


Event = _Step | tuple[PlannedCell, Attempt] | BaseException | None
"""What a worker tells: how far it is, an attempt, what went wrong with the worker itself, and that it has no more."""


def attempts_by(
    runners: Sequence[Runner],
    cells: Sequence[PlannedCell],
    display: Display,
    check: Callable[[], None],
    goes_on: Callable[[], bool] = always,
) -> Iterator[tuple[PlannedCell, Attempt]]:
    """Yield the cells as they are finished; a runner takes the next one as soon as it is free.

    However it ends, an interrupt included, the runners' processes end with it. `check` raises one that was lost.
    Once `goes_on` is false no cell begins; those under way are finished.
    """
    todo, events = deque(cells), queue.Queue[Event]()
    for runner in runners:
        threading.Thread(target=_work, args=(runner, todo, events, goes_on), daemon=True).start()
    working = len(runners)
    try:
        while working:
            check()
            event = events.get()
            if event is None:
                working -= 1
            elif isinstance(event, BaseException):
                raise event
            elif isinstance(event, _Step):
                _show(event, display)
            else:
                display.turn_to(event[0].name)
                yield event
    finally:
        todo.clear()
        for runner in runners:
            runner.end()


def _work(runner: Runner, todo: deque[PlannedCell], events: queue.Queue[Event], goes_on: Callable[[], bool]) -> None:
    try:
        while goes_on():
            try:
                planned = todo.popleft()
            except IndexError:
                break
            events.put(_Step(planned))

            def step(
                phase: str, done: int, total: int, figures: dict[str, float], planned: PlannedCell = planned
            ) -> None:
                events.put(_Step(planned, phase, done, total, figures))

            events.put((planned, runner.run(planned, step)))
    except BaseException as error:  # told to the one who waits, not to a thread that nobody hears
        events.put(error)
    runner.end()  # its room is for others, who may be waiting for it
    events.put(None)


def _show(step: _Step, display: Display) -> None:
    if step.figures is None:
        display.begin(step.planned.name)
        return
    display.turn_to(step.planned.name)
    display.step(step.phase, step.done, step.total, step.figures)
