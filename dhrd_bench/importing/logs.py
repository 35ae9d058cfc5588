"""What a log of another harness comes to, whichever wrote it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dhrd_bench.errors import UserError

Tool = Literal["lm-evaluation-harness", "inspect_ai"]


@dataclass(frozen=True)
class Wanted:
    """What ``dhrd-bench import`` was asked for.

    Attributes
    ----------
    task, suite
        Whose rows were answered; without a suite the logs' own documents make the rows.
    method
        What the model is called in tables.
    log_task
        What the logs call the task; None takes the only one they hold, or the one that is called `task`.
    score
        Which of a log's scores says what is right; None takes the only one there is.
    seed
        Of the first log; further ones, and further epochs, count on.
    """

    task: str
    method: str
    suite: str | None = None
    log_task: str | None = None
    score: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One document and what was answered.

    Attributes
    ----------
    place, name, epoch
        Where it stands, what the log calls it, and which repetition it is, from 1.
    doc, text
        The fields of the document, and what the model was asked.
    digest
        Of the document.
    right
        Whether the score calls the answer right; None where it was not scored.
    choices
        Texts to choose from; empty where the answer was free.
    gold, chosen
        Positions of the right choice and of the one that was taken; None where the log does not tell.
    scores
        One a choice, the largest of which was taken; None where there are none.
    said
        The answer in words, where it was free.
    """

    place: str
    name: str
    doc: Mapping[str, Any]
    text: str
    digest: str
    right: bool | None
    epoch: int = 1
    choices: tuple[str, ...] = ()
    gold: int | None = None
    chosen: int | None = None
    scores: tuple[float, ...] | None = None
    said: str = ""

    @property
    def told(self) -> bool:
        """Whether it is known which choice was taken, in agreement with the score."""
        return self.gold is not None and self.chosen is not None and (self.gold == self.chosen) is self.right


@dataclass(frozen=True)
class Log:
    """One file of samples.

    Attributes
    ----------
    path, tool, version
        The file, what wrote it, and that one's version where the log tells.
    model, task, score
        As the log names them.
    generates
        Whether answers were written; else choices were scored.
    samples
        Reads the samples, each time anew.
    """

    path: Path
    tool: Tool
    version: str
    model: str
    task: str
    score: str
    generates: bool
    samples: Callable[[], Iterator[Sample]] = field(repr=False)

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def damaged(path: Path | str, reason: object) -> UserError:
    """Return what to tell of a file that is no log."""
    return UserError(f"{path} cannot be read as a log: {reason}.", "Take it as the harness wrote it.")


def text_of(value: Any) -> str:
    """Return a value of a log as text."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def choose_score(path: Path, wanted: str | None, known: list[str]) -> str:
    """Return the score that is wanted, or the only one that a log has.

    Raises
    ------
    UserError
        If there is none of this name, or several and none was named.
    """
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return wanted
    listed = ", ".join(known) or "none"
    if wanted is None:
        raise UserError(f"{path} has several scores: {listed}.", "Name one with --score.")
    raise UserError(f"{path} has no score {wanted!r} but {listed}.", "Name one of them with --score.")
