"""From raw records to flat, checked rows."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dhrd_bench.data.cards import HubCard, SpanCard, TaskDefinition, Value
from dhrd_bench.data.files import Record
from dhrd_bench.data.overlap import letters
from dhrd_bench.data.rationales import Rationale
from dhrd_bench.errors import UserError, did_you_mean

_MISSING = object()
_ID = re.compile(r"[A-Za-z0-9_.:/#-]{0,64}")
"""What the name or number of something looks like, and no text of more than a word."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a task, the same from whichever source.

    Attributes
    ----------
    id, cluster, group
        Names of the row, of the rows of its split that share its text, and of those scored together with it.
    shared
        What its cluster shares, by which rows of two splits are compared; empty where nothing tells.
    fields
        The task's fields.
    label
        Label id.
    rationale
        The one that stands in the row, if any.
    input_hash
        First 16 hexadecimal digits of SHA-256 over the task's ``hash`` fields.
    place
        Where it was read, for messages.
    """

    id: str
    cluster: str
    group: str
    shared: str
    fields: dict[str, Value]
    label: int
    rationale: str | None
    input_hash: str
    place: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a source keeps what a row is made of."""

    explode: Mapping[str, str]
    fields: Mapping[str, str]
    label: str
    values: tuple[Value, ...]
    rationale: str | None

    @classmethod
    def of(cls, task: TaskDefinition, hub: HubCard | None = None) -> Layout:
        """Return the layout of the task's files, or of its hub data set."""
        label = task.label
        rationale = task.rationale.field if task.rationale else None
        values = label.values or label.names
        if hub is None:
            return cls(task.explode, task.fields, label.field, values, rationale)
        explode = task.explode if hub.explode is None else hub.explode
        fields = {**task.fields, **hub.fields}
        return cls(explode, fields, hub.label or label.field, hub.values or values, hub.rationale or rationale)


def input_hash(values: Iterable[Value]) -> str:
    """Return the hash by which a rationale knows its row: SHA-256 over `values` joined by U+001F, 16 digits."""
    return hashlib.sha256("\x1f".join(str(value) for value in values).encode()).hexdigest()[:16]


def read_rows(records: Iterable[Record], task: TaskDefinition, layout: Layout) -> list[SourceRow]:
    """Flatten and check `records`.

    Raises
    ------
    UserError
        At the first row with a missing field, a value that is no text or number, an unknown label, a
        span outside its text or an id that was there before; with file and line.
    """
    classes = {label_key(value): number for number, value in enumerate(layout.values)}
    rows: list[SourceRow] = []
    seen: dict[str, str] = {}
    for place, record in _exploded(records, layout.explode):
        fields = {name: _scalar(record, path, place) for name, path in layout.fields.items()}
        raw = _required(record, layout.label, place)
        label = classes.get(label_key(raw))
        if label is None:
            known = ", ".join(json.dumps(value) for value in layout.values)
            raise UserError(f"{place}: {layout.label!r} is {json.dumps(raw, default=str)}.", f"Known labels: {known}.")
        for span in task.spans:
            _check_span(span, fields, place)
        row_id = _name(task.id, fields) if task.id else str(len(rows))
        if row_id in seen:
            names = ", ".join(task.id)
            raise UserError(
                f"{place}: {names} {row_id!r} is taken by {seen[row_id]}.", "Ids are unique within a split."
            )
        seen[row_id] = place
        rationale = _get(record, layout.rationale) if layout.rationale else None
        if not isinstance(rationale, str) or not rationale.strip():
            rationale = None
        elif layout.rationale:
            _check_encodable(rationale, layout.rationale, place)
        rows.append(
            SourceRow(
                id=row_id,
                cluster=row_id,
                shared="",
                group=_name(task.group, fields) if task.group else row_id,
                fields=fields,
                label=label,
                rationale=rationale and rationale.strip(),
                input_hash=input_hash(fields[name] for name in task.hash or task.fields),
                place=place,
            )
        )
    return _clustered(rows, task) if task.cluster else rows


