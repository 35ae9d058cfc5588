"""From a log to records, one a repetition."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dhrd_bench import registry
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import HARNESS_VERSION, digest, with_versions
from dhrd_bench.importing.logs import Log, Wanted
from dhrd_bench.importing.rows import (
    UNREAD,
    WRONG_OR_RIGHT,
    Answered,
    OwnRows,
    SuiteRows,
    Taken,
    in_order,
    own_classes,
    take,
)
from dhrd_bench.request import RunRequest, split_suite
from dhrd_bench.results.schema import (
    FOREIGN,
    BackboneIdentity,
    Cell,
    CellRecord,
    Data,
    Foreign,
    IdentityParts,
    MethodIdentity,
    MethodInfo,
    Rows,
    SuiteIdentity,
    TaskIdentity,
    TaskInfo,
)
from dhrd_bench.results.store import check_names

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Imported:
    """A record, and what of its log is not in it: how many samples by the reason, with the first one's place."""

    record: CellRecord
    log: Log
    left: Mapping[str, int]
    first: Mapping[str, str]
    absent: int


@dataclass(frozen=True)
class _Kind:
    """What the rows of a record are of."""

    suite: SuiteIdentity
    task: TaskIdentity
    info: TaskInfo


def records_of(logs: Sequence[Log], wanted: Wanted, data_dir: Path | None) -> Iterator[Imported]:
    """Yield the records of `logs`: one a log and repetition, the seeds of which count on from ``wanted.seed``.

    Raises
    ------
    UserError
        If a name cannot be had, no sample has a row, or a log cannot be read.
    """
    if not _NAME.fullmatch(wanted.method) or wanted.method in registry.methods.names():
        hint = "Take letters, digits, points and hyphens, and the name of no method that is here."
        raise UserError(f"A foreign method cannot be called {wanted.method!r}.", hint)
    make = _of_suite(wanted, data_dir) if wanted.suite else _of_itself(logs, wanted)
    seed = wanted.seed
    for log in logs:
        found = take(log, make.rows)
        for epoch in sorted(found):
            yield make(log, found[epoch], seed)
            seed += 1


class _Maker:
    """Makes records over the rows of one task."""

    def __init__(self, wanted: Wanted, kind: _Kind, rows: SuiteRows | OwnRows) -> None:
        self.wanted, self.kind, self.rows = wanted, kind, rows

    def __call__(self, log: Log, taken: Taken, seed: int) -> Imported:
        if not taken.answers:
            reasons = "; ".join(f"{count} samples {why} ({taken.first[why]})" for why, count in taken.left.items())
            raise UserError(f"{log.path}: no sample has a row: {reasons}.", "See that it is of this task's test rows.")
        rows = self._columns(taken)
        left = sum(taken.left.values())
        absent = len(self.rows.loaded.test) - len(rows.id) if isinstance(self.rows, SuiteRows) else 0
        record = _record(self.wanted, self.kind, log, rows, seed, samples=len(rows.id) + left, left=left)
        return Imported(record, log, taken.left, taken.first, absent)

    def _columns(self, taken: Taken) -> Rows:
        if isinstance(self.rows, SuiteRows):
            return _suite_columns(self.rows, taken)
        answers = list(taken.answers.values())
        classes = len(self.kind.info.labels)
        told = tuple(self.kind.info.labels) != WRONG_OR_RIGHT
        return Rows(
            id=[answer.row for answer in answers],
            label=[(answer.gold or 0) if told else 1 for answer in answers],
            prediction=[_known(answer.choice, classes) if told else int(answer.right) for answer in answers],
            score=_scores(answers, range(classes)) if told else None,
        )


def _known(choice: int | None, classes: int) -> int:
    return choice if choice is not None and choice < classes else UNREAD


def _suite_columns(rows: SuiteRows, taken: Taken) -> Rows:
    test = rows.loaded.test
    answers = in_order(test.ids, taken.answers)
    places = [place for place, name in enumerate(test.ids) if name in taken.answers]
    classes = rows.classes(answers)
    order = None if classes is None else [place for place, _ in sorted(classes.items(), key=lambda pair: pair[1])]
    return Rows(
        id=[answer.row for answer in answers],
        label=[test.labels[place] for place in places],
        prediction=[rows.predicted(answer, classes) for answer in answers],
        cluster=test.clusters and [test.clusters[place] for place in places],
        group=test.groups and [test.groups[place] for place in places],
        score=None if order is None else _scores(answers, order),
    )


