"""Running cells: one at a time on this machine, each leaving a record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dhrd_bench.backbones import Backbone, load
from dhrd_bench.contracts import Method
from dhrd_bench.grid.environment import surroundings_of
from dhrd_bench.grid.plan import Plan, PlannedCell, Step
from dhrd_bench.grid.record import Answered, Attempt, make_record
from dhrd_bench.grid.scoring import score
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.metrics import METRICS
from dhrd_bench.progress import Display
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import record_path, write_record, write_text_atomically

WARMUP_EXAMPLES = 8
"""Examples predicted before the clock starts: first calls allocate, tune kernels and load weights."""

Keep = Callable[[Method, PlannedCell], object]
"""Given each fitted method once its record is on disk."""


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


def run_plan(plan: Plan, display: Display, keep: Keep | None = None) -> list[CellRecord]:
    """Run the missing cells of `plan` and write their records into its results folder.

    A cell that fails leaves a record with its error and the others go on. Everything finished is on
    disk before the next cell begins, so an interrupt costs the current cell only.

    Returns
    -------
    list of CellRecord
        Records of the cells that were run.
    """
    records: list[CellRecord] = []
    if not plan.missing:
        return records
    _require_metrics(plan)
    backbone = load(plan.backbone)
    engine = engine_of(backbone)  # before hours of work: this machine may not have it
    surroundings = surroundings_of(str(backbone.device), plan.backbone.dtype, engine.label)
    task = ""
    for planned in plan.missing:
        if planned.cell.task != task:
            backbone.frozen_states.clear()
            task = planned.cell.task
        display.begin(planned.name)
        attempt = run_cell(planned, backbone, display.step)
        record = make_record(attempt, backbone, plan.request, surroundings)
        answered = attempt.result if isinstance(attempt.result, Answered) and record.status == "ok" else None
        if answered is not None:  # before the record: what has one is never run again
            _write_texts(record_path(plan.results, planned.cell), planned, answered)
        write_record(plan.results, record)
        if answered is not None and keep is not None:
            keep(answered.method, planned)
        records.append(record)
        display.end(_outcome(record))
    backbone.reset()
    return records


def _require_metrics(plan: Plan) -> None:
    """Refuse a metric that cannot be loaded before anything is trained for it."""
    foreign = {name for planned in plan.missing for name in planned.loaded.card.metrics if name not in METRICS}
    if foreign:
        from dhrd_bench.data.metrics import require  # takes seconds

        require(foreign)


def run_cell(planned: PlannedCell, backbone: Backbone, step: Step) -> Attempt:
    """Fit, predict against the clock, and score one cell; an exception becomes a failed attempt."""
    clock = Clock()
    context = planned.context(backbone, step, clock.lap)
    backbone.reset()
    try:
        method = planned.method.new()
        method.fit(planned.data, context)
        started = time.perf_counter()
        # Not shown; its laps are forgotten when the clock starts.
        method.predict(
            [row.example for row in planned.data.train[:WARMUP_EXAMPLES]], planned.context(backbone, lap=clock.lap)
        )
        warmup_seconds = time.perf_counter() - started
        clock.start()
        predictions = method.predict(planned.test.examples, context)
        clock.stop(len(planned.test.examples))
        outcome = score(planned.loaded.card, planned.test, predictions)
    except (Exception, SystemExit) as error:  # a method that leaves the program leaves its cell only
        return Attempt(planned, error, context.train_log)
    return Attempt(planned, Answered(method, predictions, outcome, clock.laps, warmup_seconds), context.train_log)


def _outcome(record: CellRecord) -> str:
    if record.score is None or record.timing is None:
        return f"failed: {record.error or ''}"
    return f"score {record.score:5.1f}   {record.timing.qps:8.2f} examples/s"


def _write_texts(path: Path, planned: PlannedCell, result: Answered) -> None:
    """Keep generated texts beside the record; they may quote a suite that may not be passed on."""
    texts, labels = result.predictions.texts, result.predictions.labels
    if texts is None:
        return
    lines = [
        json.dumps({"id": example.id, "prediction": label, "text": text}, ensure_ascii=False)
        for example, label, text in zip(planned.test.examples, labels, texts, strict=True)
    ]
    write_text_atomically(path.with_suffix(".generations.jsonl"), "\n".join(lines) + "\n")
