"""Where a cell's method works: in this process, watched or not, or in one of its own that cannot read test labels."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, chdir, nullcontext
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from dhrd_bench import plugins
from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Method
from dhrd_bench.errors import UserError
from dhrd_bench.grid import landlock
from dhrd_bench.grid.energy import meter_of
from dhrd_bench.grid.identity import MethodSpec
from dhrd_bench.grid.perform import OutOfTimeError, at_most, can_limit, perform
from dhrd_bench.grid.plan import PlannedCell, Step
from dhrd_bench.grid.process import CellProcess, CellProcessError
from dhrd_bench.grid.record import Answered, Attempt, describe
from dhrd_bench.grid.scoring import score
from dhrd_bench.grid.seal import Seal, refusing, seal
from dhrd_bench.grid.wire import can_be_sent, job, performance_of
from dhrd_bench.request import EnergySource, Isolation
from dhrd_bench.results.schema import IsolationLevel


def is_plugin(cls: type[Method]) -> bool:
    """Whether a method comes from outside: a folder of ``--include``, an installed package, a notebook."""
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
    workers
        How many of these work at a time. If there are others, every method is in a process of its own, which is closed
        off where that can be had and `isolation` is not ``none``.
    energy
        Where energy figures come from, if no others work at the time: what they draw could not be told apart.

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
        workers: int = 1,
        energy: EnergySource = "counters",
    ) -> None:
        self.threads = threads_each(workers) if workers > 1 else None
        if limit is not None and self.threads is None and not can_limit():
            raise UserError(
                "A cell cannot be given a time limit here.", "It takes Unix, and the program's main thread."
            )
        if energy != "counters" and self.threads is not None:
            raise UserError(
                "Energy cannot be told apart between cells that run beside each other.",
                "Leave --workers or --energy out.",
            )
        self.backbone, self.isolation, self.limit, self.keep = backbone, isolation, limit, keep
        self._energy = None if self.threads is not None else energy
        self._meter = meter_of(energy, str(backbone.device)) if self._energy else None
        self._folders, self._results = [folder.absolute() for folder in folders], results and results.absolute()
        self._process: CellProcess | None = None
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
        if self.threads is not None:
            return self._level_of_worker(spec)
        if self.isolation == "none" or (self.isolation == "auto" and not is_plugin(spec.cls)):
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
                f"Method {spec.name!r} is registered from no file that a worker could import.", "Leave --workers out."
            )
        closed = self.isolation != "none" and landlock.version()
        if not closed and self.isolation == "process":
            raise UserError(f"There is no process for {spec.name!r}: {why_no_process(spec)}.", "Take --isolation none.")
        return "process" if closed else "none"

    def run(self, planned: PlannedCell, step: Step) -> Attempt:
        """Fit, predict against the clock, and score one cell; an exception becomes a failed attempt."""
        level = self.level(planned.method)
        apart = self.threads is not None or level == "process"
        if apart and self._process is None:
            try:
                closed = self.seal if level == "process" else None
                self._process = CellProcess(self.backbone, closed, self.threads, self._energy)
            except CellProcessError as error:
                if self.threads is not None or self._has_started:  # the next cell tries again
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
        try:
            sent = self._process.perform(job(planned, keep), step, self.limit)
        except CellProcessError as error:
            self.end()
            return Attempt(planned, str(error), {}, level)
        log = sent["train_log"]
        if "error" in sent:
            return Attempt(planned, sent["error"], log, level)
        try:
            performance = performance_of(sent["answer"])
            outcome = score(planned.loaded.card, planned.test, performance.predictions)
        except Exception as error:
            return Attempt(planned, describe(error), log, level)
        return Attempt(planned, Answered(performance, outcome, _taken(keep) if keep else None), log, level)

    def end(self) -> None:
        """End the process, if there is one; the next cell has a new one."""
        if self._process is not None:
            self._process.end()
            self._process = None