def fingerprint(splits: Mapping[str, Sequence[SourceRow]], names: Sequence[str]) -> str:
    """Return a digest of the rows: ids, fields and classes, split by split, in order; not of rationales."""
    digest = hashlib.sha256()
    for split, rows in splits.items():
        digest.update(split.encode())
        for row in rows:
            digest.update(
                json.dumps([row.id, row.fields, names[row.label]], ensure_ascii=False, sort_keys=True).encode()
            )
    return digest.hexdigest()[:16]


def empty_texts(rows: Sequence[SourceRow]) -> Counter[str]:
    """Count empty texts by field; releases have a few, so they are no error."""
    return Counter(
        name for row in rows for name, value in row.fields.items() if isinstance(value, str) and not value.strip()
    )


def partly_marked(rows: Sequence[SourceRow], task: TaskDefinition) -> str:
    """Say how many spans of characters begin or end inside a word, and name the first; empty if none does.

    Offsets that were counted in bytes, or in another form of the text, end up there. What a span covers is not
    compared with the word that it should be, as a text may inflect it.
    """
    odd = []
    for row in rows:
        for span in task.spans:
            if span.start is None or span.end is None:
                continue
            text, start, end = str(row.fields[span.text]), int(row.fields[span.start]), int(row.fields[span.end])
            if any(re.fullmatch(r"\w\w", text[max(0, edge - 1) : edge + 1]) for edge in (start, end)):
                wanted = f" where {span.words!r} is {row.fields[span.words]!r}" if span.words else ""
                odd.append(f"{row.place}: marked {text[start:end]!r}{wanted}")
    return f"{len(odd)} spans begin or end inside a word; the first at {odd[0]}" if odd else ""


# ---------------------------------------------------------------- rationales


@dataclass(frozen=True, slots=True)
class Joined:
    """Rationales by row id; how many lines were written for another input or label, or for rows not there.

    `answers` are the label ids that their writers gave, by row id, where they gave one. `counterfactuals` are by row id
    as well, in the order of their samples, each behind the class that it argues for.
    """

    texts: dict[str, str]
    answers: dict[str, int]
    counterfactuals: dict[str, tuple[tuple[int, str], ...]]
    mismatched: int
    absent: int


def join_rationales(rows: Sequence[SourceRow], task: TaskDefinition, lines: Sequence[Rationale]) -> Joined:
    """Give each train row its rationale: the one that stands in it, or the first usable line that fits it.

    A line belongs to the row whose id is its ``idx`` (several numbers joined by ``-``). It fits if its
    hash is that of the row's input and its label, where it has one, the row's; of several samples the
    lowest counts. A counterfactual line has a label, which is not the row's; all of these count.
    """
    texts = {row.id: row.rationale for row in rows if row.rationale}
    answers: dict[str, int] = {}
    values = task.label.values or task.label.names
    classes = {label_key(value): number for number, value in enumerate(values)}
    by_id = {row.id: row for row in rows}
    counterfactuals: dict[str, tuple[tuple[int, str], ...]] = {}
    mismatched = absent = 0
    for line in sorted(lines, key=lambda line: line.sample):
        name, digest = line.key
        row = by_id.get(name)
        if not line.usable:
            continue
        if row is None:
            absent += 1
            continue
        label = None if line.label is None else classes.get(label_key(line.label), -1)
        fits = (label is not None and 0 <= label != row.label) if line.counterfactual else label in (None, row.label)
        if digest != row.input_hash or not fits:
            mismatched += 1
        elif line.counterfactual and label is not None:
            counterfactuals[row.id] = (*counterfactuals.get(row.id, ()), (label, line.rationale.strip()))
        elif row.id not in texts:
            texts[row.id] = line.rationale.strip()
            if (answer := _class_of(line.answer, task)) is not None:
                answers[row.id] = answer
    return Joined(texts, answers, counterfactuals, mismatched, absent)


def _class_of(answer: str | None, task: TaskDefinition) -> int | None:
    """Return the class that a teacher's answer names: as the data write it, by its name, or in a prompt's words."""
    asked = [prompt.answers for prompt in task.prompts.values() if not prompt.candidates]
    for words in (task.label.values or (), task.label.names, *asked):
        known = [label_key(word) for word in words]
        if answer is not None and label_key(answer) in known:
            return known.index(label_key(answer))
    return None


