"""A fitted model as a teacher: its scores for train rows become the soft labels of a store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter, ValidationError

from dhrd_bench.data.rationales import Rationale
from dhrd_bench.errors import UserError, first_misfit
from dhrd_bench.rationales.generate import TeacherRow


class Scored(BaseModel):
    """What ``dhrd-bench records predictions`` says of a row, as far as it is read here."""

    id: str
    scores: dict[str, FiniteFloat] = Field(min_length=2)


def soft_lines(path: Path, rows: Sequence[TeacherRow], teacher: str) -> list[Rationale]:
    """Return a line of a store for each of `rows` that has scores in the JSON file at `path`.

    Scores are logits or log-probabilities by class; their softmax is kept, and no rationale.

    Raises
    ------
    UserError
        If the file has another form, or scores of none of the rows.
    """
    try:
        found = TypeAdapter(list[Scored]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    except ValidationError as error:
        hint = "It is what 'dhrd-bench records predictions --format json' writes of a method that has scores."
        raise UserError(f"{path}: {first_misfit(error)}.", hint) from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}.") from None
    scores = {row.id: row.scores for row in found}
    lines = [
        Rationale(
            idx=row.idx,
            label=row.raw_label,
            rationale="",
            input_sha256_16=row.input_hash,
            teacher=teacher,
            label_seen=False,
            probabilities=_softmax(scores[str(row.idx)]),
        )
        for row in rows
        if str(row.idx) in scores
    ]
    if not lines:
        hint = "Scores of test rows teach nothing: have the teacher predict the train rows, under their ids."
        raise UserError(f"{path} has no train row of this task.", hint)
    return lines


def _softmax(scores: Mapping[str, float]) -> dict[str, float]:
    largest = max(scores.values())
    powers = {name: math.exp(score - largest) for name, score in scores.items()}
    return {name: round(power / sum(powers.values()), 6) for name, power in powers.items()}
