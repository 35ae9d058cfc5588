"""From what a cell did to the record that it leaves."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Predictions
from dhrd_bench.grid.perform import OutOfTimeError, Performance
from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.grid.scoring import Outcome
from dhrd_bench.grid.seal import SealedFileError
from dhrd_bench.rationales.audit.leak import predictability
from dhrd_bench.request import RunRequest
from dhrd_bench.results.schema import (
    CellRecord,
    Data,
    IsolationLevel,
    MethodInfo,
    Rows,
    Surroundings,
    TaskInfo,
    Timing,
    TrainingCost,
)


@dataclass(frozen=True)
class Answered:
    """What a cell came to that went through.

    Attributes
    ----------
    performance
        Predictions for the test split, and how long they took.
    outcome
        How they scored.
    save
        Writes the fitted method into a folder, if it was to be kept.
    """

    performance: Performance
    outcome: Outcome
    save: Callable[[Path], object] | None


@dataclass(frozen=True)
class Attempt:
    """One cell as it was run: what it came to or why it failed, what training left for the record, and where it ran.

    `surroundings` are those of another machine, if it ran there.
    """

    planned: PlannedCell
    result: Answered | str
    train_log: dict[str, Any] = field(default_factory=dict)
    isolation: IsolationLevel = "none"
    surroundings: Surroundings | None = None

    @property
    def error(self) -> str | None:
        """What went wrong and where, on one line."""
        return self.result if isinstance(self.result, str) else None


def describe(error: BaseException) -> str:
    """Say on one line what went wrong and where."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SealedFileError):  # it says where itself
        return said
    frames = traceback.extract_tb(error.__traceback__)
    # An alarm goes off in a function of ours; where the method stood is one before.
    frame = frames[-2] if isinstance(error, OutOfTimeError) else frames[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}"
    return f"{said} ({place})"


def make_record(attempt: Attempt, backbone: Backbone, request: RunRequest, surroundings: Surroundings) -> CellRecord:
    """Return the record of `attempt`; if what the method left is none that can be kept, that of a failed cell."""
    try:
        return _record(attempt, backbone, request, surroundings)
    except Exception as error:  # a plug-in's figures of the wrong kind cost its cell and no other
        return _record(
            Attempt(attempt.planned, describe(error), isolation=attempt.isolation), backbone, request, surroundings
        )


def _record(attempt: Attempt, backbone: Backbone, request: RunRequest, surroundings: Surroundings) -> CellRecord:
    planned, result = attempt.planned, attempt.result
    card = planned.method.card
    outcome: dict[str, Any] = {"status": "failed", "error": attempt.error}
    train_log = _with_parts(plain(attempt.train_log))
    if isinstance(result, Answered):
        train_log["teacher_tokens"] = _teacher_tokens(planned, backbone)
        outcome = {
            "status": "ok",
            "metrics": result.outcome.metrics,
            "score": result.outcome.score,
            "unparsable": result.outcome.unparsable,
            "rows": _rounded(result.outcome.rows),
            "timing": _timing(planned, result),
            "energy": result.performance.energy,
            "data": _data(planned, result.performance.predictions, request),
        }
    return CellRecord(
        identity=planned.identity,
        parts=planned.parts,
        cell=planned.cell,
        method=MethodInfo(
            role=card.role,
            inference=card.inference,
            uses_rationales=card.uses_rationales,
            summary=card.summary,
            paper=card.paper,
        ),
        task=TaskInfo(labels=list(planned.test.classes), metrics=list(planned.loaded.card.metrics)),
        train=TrainingCost.model_validate(train_log),
        isolation=attempt.isolation,
        environment=surroundings,
        request=request.without_places(planned.cell.backbone),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **outcome,
    )