# ---------------------------------------------------------------- fields


def _exploded(records: Iterable[Record], explode: Mapping[str, str]) -> Iterator[Record]:
    if not explode:
        yield from records
        return
    for place, record in records:
        flat: list[Mapping[str, Any]] = [record]
        for alias, path in explode.items():
            step: list[Mapping[str, Any]] = []
            for outer in flat:
                items = _required(outer, path, place)
                if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                    raise UserError(
                        f"{place}: {path!r} is no list of objects.", "Mend the row, or 'explode' in the suite."
                    )
                step += [{**outer, alias: item} for item in items]
            flat = step
        for row in flat:
            yield place, row


def _get(record: Mapping[str, Any], path: str) -> Any:
    """Return what stands at the dotted `path`, or `_MISSING`."""
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _required(record: Mapping[str, Any], path: str, place: str) -> Any:
    value = _get(record, path)
    if value is _MISSING:
        raise UserError(f"{place}: there is no {path!r}.", did_you_mean(path, map(str, record)))
    return value


def _scalar(record: Mapping[str, Any], path: str, place: str) -> Value:
    value = _required(record, path, place)
    if not isinstance(value, str | bool | int | float):
        raise UserError(
            f"{place}: {path!r} is {json.dumps(value, default=str)[:60]}.", "It must be a text or a number."
        )
    if isinstance(value, float) and not math.isfinite(value):  # what pandas writes for a cell that was empty
        raise UserError(f"{place}: {path!r} is {json.dumps(value)}.", "Write the text or number, or leave the row out.")
    if isinstance(value, str):
        _check_encodable(value, path, place)
    return value


def _check_encodable(text: str, path: str, place: str) -> None:
    """Refuse half a surrogate pair: JSON can spell it, but it is no character, and no tokenizer takes it."""
    if half := _SURROGATE.search(text):
        shown = f"\\u{ord(half[0]):04x}"
        raise UserError(f"{place}: {path!r} holds {shown}, half a character.", "Write both halves, or neither.")


def _name(names: Sequence[str], fields: Mapping[str, Value]) -> str:
    return "-".join(str(fields[name]) for name in names)


def _clustered(rows: Sequence[SourceRow], task: TaskDefinition) -> list[SourceRow]:
    """Return the rows of a split with the names of their clusters and what these share.

    A field of the cluster holds ids if all its values look like such (`_ID`), else texts. Ids are compared to the
    letter and give the cluster its name. Of texts the letters and digits are compared, and the name is the id of the
    first row, so that no text gets into a record. Fields that name the row are numbered anew in every split: they
    say nothing of what two splits share.
    """
    texts = {name for name in task.cluster if not all(_ID.fullmatch(str(row.fields[name])) for row in rows)}
    first: dict[str, str] = {}
    clustered = []
    for row in rows:
        values = {name: str(row.fields[name]) for name in task.cluster}
        shared = "\n".join(letters(value) or value if name in texts else value for name, value in values.items())
        name = first.setdefault(shared, row.id) if texts else _name(task.cluster, row.fields)
        clustered.append(replace(row, cluster=name, shared="" if set(task.cluster) <= set(task.id) else shared))
    return clustered


def label_key(value: Any) -> str:
    """Return the form in which raw labels are compared: CSV has "1" and "TRUE" where JSON has 1 and true."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def _check_span(span: SpanCard, fields: Mapping[str, Value], place: str) -> None:
    """Refuse a span outside its text; what it covers is not compared, as releases differ from it in case and form."""
    text = str(fields[span.text])
    try:
        if span.index is not None and span.words is not None:
            start = int(fields[span.index])
            end, length, unit = start + max(len(str(fields[span.words]).split()), 1), len(text.split()), "words"
        else:
            assert span.start is not None
            assert span.end is not None
            start, end, length, unit = int(fields[span.start]), int(fields[span.end]), len(text), "characters"
    except ValueError as error:
        raise UserError(f"{place}: a span of {span.text!r} is no whole number: {error}.") from error
    if not 0 <= start < end <= length:
        message = f"{place}: the span {start}:{end} is outside {span.text!r}, which has {length} {unit}."
        raise UserError(message, "Spans count from 0 and end before their end.")
