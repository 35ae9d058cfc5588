"""Running cells: one at a time on this machine, each leaving a record."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from dhrd_bench.backbones import Backbone, load
from dhrd_bench.contracts import Budget, Context, Method, Predictions
from dhrd_bench.grid.environment import environment
from dhrd_bench.grid.plan import Plan, PlannedCell
from dhrd_bench.grid.scoring import Outcome, score
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.results.schema import CellRecord, Data, MethodInfo, TaskInfo, Timing
from dhrd_bench.results.store import write_record, write_text_atomically

WARMUP_EXAMPLES = 8
"""Examples predicted before the clock starts: first calls allocate, tune kernels and load weights."""


class Progress(Protocol):
    """What a run tells about itself while it goes on."""

    def start_cell(self, planned: PlannedCell) -> None:
        """Show that a cell begins."""

    def step(self, phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        """Show how far the cell has come."""

    def finish_cell(self, record: CellRecord, seconds: float) -> None:
        """Show what the cell has left."""


@dataclass(slots=True)
class Clock:
    """The harness's clock over a timed prediction."""

    laps: list[tuple[float, float]] = field(default_factory=list)
    _last: float = 0.0

    def start(self) -> None:
        """Begin the first lap."""
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


def run_grid(
    plan: Plan,
    results: Path,
    progress: Progress,
    keep: Callable[[Method, PlannedCell], object] = lambda method, planned: None,
) -> list[CellRecord]:
    """Run the missing cells of `plan` and write their records below `results`.

    `keep` is given each fitted method once its record is on disk.

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
    backbone = load(plan.backbone)
    engine = engine_of(backbone)  # before hours of work: this machine may not have it
    surroundings = environment(str(backbone.device), plan.backbone.dtype) | {"engine": engine.label}
    task = ""
    for planned in plan.missing:
        if planned.cell.task != task:
            backbone.frozen_states.clear()
            task = planned.cell.task
        progress.start_cell(planned)
        started = time.perf_counter()
        record, predictions, method = run_cell(planned, backbone, plan.budget, progress)
        record.environment = surroundings
        path = write_record(results, record)
        if predictions is not None and predictions.texts is not None:
            _write_texts(path, planned, predictions)
        if method is not None:
            keep(method, planned)
        records.append(record)
        progress.finish_cell(record, time.perf_counter() - started)
    backbone.reset()
    return records


def run_cell(
    planned: PlannedCell, backbone: Backbone, budget: Budget, progress: Progress
) -> tuple[CellRecord, Predictions | None, Method | None]:
    """Fit, predict against the clock, and score one cell; an exception becomes a failed record.

    Returns
    -------
    record, predictions, method
        Of a cell that failed there is no method.
    """
    record = CellRecord.model_construct(
        identity=planned.identity,
        parts=planned.parts,
        cell=planned.cell,
        method=_method_info(planned),
        task=TaskInfo(labels=list(planned.test.classes), metrics=list(planned.loaded.card.metrics)),
        status="failed",
    )
    clock = Clock()
    context = Context(backbone, budget, planned.loaded.card.name, planned.cell.seed, progress.step, clock.lap)
    predictions = method = None
    backbone.reset()
    try:
        method = planned.method.cls(planned.method.cls.Params.model_validate(planned.method.params))
        method.fit(planned.data, context)
        warm = [row.example for row in planned.data.train[:WARMUP_EXAMPLES]]
        warmup = time.perf_counter()
        context.progress = _silent
        method.predict(warm, context)
        warmup = time.perf_counter() - warmup
        clock.laps.clear()
        context.progress = progress.step
        clock.start()
        predictions = method.predict(planned.test.examples, context)
        clock.stop(len(planned.test.examples))
        outcome = score(planned.loaded.card, planned.test, predictions)
    except Exception as error:
        record.error, method = _describe(error), None
    else:
        _fill(record, planned, predictions, outcome, clock, warmup)
        record.status = "ok"
        context.train_log["teacher_tokens"] = _teacher_tokens(planned, backbone)
    record.train = context.train_log
    record.finished = datetime.now(UTC).isoformat(timespec="seconds")
    return CellRecord.model_validate(record.model_dump()), predictions, method


def _silent(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
    """Warm-up is not shown."""


def _method_info(planned: PlannedCell) -> MethodInfo:
    card = planned.method.card
    return MethodInfo(
        role=card.role,
        inference=card.inference,
        uses_rationales=card.uses_rationales,
        summary=card.summary,
        paper=card.paper,
    )


def _fill(
    record: CellRecord, planned: PlannedCell, predictions: Predictions, outcome: Outcome, clock: Clock, warmup: float
) -> None:
    loaded, test = planned.loaded, planned.test
    per_row = 1 / test.candidates
    laps = [(count * per_row, seconds) for count, seconds in clock.laps]
    seconds = sum(lap for _, lap in laps)
    record.metrics, record.score, record.unparsable = outcome.metrics, outcome.score, outcome.unparsable
    record.rows = outcome.rows
    if record.rows.score is not None:
        record.rows.score = [[round(value, 5) for value in row] for row in record.rows.score]
    record.timing = Timing(
        examples=len(test),
        seconds=seconds,
        qps=len(test) / seconds,
        laps=laps,
        tokens_in=sum(predictions.tokens_in),
        tokens_out=sum(predictions.tokens_out),
        warmup_seconds=warmup,
    )
    record.data = Data(
        source=loaded.source.kind,
        revision=loaded.source.revision,
        fingerprint=loaded.fingerprint,
        rationale_fingerprint=loaded.rationale_fingerprint,
        rationale_coverage=loaded.rationale_coverage,
        train_rows=len(planned.data.train) // test.candidates,
        dev_rows=len(planned.data.dev) // test.candidates,
        test_rows=len(test),
        truncated_test=predictions.truncated,
    )


def _teacher_tokens(planned: PlannedCell, backbone: Backbone) -> int:
    """Count the tokens of the rationales that the method was given, each text once.

    They are the backbone's tokens, not the teacher's own, and the teacher may have written more: texts
    that were rejected are in no store.
    """
    if not planned.method.card.uses_rationales:
        return 0
    texts = {row.rationale for row in (*planned.data.train, *planned.data.dev) if row.rationale}
    return sum(len(backbone.encode(text)) for text in texts)


def _describe(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"


def _write_texts(path: Path, planned: PlannedCell, predictions: Predictions) -> None:
    """Keep generated texts beside the record; they may quote a suite that may not be passed on."""
    assert predictions.texts is not None
    lines = [
        json.dumps({"id": example.id, "prediction": label, "text": text}, ensure_ascii=False)
        for example, label, text in zip(planned.test.examples, predictions.labels, predictions.texts, strict=True)
    ]
    write_text_atomically(path.with_suffix(".generations.jsonl"), "\n".join(lines) + "\n")
