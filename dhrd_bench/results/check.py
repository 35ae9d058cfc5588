"""What can be seen of a record by itself, and of records side by side, without the data and the code they are of.

Whoever alters a record can compute its checksum anew, so nothing here trusts that: every figure that follows from
others is computed again, and what two records say of one thing is compared.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from dhrd_bench.cards import Reference
from dhrd_bench.contracts import Budget
from dhrd_bench.errors import UserError, first_misfit
from dhrd_bench.results.checksum import parted
from dhrd_bench.results.schema import SCHEMA_VERSION, CellRecord, Rows, Timing
from dhrd_bench.results.store import parse_record, read_regular, record_path, superseded_path
from dhrd_bench.untrusted import parse_json

RUN_AGAIN = "Run the cell again, or take the file out."


@dataclass(frozen=True)
class Finding:
    """One thing that a check has to say of a file.

    Attributes
    ----------
    severity
        ``failure``: the record cannot be as it says. ``warning``: it can, and somebody should look. ``note``:
        something could not be checked, or is of an older release.
    kind
        What was looked at, in a word.
    path
        The file.
    message, cure
        What is the matter, and what to do about it.
    """

    severity: Literal["failure", "warning", "note"]
    kind: str
    path: Path
    message: str
    cure: str = ""


@dataclass(frozen=True)
class RecordFile:
    """A record and the file that it was read from."""

    path: Path
    record: CellRecord

    def fails(self, kind: str, message: str, cure: str = RUN_AGAIN) -> Finding:
        """Return a finding that the record cannot be as it says."""
        return Finding("failure", kind, self.path, message, cure)

    def warns(self, kind: str, message: str, cure: str) -> Finding:
        """Return a finding that somebody should look at."""
        return Finding("warning", kind, self.path, message, cure)

    def notes(self, kind: str, message: str, cure: str = "") -> Finding:
        """Return a finding of something that could not be checked."""
        return Finding("note", kind, self.path, message, cure)


# ---------------------------------------------------------------- files


def record_files(places: Iterable[Path]) -> list[Path]:
    """Return the files of records at `places`, files or folders, whatever the files are called.

    Raises
    ------
    UserError
        If there is nothing at one of the places.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not place.exists():
            raise UserError(f"There is nothing at {place}.", "Name a folder of records, or a record's file.")
        found |= dict.fromkeys(filter(_is_record, sorted(place.rglob("*.json"))) if place.is_dir() else [place])
    return list(found)


def _is_record(path: Path) -> bool:
    """Whether a file in a results folder is meant as a cell's record: by its name, or by what it holds."""
    if path.name.startswith("seed-"):
        return True
    try:
        content = parse_json(read_regular(path))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"cell", "parts"} <= content.keys()


def read_file(path: Path) -> tuple[RecordFile | None, list[Finding]]:
    """Read a record's file, and say what is wrong with its form, its checksum and its place."""

    def failure(kind: str, message: str, cure: str) -> Finding:
        return Finding("failure", kind, path, message, cure)

    try:
        content, fits = parted(read_regular(path))
        raw = parse_json(content)
        raw.pop("checksum", None)
        record = parse_record(json.dumps(raw).encode())
    except (ValueError, OSError, AttributeError) as error:
        return None, [failure("schema", f"it is no record: {error}", RUN_AGAIN)]
    file = RecordFile(path, record)
    findings = list(_unknown(file, raw))
    if fits is None and b'"checksum"' not in content:
        findings.append(file.notes("checksum", "it has no checksum: it is of before there was one"))
    elif not fits:
        cure = "Take it as the run wrote it."
        findings.append(
            failure("checksum", "its checksum is not its content's: it was changed after it was made", cure)
        )
    place = record_path(Path(), record.cell)
    allowed = {place, superseded_path(place, record.identity)}
    if Path(*path.resolve().parts[-len(place.parts) :]) not in allowed:
        findings.append(failure("place", f"it is the record of {place}", "Move it there."))
    return file, findings


def _unknown(file: RecordFile, raw: dict[str, Any]) -> Iterator[Finding]:
    """Say of fields that the schema lacks; a later minor version may have added some."""
    try:
        CellRecord.model_validate(raw)
    except ValidationError as error:
        message = f"its schema has no field {first_misfit(error).place!r}"
        if newer(file.record.schema_version, SCHEMA_VERSION):
            yield file.notes("schema", f"{message}: it is of schema {file.record.schema_version}", "Update dhrd-bench.")
        else:
            yield file.fails("schema", message, "Take the field out.")