def _scores(answers: Sequence[Answered], order: Sequence[int]) -> list[list[float]] | None:
    """Return the scores in the order of the classes, if every row has one a class."""
    found = []
    for answer in answers:
        if answer.scores is None or len(answer.scores) != len(order):
            return None
        found.append([round(answer.scores[place], 5) for place in order])
    return found


def _of_suite(wanted: Wanted, data_dir: Path | None) -> _Maker:
    assert wanted.suite is not None
    request = split_suite(RunRequest(suite=wanted.suite))
    suite = Suite.named(request.suite)
    loaded = suite.load(wanted.task, prompt=request.prompt, data_dir=data_dir, alone=True)
    card = loaded.card
    task = TaskIdentity(
        name=card.name, version=card.version, prompt=card.prompt, prompt_version=card.prompt_version,
        fingerprint=loaded.fingerprint,
    )  # fmt: skip
    info = TaskInfo(labels=list(loaded.test.classes), metrics=list(card.metrics))
    kind = _Kind(SuiteIdentity(name=suite.name, version=suite.version), task, info)
    return _Maker(wanted, kind, SuiteRows(suite, loaded, data_dir))


def _of_itself(logs: Sequence[Log], wanted: Wanted) -> _Maker:
    classes = own_classes(sample for log in logs for sample in log.samples())
    about = [FOREIGN, wanted.task, classes]
    task = TaskIdentity(
        name=wanted.task, version="1.0.0", prompt=FOREIGN, prompt_version="1.0.0", fingerprint=digest(about)
    )
    info = TaskInfo(labels=list(classes), metrics=["accuracy"])
    return _Maker(wanted, _Kind(SuiteIdentity(name=FOREIGN, version="1.0.0"), task, info), OwnRows())


def _record(wanted: Wanted, kind: _Kind, log: Log, rows: Rows, seed: int, *, samples: int, left: int) -> CellRecord:
    sha256 = log.digest()
    parts = IdentityParts(
        harness=HARNESS_VERSION,
        suite=kind.suite,
        task=kind.task,
        rows=digest(rows.id),
        method=MethodIdentity(
            name=wanted.method,
            version=log.version or "unknown",
            params={"model": log.model, "score": log.score},
            code=digest([log.tool, log.task]),
        ),
        backbone=BackboneIdentity(revision=FOREIGN, dtype=""),
        budget={},
        log=sha256,
        seed=seed,
    )
    parts = with_versions(parts, {}, "")
    suite = kind.suite.name if wanted.suite is None else _suite_name(wanted.suite)
    cell = Cell(suite=suite, task=kind.task.name, method=wanted.method, backbone=FOREIGN, budget=FOREIGN, seed=seed)
    check_names(cell)
    metrics = _metrics(kind.info, rows)
    return CellRecord(
        identity=digest(parts.hashed()),
        parts=parts,
        cell=cell,
        status="ok",
        method=MethodInfo(
            role="method",
            inference="generate" if log.generates else "score",
            uses_rationales=False,
            summary=f"{log.model or 'a model'}, run by {log.tool} {log.version}".rstrip(),
        ),
        task=kind.info,
        data=Data(
            source=FOREIGN,
            fingerprint=kind.task.fingerprint,
            rationale_fingerprint="",
            rationale_coverage=0.0,
            train_rows=0,
            dev_rows=0,
            test_rows=len(rows.id),
        ),
        metrics=metrics,
        score=math.fsum(metrics.values()) / len(metrics),
        unparsable=rows.prediction.count(UNREAD) / len(rows.prediction),
        rows=rows,
        foreign=Foreign(
            tool=log.tool,
            version=log.version,
            model=log.model,
            task=log.task,
            score=log.score,
            samples=samples,
            left=left,
            sha256=sha256,
        ),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _suite_name(asked: str) -> str:
    """Return the suite's own spelling, without settings: what was asked of the model is not known here."""
    return Suite.named(split_suite(RunRequest(suite=asked)).suite).name


def _metrics(info: TaskInfo, rows: Rows) -> dict[str, float]:
    from dhrd_bench.data.metrics import compute

    return {
        name: compute(name, rows.prediction, rows.label, rows.group or rows.id, len(info.labels))
        for name in info.metrics
    }
