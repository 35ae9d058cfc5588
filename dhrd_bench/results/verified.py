"""Which records were run again by a maintainer and came out the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dhrd_bench.errors import UserError, first_misfit
from dhrd_bench.results.schema import CellRecord, Rows
from dhrd_bench.results.store import write_text_atomically

NAME = "verified.json"
"""The file in a folder of results, an entry an identity."""


class Verification(BaseModel):
    """One run of a cell beside its record.

    Attributes
    ----------
    predictions
        Digest of the record's predictions: an altered record is no longer a verified one.
    by, when
        Who vouches for it, and the time.
    commit
        Of the checkout that it was run from; None for an installed package.
    machine
        Processor or card.
    flips, rows
        Predictions that differed, within what another machine may, of how many.
    """

    model_config = ConfigDict(extra="forbid")

    predictions: str
    by: str
    when: str
    commit: str | None = None
    machine: str
    flips: int
    rows: int


_ENTRIES = TypeAdapter(dict[str, Verification])


def predictions_digest(rows: Rows) -> str:
    """Return a digest of the rows, their classes and what was predicted."""
    text = json.dumps([rows.id, rows.label, rows.prediction], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_verified(results: Path) -> dict[str, Verification]:
    """Return the verifications of a folder of results by identity; none if it has no such file.

    Raises
    ------
    UserError
        If the file is not of that form.
    """
    path = results / NAME
    try:
        return _ENTRIES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        message = f"{path} is not what `rerun --verify` writes: {first_misfit(error)}."
        raise UserError(message, "Take it from the repository again, or delete it.") from error


def write_verified(results: Path, identity: str, verification: Verification) -> Path:
    """Add a verification to the file of `results`, in place of an older one of the same cell."""
    entries = read_verified(results) | {identity: verification}
    text = _ENTRIES.dump_json(dict(sorted(entries.items())), indent=1).decode()
    write_text_atomically(results / NAME, text + "\n")
    return results / NAME


def is_verified(record: CellRecord, entries: dict[str, Verification]) -> bool:
    """Whether `record` is one of the verified, with the predictions that it had then."""
    entry = entries.get(record.identity)
    return entry is not None and record.rows is not None and entry.predictions == predictions_digest(record.rows)
