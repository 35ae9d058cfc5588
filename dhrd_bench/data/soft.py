"""Soft labels: how probable a teacher took each class of a row to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from dhrd_bench.data.cards import TaskDefinition
from dhrd_bench.data.rationales import Rationale
from dhrd_bench.data.rows import SourceRow, label_key
from dhrd_bench.errors import UserError, did_you_mean

Soft = Mapping[str, tuple[float, ...]]
"""Class probabilities by row id."""


def soft_labels(rows: Sequence[SourceRow], task: TaskDefinition, lines: Sequence[Rationale]) -> Soft:
    """Return what the lines of a store say of how probable the classes of `rows` are.

    A line belongs to the row that has its id and its input's hash; the gold label has no say. Of several samples the
    lowest counts. A line without probabilities that has an answer and a confidence gives the answer that much, and the
    other classes equal shares of the rest.

    Raises
    ------
    UserError
        If a line names a class that the task does not have.
    """
    hashes = {row.id: row.input_hash for row in rows}
    found: dict[str, tuple[float, ...]] = {}
    for line in sorted(lines, key=lambda line: line.sample):
        name, digest = line.key
        if line.opinion and hashes.get(name) == digest and name not in found:
            found[name] = _probabilities(line, task)
    return found


def _probabilities(line: Rationale, task: TaskDefinition) -> tuple[float, ...]:
    names = task.label.names
    values = task.label.values or names
    classes = {label_key(word): number for words in (names, values) for number, word in enumerate(words)}

    def class_of(word: str) -> int:
        number = classes.get(label_key(word))
        if number is None:
            message = f"The soft labels of row {line.key[0]!r} name a class {word!r}."
            raise UserError(message, did_you_mean(word, names))
        return number

    if line.probabilities is not None:
        shares = {class_of(word): share for word, share in line.probabilities.items()}
        # Rounded figures may not quite add up.
        return tuple(shares.get(number, 0.0) / sum(shares.values()) for number in range(len(names)))
    assert line.answer is not None
    assert line.confidence is not None
    answer, rest = class_of(line.answer), (1 - line.confidence) / (len(names) - 1)
    return tuple(line.confidence if number == answer else rest for number in range(len(names)))


def digest_of(soft: Soft) -> str:
    """Return a digest of soft labels with their row ids; empty if there are none."""
    return hashlib.sha256(json.dumps(sorted(soft.items())).encode()).hexdigest()[:16] if soft else ""