def _with_parts(log: dict[str, Any]) -> dict[str, Any]:
    """Return the log of a training whose costs include those of the methods that this one has run."""
    parts = {name: _with_parts(part) for name, part in (log.get("inner") or {}).items()}
    if not any(parts.values()):
        return {key: value for key, value in log.items() if key != "inner"}
    costs = {
        name: sum(part.get(name) or 0 for part in parts.values()) + (log.get(name) or 0)
        for name in ("steps", "tokens", "seconds")
    }
    return log | costs | {"inner": parts}


def plain(value: Any) -> Any:
    """Return `value` as JSON has it: a method may note numbers of numpy's or torch's, and what is no number at all."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        found = {str(key): plain(inner) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if not _infinite(inner)}
    if isinstance(value, list | tuple):
        return [None if _infinite(inner) else inner for inner in map(plain, value)]
    return value if isinstance(value, str | int | float | None) else str(value)


def _infinite(value: Any) -> bool:
    """Whether it is a number that JSON lacks, as the loss of a training that has diverged."""
    return isinstance(value, float) and not math.isfinite(value)


def _rounded(rows: Rows) -> Rows:
    scores = rows.score and [[round(value, 5) for value in row] for row in rows.score]
    return rows.model_copy(update={"score": scores})


def _timing(planned: PlannedCell, result: Answered) -> Timing:
    per_row = 1 / planned.test.candidates
    performance = result.performance
    laps = [(count * per_row, seconds) for count, seconds in performance.laps]
    seconds = sum(lap for _, lap in laps)
    return Timing(
        examples=len(planned.test),
        seconds=max(seconds, 1e-9),  # a coarse clock may not have moved
        qps=len(planned.test) / max(seconds, 1e-9),
        laps=laps,
        tokens_in=sum(performance.predictions.tokens_in),
        tokens_out=sum(performance.predictions.tokens_out),
        warmup_seconds=performance.warmup_seconds,
    )


def _data(planned: PlannedCell, predictions: Predictions, request: RunRequest) -> Data:
    loaded, test = planned.loaded, planned.test
    return Data(
        source=loaded.source.kind,
        revision=loaded.source.revision,
        fingerprint=loaded.fingerprint,
        rationale_fingerprint=loaded.rationale_fingerprint,
        rationale_coverage=loaded.rationale_coverage,
        train_rows=len(planned.data.train) // test.candidates,
        dev_rows=len(planned.data.dev) // test.candidates,
        test_rows=len(test),
        truncated_test=predictions.truncated,
        **_given_away(planned, request),
    )


def _given_away(planned: PlannedCell, request: RunRequest) -> dict[str, Any]:
    """Return how many rows are taught, if not all, and what their rationales tell if a run compares several stores."""
    if not planned.method.card.uses_rationales:
        return {}
    loaded, train = planned.loaded, planned.data.train
    taught = sum(row.rationale is not None for row in train)
    rows = {"taught_rows": taught // planned.test.candidates}
    if not request.paired:
        return rows if taught < len(train) else {}
    if loaded.rationale_fingerprint not in _known:
        told = [row for row in loaded.train if row.rationale is not None]
        texts, labels, clusters = zip(*((row.rationale or "", row.label, row.cluster) for row in told), strict=True)
        _known[loaded.rationale_fingerprint] = predictability(texts, labels, clusters)
    found = _known[loaded.rationale_fingerprint]
    read, largest = found or (None, None)
    return {**rows, "label_read": read, "largest_class": largest}


_known: dict[str, tuple[float, float] | None] = {}
"""What `predictability` has found, by fingerprint of the rationales: the same for all seeds and methods."""


def _teacher_tokens(planned: PlannedCell, backbone: Backbone) -> int:
    """Count the tokens of the rationales that the method was given, each text once.

    They are the backbone's tokens, not the teacher's own, and the teacher may have written more: texts
    that were rejected are in no store.
    """
    card, rows = planned.method.card, (*planned.data.train, *planned.data.dev)
    texts = {row.rationale for row in rows if row.rationale} if card.uses_rationales else set()
    if card.uses_counterfactuals:
        texts |= {text for row in rows for _, text in row.counterfactuals}
    return sum(len(backbone.encode(text)) for text in texts)