def newer(version: str, than: str) -> bool:
    """Whether a version is later than another, number by number; one that is not of numbers is later than any."""
    try:
        return tuple(map(int, version.split("."))) > tuple(map(int, than.split(".")))
    except ValueError:
        return True


# ---------------------------------------------------------------- one record


def check_record(file: RecordFile) -> Iterator[Finding]:
    """Compute again what follows from the rest of a record."""
    record = file.record
    yield from _names(file)
    untimed = record.timing is None and record.foreign is None
    if record.rows is None or untimed or record.score is None:
        if record.status == "ok" or record.metrics or record.rows or record.timing or record.score is not None:
            yield file.fails("outcome", "it is of a failed cell and has an outcome")
        return
    if record.error is not None:
        yield file.fails("outcome", "it is of a cell that went through and names an error")
    yield from _rows(file, record.rows)
    yield from _metrics(file, record.rows, record.score)
    if record.timing is not None:
        yield from _timing(file, record.timing, len(record.rows.id))
    yield from _data(file, len(record.rows.id))


def _names(file: RecordFile) -> Iterator[Finding]:
    """Compare the names that a record stands under with what its identity is of."""
    cell, parts = file.record.cell, file.record.parts
    pairs: list[tuple[str, object, object]] = [
        ("suite", Reference.parse(cell.suite).name, parts.suite.name),
        ("task", cell.task, parts.task.name),
        ("method", cell.method, parts.method.name),
        ("seed", cell.seed, parts.seed),
    ]
    if (request := file.record.request) is not None:
        if cell.method not in request.methods:
            yield file.fails("names", f"method {cell.method!r} is not among those that its request names")
        if request.seeds is not None and cell.seed not in request.seeds:
            yield file.fails("names", f"seed {cell.seed} is not among those that its request names")
        pairs.append(("budget", cell.budget, request.budget))
    if dtype := file.record.environment.dtype:
        pairs.append(("dtype", dtype, parts.backbone.dtype))
    for what, said, other in pairs:
        if said != other:
            yield file.fails("names", f"its {what} is {said!r} in one place and {other!r} in another")


def _rows(file: RecordFile, rows: Rows) -> Iterator[Finding]:
    classes = range(len(file.record.task.labels))
    for name, column, allowed in (("label", rows.label, classes), ("prediction", rows.prediction, (-1, *classes))):
        if odd := set(column) - set(allowed):
            yield file.fails("rows", f"{name} {min(odd)} is none of its {len(classes)} classes")
            return
    share = rows.prediction.count(-1) / max(1, len(rows.prediction))
    if not math.isclose(share, file.record.unparsable, abs_tol=1e-9):
        message = f"a share of {file.record.unparsable:.3g} is said to be unread, and its rows have {share:.3g}"
        yield file.fails("rows", message)
    if rows.score is None:
        return
    if any(len(scores) != len(classes) or not all(map(math.isfinite, scores)) for scores in rows.score):
        yield file.fails("rows", f"a row has scores that are not {len(classes)} finite numbers")
    elif file.record.method.kinds in (("pooled",), ("score",)):  # generated answers are read, not scored
        pairs = zip(rows.id, rows.prediction, rows.score, strict=True)
        # Scores are kept to five digits, so that a tie may be none.
        odd_rows = [name for name, label, scores in pairs if label >= 0 and scores[label] < max(scores) - 2e-5]
        if odd_rows:
            yield file.fails("rows", f"row {odd_rows[0]!r} is given another class than its largest score has")


def _metrics(file: RecordFile, rows: Rows, score: float) -> Iterator[Finding]:
    """Compute the metrics again from the predictions."""
    import numpy as np

    from dhrd_bench.metrics import METRICS

    record = file.record
    if not rows.id or set(record.metrics) != set(record.task.metrics):
        yield file.fails("metrics", f"it has {', '.join(record.metrics) or 'no metrics'} of {len(rows.id)} rows")
        return
    labels, predictions = np.array(rows.label), np.array(rows.prediction)
    for name, said in record.metrics.items():
        if name not in METRICS:
            yield file.notes("metrics", f"{name} was not computed again: it is not one of ours")
            continue
        metric = METRICS[name]
        if metric.binary and len(record.task.labels) != 2:
            yield file.fails("metrics", f"{name} is of two classes, and it has {len(record.task.labels)}")
            continue
        found = 100 * metric.measure(predictions, labels, rows.group or rows.id, len(record.task.labels))
        if not math.isclose(found, said, abs_tol=1e-6):
            yield file.fails("metrics", f"its {name} is {said:.4g}, its predictions give {found:.4g}")
    mean = math.fsum(record.metrics.values()) / len(record.metrics)
    if not math.isclose(mean, score, abs_tol=1e-6):
        yield file.fails("metrics", f"its score is {score:.4g}, its metrics have the mean {mean:.4g}")
    most = Counter(rows.label).most_common(1)[0][1]
    right = int((predictions == labels).sum())
    if right < most / 2:
        unread = f" ({rows.prediction.count(-1)} could not be read)" if -1 in rows.prediction else ""
        message = f"{right} of {len(rows.id)} answers are right{unread}; always answering the largest class gets {most}"
        yield file.warns("plausibility", message, "See whether its classes and its answers are in one order.")


