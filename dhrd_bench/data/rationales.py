"""Rationales on disk: a folder with one JSONL file a task and a card.

A store is data that decides results, so it is kept like data: every line says which example it
belongs to (id and input hash), who wrote it and how; lines are only ever appended, each flushed to
the disk before the next request is counted; and a fingerprint pins what a run has read.

What a teacher answered is kept even when it must not be used (`Rationale.rejected`): it has been
paid for, and asking again would be paying twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dhrd_bench.errors import UserError, did_you_mean, first_misfit

Idx = int | str | dict[str, int]
"""How a data set numbers its rows; nested sets use several numbers."""


class Rationale(BaseModel):
    """One line of a store; only the first four keys are required of a hand-made one.

    Attributes
    ----------
    idx
        The row's number in its data set.
    label
        The row's gold label as the data set writes it; of a counterfactual line the label that it argues for.
    rationale
        The text to train on; in a rejected line, the teacher's whole reply.
    input_sha256_16
        First 16 hex digits of SHA-256 over the row's raw text fields joined by U+001F.
    sample
        0 for the row's first try, 1 for its second, ...
    counterfactual
        Whether it argues for another label than the row's; few methods read such lines, none takes one for the row's.
    teacher, prompt, label_seen, parameters
        Who wrote it, from which prompt (``name@version+hash``), whether the gold label was shown,
        and with which settings. Where they are missing, the store's card tells.
    answer
        The answer that the teacher wrote after its rationale, if one could be read.
    confidence
        How probable the teacher itself took that answer to be the gold label, 0-1.
    probabilities
        How probable the teacher took each class to be, by class; what is not named is 0.
    rejected
        Why the line must not be used for training; None where it may.
    tokens_in, tokens_out, cost, currency, seconds, created
        What it took: tokens, money, wall clock of the request, and when (UTC).
    model
        Under which name an endpoint served the teacher, if not the one asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    idx: Idx
    label: bool | int | float | str | None = None
    rationale: str
    input_sha256_16: str = Field(pattern="^[0-9a-f]{16}$")
    sample: int = Field(0, ge=0)
    counterfactual: bool = False
    teacher: str | None = None
    prompt: str | None = None
    label_seen: bool | None = None
    parameters: dict[str, Any] | None = None
    answer: str | None = None
    confidence: float | None = Field(None, ge=0, le=1)
    probabilities: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    rejected: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    currency: str | None = None
    seconds: float | None = None
    created: str | None = None
    model: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Example id and input hash: what the line belongs to."""
        return example_key(self.idx), self.input_sha256_16

    @field_validator("probabilities")
    @classmethod
    def _add_up(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and abs(sum(value.values()) - 1) > 1e-3:
            raise ValueError(f"they add up to {sum(value.values()):g}, not to 1")
        return value

    @property
    def opinion(self) -> bool:
        """Whether it says how probable the classes are; that may be used where no rationale was written."""
        stated = self.probabilities is not None or (self.answer is not None and self.confidence is not None)
        return stated and self.rejected is None

    @property
    def usable(self) -> bool:
        """Whether it may be trained on."""
        return self.rejected is None and bool(self.rationale.strip())

    @property
    def factual(self) -> bool:
        """Whether it may be trained on as the row's rationale."""
        return self.usable and not self.counterfactual


def example_key(idx: Idx) -> str:
    """Return the text form of a row's number: ``12``, or ``112-1319-6821`` for a nested one."""
    return "-".join(str(part) for part in idx.values()) if isinstance(idx, dict) else str(idx)


def fingerprint(rows: Iterable[Rationale]) -> str:
    """Hash what of `rows` can reach a model: example, input hash, sample, text and soft labels of the usable ones.

    Of counterfactual ones their label is part of it. The order of the lines does not count, nor what they cost.
    """

    def reaching(row: Rationale) -> str:
        opinion = [row.probabilities or [row.answer, row.confidence]] if row.opinion else []
        return json.dumps([*row.key, row.sample, row.rationale, *([row.label] if row.counterfactual else []), *opinion])

    lines = sorted(reaching(row) for row in rows if row.usable or row.opinion)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# ---------------------------------------------------------------- reading


def parse_line(line: bytes, path: Path, number: int) -> Rationale:
    """Read one line of `path`.

    Raises
    ------
    UserError
        With the file, the line and what is wrong with it.
    """
    try:
        return Rationale.model_validate_json(line)
    except ValidationError as error:
        misfit = first_misfit(error)
        known = did_you_mean(misfit.place, Rationale.model_fields) if misfit.kind == "extra_forbidden" else ""
        raise UserError(f"{path}, line {number}: {misfit if misfit.keys else misfit.message}.", known) from None


