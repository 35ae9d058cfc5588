"""Running cells, each leaving a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from dhrd_bench.backbones import Backbone, load
from dhrd_bench.contracts import Predictions
from dhrd_bench.errors import UserError
from dhrd_bench.grid import cluster
from dhrd_bench.grid.environment import surroundings_of
from dhrd_bench.grid.isolation import Runner, threads_each
from dhrd_bench.grid.plan import Plan, PlannedCell
from dhrd_bench.grid.process import Process
from dhrd_bench.grid.record import Answered, Attempt, make_record
from dhrd_bench.grid.workers import attempts_by
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.interrupts import always, remembered_interrupts
from dhrd_bench.metrics import METRICS
from dhrd_bench.progress import Display
from dhrd_bench.request import RunRequest
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import find, record_path, write_record, write_text_atomically
from dhrd_bench.tracking.display import TrackedDisplay
from dhrd_bench.tracking.loggers import Logger, TrackedCell, logger_of

Keep = Callable[[Callable[[Path], object], PlannedCell], object]
"""Given what saves each fitted method, once its record is on disk."""


def run_plan(
    plan: Plan, display: Display, keep: Keep | None = None, goes_on: Callable[[], bool] = always
) -> list[CellRecord]:
    """Run the missing cells of `plan` and write their records into its results folder.

    A cell that fails leaves a record with its error and the others go on. Everything finished is on
    disk before the next cell begins, so an interrupt costs the current cell only. No cell begins once `goes_on` is
    false.

    Returns
    -------
    list of CellRecord
        Records of the cells that were run.
    """
    records: list[CellRecord] = []
    if not plan.missing:
        return records
    require_metrics(plan)
    backbone = load(plan.backbone)
    engine = engine_of(backbone)  # before hours of work: this machine may not have it
    loggers: dict[str, Logger] = {name: logger_of(name) for name in plan.request.track}  # nor these
    surroundings = surroundings_of(str(backbone.device), plan.backbone.dtype, engine.label)
    with (
        remembered_interrupts() as check,
        crew_of(plan, backbone, engine.label, keep=keep is not None) as crew,
        TrackedDisplay(display, map(tracked, plan.missing), loggers) as shown,
    ):
        for planned, attempt in attempts_of(plan, backbone, crew, shown, check, goes_on):
            around = (attempt.surroundings or surroundings).model_copy(update=crew.shared)
            record = make_record(attempt, backbone, plan.request, around)
            _write(plan, planned, attempt, record)
            if isinstance(attempt.result, Answered) and attempt.result.save and keep and record.status == "ok":
                keep(attempt.result.save, planned)
            records.append(record)
            shown.close(record)
            shown.end(_outcome(record))
            check()
    backbone.reset()
    return records


@dataclass(frozen=True)
class Crew:
    """Who performs the cells of a run, and what records say of it."""

    runners: list[Runner]
    shared: dict[str, Any]


@contextmanager
def crew_of(plan: Plan, backbone: Backbone, engine: str, *, keep: bool) -> Iterator[Crew]:
    """Yield who performs the missing cells of `plan`, here or on a cluster, which is let go when the block ends."""
    request, cells = plan.request, len(plan.missing)
    _require_devices(request, backbone)
    shared: dict[str, Any] = {"processes": request.processes} if request.processes > 1 else {}
    if request.executor == "ray":
        with cluster.connected() as nodes:
            share, start = cluster.workers_for(plan, backbone, engine, nodes)
            workers = min(share.workers, cells)
            each = max(1, share.cpus // request.processes)
            shared |= {"executor": "ray", "threads": each, "workers": workers if workers > 1 else None}
            yield Crew([runner_of(plan, backbone, keep=keep, start=start) for _ in range(workers)], shared)
        return
    workers = min(request.workers or 1, cells)
    threads = threads_each(workers) if workers > 1 else None
    if workers > 1 or request.processes > 1:
        shared |= {"threads": threads_each(workers * request.processes), "workers": workers if workers > 1 else None}
    yield Crew([runner_of(plan, backbone, keep=keep, threads=threads) for _ in range(workers)], shared)


def _require_devices(request: RunRequest, backbone: Backbone) -> None:
    if request.processes > 1 and request.executor == "local" and backbone.device.type == "cuda":
        import torch

        if request.processes > (count := torch.cuda.device_count()):
            message = f"{request.processes} processes take a GPU each, and there are {count}."
            raise UserError(message, f"Say --processes {count}, or leave it out.")


def attempts_of(
    plan: Plan,
    backbone: Backbone,
    crew: Crew,
    display: Display,
    check: Callable[[], None],
    goes_on: Callable[[], bool] = always,
) -> Iterator[tuple[PlannedCell, Attempt]]:
    """Yield each missing cell of `plan` with its attempt, as they end; `check` raises an interrupt again."""
    if len(crew.runners) > 1:
        yield from attempts_by(crew.runners, plan.missing, display, check, goes_on)
        return
    task = ""
    with crew.runners[0] as runner:
        for planned in takewhile(lambda _: goes_on(), plan.missing):
            if planned.cell.task != task:
                backbone.frozen_states.clear()
                task = planned.cell.task
            display.begin(planned.name)
            yield planned, runner.run(planned, display.step)


def runner_of(
    plan: Plan,
    backbone: Backbone,
    *,
    keep: bool = False,
    threads: int | None = None,
    start: Callable[[bool], Process] | None = None,
) -> Runner:
    """Return what performs the cells of `plan` as its request says; see `Runner`.

    Raises
    ------
    UserError
        If a method cannot work where it is to, or a limit cannot be kept here.
    """
    request = plan.request
    folders = [request.data_dir] if request.data_dir else []
    runner = Runner(
        backbone, request.isolation, folders=folders, results=plan.results, limit=request.cell_timeout, keep=keep,
        threads=threads, processes=request.processes, start=start, energy=request.energy,
    )  # fmt: skip
    for planned in plan.missing:
        runner.level(planned.method)
    return runner


def tracked(planned: PlannedCell) -> TrackedCell:
    """Return what trackers are told of a cell: its place, and all settings that its identity is made of."""
    cell, parts = planned.cell, planned.parts
    settings = {**cell.model_dump(), "identity": planned.identity, "harness": parts.harness}
    settings |= {f"method.{name}": value for name, value in parts.method.params.items()}
    for name, value in parts.budget.items():
        # One level more, as the settings of adapters and of decoding.
        inner = value if isinstance(value, dict) else {"": value}
        settings |= {f"budget.{name}.{key}".rstrip("."): setting for key, setting in inner.items()}
    return TrackedCell(planned.name, f"{cell.suite} {cell.backbone} {cell.budget}", settings)


def _write(plan: Plan, planned: PlannedCell, attempt: Attempt, record: CellRecord) -> None:
    """Write what the cell leaves: its texts first, as one that has a record is not run again."""
    if record.status == "failed" and find(plan.results, planned.cell, planned.identity):
        return  # done again by force, and to no avail: what there was is better
    if isinstance(attempt.result, Answered) and record.status == "ok":
        _write_texts(plan, planned, attempt.result.performance.predictions)
    write_record(plan.results, record)


def require_metrics(plan: Plan) -> None:
    """Refuse a metric that cannot be loaded before anything is trained for it."""
    foreign = {name for planned in plan.missing for name in planned.loaded.card.metrics if name not in METRICS}
    if foreign:
        from dhrd_bench.data.metrics import require  # takes seconds

        require(foreign)


def _outcome(record: CellRecord) -> str:
    if record.score is None or record.timing is None:
        return f"failed: {record.error or ''}"
    return f"score {record.score:5.1f}   {record.timing.qps:8.2f} examples/s"


def _write_texts(plan: Plan, planned: PlannedCell, predictions: Predictions) -> None:
    """Keep generated texts beside the record; they may quote a suite that may not be passed on."""
    texts, labels = predictions.texts, predictions.labels
    if texts is None:
        return
    lines = [
        json.dumps({"id": example.id, "prediction": label, "text": text}, ensure_ascii=False)
        for example, label, text in zip(planned.test.examples, labels, texts, strict=True)
    ]
    path = record_path(plan.results, planned.cell).with_suffix(".generations.jsonl")
    write_text_atomically(path, "\n".join(lines) + "\n", below=plan.results)
