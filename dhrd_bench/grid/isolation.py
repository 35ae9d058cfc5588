"""Where a cell's method works: in this process, watched or not, or in one of its own that cannot read test labels."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, chdir, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dhrd_bench import plugins
from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Method
from dhrd_bench.errors import UserError
from dhrd_bench.grid import landlock
from dhrd_bench.grid.energy import meter_of
from dhrd_bench.grid.perform import OutOfTimeError, at_most, can_limit, perform
from dhrd_bench.grid.plan import PlannedCell, Step
from dhrd_bench.grid.process import CellProcess, CellProcessError, Process
from dhrd_bench.grid.record import Answered, Attempt, describe
from dhrd_bench.grid.scoring import score
from dhrd_bench.grid.seal import Seal, refusing, seal
from dhrd_bench.grid.wire import can_be_sent, job, performance_of
from dhrd_bench.methods import MethodSpec
from dhrd_bench.request import EnergySource, Isolation
from dhrd_bench.results.schema import IsolationLevel


def is_plugin(spec: MethodSpec) -> bool:
    """Whether a method, or one that it runs, comes from outside: ``--include``, an installed package, a notebook."""
    return any(_is_from_outside(each.cls) for each in spec.whole)


def _is_from_outside(cls: type[Method]) -> bool:
    try:
        file = Path(inspect.getfile(cls)).resolve()
    except (OSError, TypeError):  # typed in
        return True
    return not file.is_relative_to(plugins.builtin_folder("baselines").resolve())


def why_no_process(spec: MethodSpec) -> str:
    """Return why a method cannot work in a process of its own; an empty text if it can."""
    if not landlock.version():
        return "this system cannot close a process off (it takes Linux 5.13 or newer with Landlock)"
    if not can_be_sent(spec):
        return f"method {spec.name!r} is registered from no file that another process could import"
    return ""


def _taken(folder: Path) -> Callable[[Path], object]:
    """Take over what a process has saved, as the process may end first; return what copies it."""
    kept = tempfile.TemporaryDirectory(prefix="dhrd-bench-", ignore_cleanup_errors=True)
    moved = Path(shutil.move(folder, kept.name))

    def save(target: Path) -> None:
        shutil.copytree(moved, target, dirs_exist_ok=True)
        kept.cleanup()

    return save


def threads_each(workers: int) -> int:
    """Return the threads of each of so many workers."""
    import torch

    return max(1, torch.get_num_threads() // workers)


class Runner:
    """Performs cells, each method where it is to work. Use it in a ``with`` block: it may own a process.

    Parameters
    ----------
    backbone
        What methods of this process work on; a process of its own loads another.
    isolation
        What was asked for. ``auto`` leaves built-in methods alone and puts all others into a process of their own,
        where that can be had, or else watches them here.
    folders, results
        What is to be kept from a method beside what `seal` always closes.
    limit
        Seconds that a cell may take.
    keep
        Whether fitted methods will be saved.
    threads, processes
        Threads of a cell, if it has others beside it; processes that train it together.
    start
        What starts a process elsewhere, closed off or not.
    energy
        Where energy figures come from.

    With `threads`, more `processes` than one, or `start` every method is in a process of its own, which is closed off
    where that can be had and `isolation` is not ``none``; and there are no energy figures: what a cell draws could not
    be told apart.

    Raises
    ------
    UserError
        If there is to be a limit or an estimate of energy, and there can be none here.
    """

    def __init__(
        self,
        backbone: Backbone,
        isolation: Isolation = "auto",
        *,
        folders: Iterable[Path] = (),
        results: Path | None = None,
        limit: float | None = None,
        keep: bool = False,
        threads: int | None = None,
        processes: int = 1,
        start: Callable[[bool], Process] | None = None,
        energy: EnergySource = "counters",
    ) -> None:
        self.apart = threads is not None or processes > 1 or start is not None
        self._threads, self._processes, self._start = threads, processes, start or self._start_here
        if limit is not None and not self.apart and not can_limit():
            raise UserError(
                "A cell cannot be given a time limit here.", "It takes Unix, and the program's main thread."
            )
        if energy != "counters" and self.apart:
            raise UserError(
                "Energy cannot be told apart between processes that work beside each other.",
                "Leave --energy out, or --workers, --processes or --executor.",
            )
        self.backbone, self.isolation, self.limit, self.keep = backbone, isolation, limit, keep
        self._energy = None if self.apart else energy
        self._meter = meter_of(energy, str(backbone.device)) if self._energy else None
        self._folders, self._results = [folder.absolute() for folder in folders], results and results.absolute()
        self._process: Process | None = None
        self._no_process, self._has_started = "", False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @cached_property
    def seal(self) -> Seal:
        """What methods are kept from."""
        return seal(self._folders, self._results)

    def level(self, spec: MethodSpec) -> IsolationLevel:
        """Return where a method will work.

        Raises
        ------
        UserError
            If it is to work in a process of its own and cannot.
        """
        if self.apart:
            return self._level_of_worker(spec)
        if self.isolation == "none" or (self.isolation == "auto" and not is_plugin(spec)):
            return "none"
        if self.isolation == "audit":
            return "audit"
        reason = self._no_process or why_no_process(spec)
        if reason and self.isolation == "process":
            raise UserError(f"There is no process for {spec.name!r}: {reason}.", "Take --isolation audit.")
        return "audit" if reason else "process"

    def _level_of_worker(self, spec: MethodSpec) -> IsolationLevel:
        if not can_be_sent(spec):
            raise UserError(
                f"Method {spec.name!r} is registered from no file that a worker could import.",
                "Leave --workers out, or --processes or --executor.",
            )
        closed = self.isolation != "none" and landlock.version()
        if not closed and self.isolation == "process":
            raise UserError(f"There is no process for {spec.name!r}: {why_no_process(spec)}.", "Take --isolation none.")
        return "process" if closed else "none"

    def _start_here(self, closed: bool) -> Process:
        closed_off = self.seal if closed else None
        return CellProcess(self.backbone.card, closed_off, self._threads, self._processes, self._energy)

    def _begin(self, closed: bool) -> Process:
        """Start a process; the first one gets two tries, as from it is told whether there can be any here."""
        if not self._has_started:
            with suppress(CellProcessError):  # it may have been killed, for want of memory or by somebody
                return self._start(closed)
        return self._start(closed)

    def run(self, planned: PlannedCell, step: Step) -> Attempt:
        """Fit, predict against the clock, and score one cell; an exception becomes a failed attempt."""
        level = self.level(planned.method)
        apart = self.apart or level == "process"
        if apart and self._process is None:
            try:
                self._process = self._begin(level == "process")
            except CellProcessError as error:
                if self.apart or self._has_started:  # the next cell tries again
                    return Attempt(planned, str(error), {}, level)
                self._no_process = str(error)
                level = self.level(planned.method)
            else:
                self._has_started = True
        if apart and self._process is not None:
            return self._apart(planned, step, level)
        return self._here(planned, step, level)

    def _here(self, planned: PlannedCell, step: Step, level: IsolationLevel) -> Attempt:
        context = planned.context(self.backbone, step)
        watched: AbstractContextManager[None] = refusing(self.seal) if level == "audit" else nullcontext()
        self.backbone.reset()
        try:
            # A method that goes to another folder does not take the harness with it.
            with at_most(self.limit), watched, chdir("."):
                method = planned.method.new()
                performance = perform(method, planned.data, planned.test.examples, context, self._meter)
            outcome = score(planned.loaded.card, planned.test, performance.predictions)
        except (
            Exception,
            SystemExit,
            OutOfTimeError,
        ) as error:  # a method that leaves the program leaves its cell only
            return Attempt(planned, describe(error), context.train_log, level)
        return Attempt(planned, Answered(performance, outcome, method.save), context.train_log, level)

    def _apart(self, planned: PlannedCell, step: Step, level: IsolationLevel) -> Attempt:
        assert self._process is not None
        keep = self._process.folder_for(planned.identity) if self.keep else None
        sent: dict[str, Any] = {}
        try:
            for sent in self._process.perform(job(planned, keep), self.limit):
                if "step" in sent:
                    step(*sent["step"])
        except CellProcessError as error:
            self.end()
            return Attempt(planned, str(error), {}, level)
        log, where = sent["train_log"], self._process.surroundings
        if "error" in sent:
            return Attempt(planned, sent["error"], log, level, where)
        try:
            performance = performance_of(sent["answer"])
            outcome = score(planned.loaded.card, planned.test, performance.predictions)
        except Exception as error:
            return Attempt(planned, describe(error), log, level, where)
        return Attempt(planned, Answered(performance, outcome, _taken(keep) if keep else None), log, level, where)

    def end(self) -> None:
        """End the process, if there is one; the next cell has a new one."""
        process, self._process = self._process, None  # another thread may end it, too
        if process is not None:
            process.end()