def read_rows(path: Path) -> list[Rationale]:
    """Read a store's file. A last line torn by a crash is left out; any other bad line is an error."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    whole = content[: _sound_length(content)]
    return [parse_line(line, path, number) for number, line in enumerate(whole.splitlines(), 1) if line.strip()]


def _sound_length(content: bytes) -> int:
    """Return how many bytes of `content` are whole lines; a last line without its newline counts if it parses."""
    end = content.rfind(b"\n") + 1
    tail = content[end:]
    try:
        Rationale.model_validate_json(tail)
    except ValidationError:
        return end
    return len(content)


@dataclass(frozen=True)
class RationaleStore:
    """The rationales of a suite in `folder`: ``<Task>.jsonl`` files and ``card.yaml``."""

    folder: Path

    @classmethod
    def open(cls, reference: str | Path) -> RationaleStore:
        """Open an existing store by its folder, or pinned as ``FOLDER@FINGERPRINT`` (8 digits or more).

        Raises
        ------
        UserError
            If there is no such store, or its fingerprint is not the pinned one.
        """
        folder, at, pin = str(reference).rpartition("@")
        if not at or Path(str(reference)).is_dir():
            folder, pin = str(reference), ""
        store = cls(Path(folder))
        if not store.tasks():
            raise UserError(f"No rationale store at {folder}.", "Name a folder that holds <Task>.jsonl files.")
        if pin and (len(pin) < 8 or not store.fingerprint().startswith(pin.lower())):
            raise UserError(
                f"The store at {folder} has the fingerprint {store.fingerprint()[:16]}, not {pin}.",
                "It has changed since it was pinned: pin the new one, or restore the old files.",
            )
        return store

    def tasks(self) -> list[str]:
        """Return the names of the tasks that have a file, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.jsonl"))

    def path(self, task: str) -> Path:
        """Return where the rationales of `task` are."""
        return self.folder / f"{task}.jsonl"

    def rows(self, task: str) -> list[Rationale]:
        """Return all lines of `task`, rejected ones too; none if there is no file."""
        path = self.path(task)
        return read_rows(path) if path.exists() else []

    def fingerprint(self, task: str | None = None) -> str:
        """Return the fingerprint of one task's rationales, or of the whole store."""
        if task is not None:
            return fingerprint(self.rows(task))
        parts = [f"{name} {self.fingerprint(name)}" for name in self.tasks()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @contextmanager
    def writer(self, task: str) -> Iterator[Writer]:
        """Open the file of `task` for appending; one process at a time.

        A last line torn by an earlier crash is cut off first.

        Raises
        ------
        UserError
            If the folder cannot be written to, or another process is writing there.
        """
        from filelock import FileLock, Timeout

        path = self.path(task)
        lock = FileLock(self.folder / f".{task}.lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            stream = path.open("a+b")
        except Timeout:
            raise UserError(
                f"Another process is writing to {path}.", "Wait for it, or choose another folder."
            ) from None
        except OSError as error:
            lock.release()
            raise UserError(f"Cannot write {path}: {error.strerror or error}.", "Choose another folder.") from None
        try:
            with stream:
                _repair(stream)
                yield Writer(path, stream)
        finally:
            lock.release()


def _repair(stream: BinaryIO) -> None:
    stream.seek(0)
    content = stream.read()
    sound = _sound_length(content)
    stream.truncate(sound)
    if sound and content[sound - 1 : sound] != b"\n":
        stream.write(b"\n")
    stream.flush()


@dataclass(frozen=True)
class Writer:
    """Appends lines to one file of a store."""

    path: Path
    stream: BinaryIO

    def append(self, row: Rationale) -> None:
        """Write `row` and wait until it is on the disk.

        Raises
        ------
        UserError
            If the disk takes no more.
        """
        self.extend([row])

    def extend(self, rows: Iterable[Rationale]) -> None:
        """Write `rows` and wait until they are on the disk."""
        try:
            self.stream.writelines(map(to_line, rows))
            self.stream.flush()
            os.fsync(self.stream.fileno())
        except OSError as error:
            raise UserError(f"Cannot write {self.path}: {error.strerror or error}.") from None


def to_line(row: Rationale) -> bytes:
    """Return `row` as a line of a store: the four required keys, then what is known beyond them."""
    values = row.model_dump(exclude_none=True)
    for name in ("sample", "counterfactual"):
        if not values[name]:
            del values[name]
    return (json.dumps(values, ensure_ascii=False) + "\n").encode()