def _timing(file: RecordFile, timing: Timing, rows: int) -> Iterator[Finding]:
    if timing.examples != rows:
        yield file.fails("timing", f"{timing.examples} examples were timed, and it has {rows} rows")
    if not math.isclose(timing.qps, timing.examples / timing.seconds, rel_tol=1e-6):
        made = timing.examples / timing.seconds
        yield file.fails("timing", f"its QPS is {timing.qps:.4g}, its examples and seconds make {made:.4g}")
    laps = [math.fsum(lap[column] for lap in timing.laps) for column in (0, 1)]
    if not (
        math.isclose(laps[0], timing.examples, rel_tol=1e-6)
        and math.isclose(laps[1], timing.seconds, rel_tol=1e-6, abs_tol=1e-8)
    ):
        message = f"its laps add up to {laps[0]:g} examples in {laps[1]:.4g} s, its timing says {timing.examples} in "
        yield file.fails("timing", f"{message}{timing.seconds:.4g} s")
    kinds = file.record.method.kinds
    reads, writes = bool(kinds), "generate" in kinds
    if timing.tokens_in < 0 or (reads and not timing.tokens_in):
        yield file.fails("timing", f"its method reads text, and {timing.tokens_in} tokens were read")
    if timing.tokens_out < 0 or (timing.tokens_out and not writes):
        yield file.fails("timing", f"its method writes nothing, and {timing.tokens_out} tokens were written")


def _data(file: RecordFile, rows: int) -> Iterator[Finding]:
    """Compare what a record says of its data with its rows, its identity and its budget."""
    data, parts = file.record.data, file.record.parts
    if data is None:
        yield file.fails("data", "it does not say what its data are")
        return
    if data.test_rows != rows:
        yield file.fails("data", f"{data.test_rows} test rows were drawn, and it has {rows}")
    if data.fingerprint != parts.task.fingerprint:
        yield file.fails("data", "its data have another fingerprint than the task of its identity")
    rationales = data.rationale_fingerprint if file.record.method.uses_rationales else None
    if parts.rationales != rationales:
        yield file.fails("data", "its rationales are not those of its identity")
    if (budget := budget_of(file.record)) is None:
        yield file.fails("budget", "the settings of its budget are none that a budget can have")
        return
    train = file.record.train
    epochs = 0 if train.epochs_wanted else len(train.epochs or ())  # a method that asks for others says how many
    drawn = {"train_rows": data.train_rows, "dev_rows": data.dev_rows, "epochs": epochs}
    for name, count in drawn.items():
        if (most := getattr(budget, name)) is not None and count > most:
            yield file.fails("budget", f"its {name} are {count}, its budget allows {most}")


def budget_of(record: CellRecord) -> Budget | None:
    """Return the budget whose settings a record's identity is of; None if a budget cannot have them."""
    try:
        return Budget.model_validate({"name": "recorded", **record.parts.budget})
    except ValidationError:
        return None


# ---------------------------------------------------------------- side by side


def check_together(files: Sequence[RecordFile]) -> Iterator[Finding]:
    """Say where records contradict each other: one identity twice, one row with two classes, one draw of two kinds."""
    identities: dict[str, Path] = {}
    draws: dict[str, tuple[list[str], Path]] = {}
    labels: dict[tuple[str, str], tuple[int, Path]] = {}
    for file in files:
        record = file.record
        first = identities.setdefault(record.identity, file.path)
        if first != file.path:
            yield file.fails("duplicate", f"{first} has the same identity", "Keep one of the two.")
            continue
        if record.rows is None:
            continue
        ids, other = draws.setdefault(record.parts.rows, (record.rows.id, file.path))
        if ids != record.rows.id:
            yield file.fails("agreement", f"it was given the rows of {other}, and has other rows, or another order")
        for name, label in zip(record.rows.id, record.rows.label, strict=True):
            known, other = labels.setdefault((record.parts.task.fingerprint, name), (label, file.path))
            if known != label:
                yield file.fails("agreement", f"row {name!r} has another class than in {other}")
                break
