"""Logs of Inspect: ``.eval`` archives, and the same as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dhrd_bench.errors import UserError
from dhrd_bench.importing.archive import open_archive
from dhrd_bench.importing.logs import Log, Sample, choose_score, damaged, text_of
from dhrd_bench.untrusted import parse_json

JSON_LIMIT = 512 * 2**20
"""Bytes of a log that is one JSON document, which is in memory as a whole."""

_HEADERS = ("header.json", "_journal/start.json")
_RIGHT: dict[Any, bool] = {"C": True, "I": False, "N": False, 1: True, 0: False}
"""What the values of a score mean, true and false as 1 and 0; "P", a part of an answer, is neither."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ATTACHED = "attachment://"


def is_log(content: Any) -> bool:
    """Whether a JSON document is a log of Inspect."""
    return isinstance(content, dict) and isinstance(content.get("eval"), dict) and "samples" in content


def read_json(path: Path) -> Any:
    """Return the JSON document at `path`.

    Raises
    ------
    UserError
        If it is none, or too long.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(JSON_LIMIT + 1)
        if len(content) > JSON_LIMIT:
            raise ValueError("it is too long to be read as a whole; write it as .eval")
        return parse_json(content)
    except (OSError, ValueError) as error:
        raise damaged(path, getattr(error, "strerror", None) or error) from error


def task_of(path: Path) -> str:
    """Return the task of a log."""
    return text_of(_about(path).get("task"))


def open_log(path: Path, score: str | None) -> Log:
    """Open a log; `score` is the name of a scorer.

    Raises
    ------
    UserError
        If it is none, or the scorer is not there or not the only one.
    """
    about = _about(path)
    scorers: dict[str, None] = {}
    for number, (place, sample) in enumerate(_raw(path)):
        scores = sample.get("scores")
        if not isinstance(scores, dict | None):
            raise damaged(place, "its scores are none")
        scorers |= dict.fromkeys(map(str, scores or {}))
        if scorers and number > 100:
            break
    chosen = choose_score(path, score, list(scorers))
    packages = about.get("packages")
    return Log(
        path=path,
        tool="inspect_ai",
        version=text_of(packages.get("inspect_ai")) if isinstance(packages, dict) else "",
        model=text_of(about.get("model")),
        task=text_of(about.get("task")),
        score=chosen,
        generates=True,
        samples=lambda: _samples(path, chosen),
    )


def _about(path: Path) -> Mapping[str, Any]:
    """Return what a log says of its evaluation."""
    if path.suffix == ".eval":
        with open_archive(path) as archive:
            names = archive.names()
            name = next((each for each in _HEADERS if each in names), None)
            if name is None:
                raise damaged(path, "it has no header")
            content = _parsed(archive.read(name), path)
    else:
        content = read_json(path)
        if not is_log(content):
            raise damaged(path, "it is no log of Inspect")
    about = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(about, dict):
        raise damaged(path, "it does not say what was evaluated")
    return about


def _parsed(content: bytes, path: Path) -> Any:
    try:
        return parse_json(content)
    except ValueError as error:
        raise damaged(path, error) from error


def _raw(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the samples as they stand, each with its place; of an archive one at a time."""
    if path.suffix == ".eval":
        with open_archive(path) as archive:
            for name in sorted(archive.names()):
                if name.startswith("samples/") and name.endswith(".json"):
                    yield _object(_parsed(archive.read(name), path), f"{path}: {name}")
        return
    samples = read_json(path).get("samples")
    for number, sample in enumerate(samples if isinstance(samples, list) else [], 1):
        yield _object(sample, f"{path}: sample {number}")


def _object(sample: Any, place: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(sample, dict):
        raise damaged(place, "it is no sample")
    return place, sample


def _samples(path: Path, scorer: str) -> Iterator[Sample]:
    for place, raw in _raw(path):
        scores = raw.get("scores")
        score = scores.get(scorer) if isinstance(scores, dict) else None
        score = score if isinstance(score, dict) else {}
        listed = raw.get("choices")
        choices = tuple(map(text_of, listed)) if isinstance(listed, list) else ()
        text = _input(raw)
        metadata, epoch = raw.get("metadata"), raw.get("epoch")
        yield Sample(
            place=place,
            name=text_of(raw.get("id")),
            epoch=epoch if type(epoch) is int and 0 < epoch < 2**31 else 1,
            doc={"id": raw.get("id"), **(metadata if isinstance(metadata, dict) else {})},
            text=text,
            digest=hashlib.sha256("\x1f".join((text, *choices)).encode(errors="replace")).hexdigest(),
            right=_right(score.get("value"), place),
            choices=choices,
            gold=_position(raw.get("target"), choices),
            chosen=_position(score.get("answer"), choices),
            said=text_of(score.get("answer")),
        )


def _right(value: Any, place: str) -> bool | None:
    """Return what a score's value means; None where there is none, as in a sample that failed."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if not isinstance(value, str | bool | int | float) or value not in _RIGHT:
        raise UserError(f"{place}: its score is {str(value)[:40]!r}, neither right nor wrong.", "Name another --score.")
    return _RIGHT[value]


def _position(said: Any, choices: tuple[str, ...]) -> int | None:
    """Return the position of the choice whose letter is given."""
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    letter = text_of(said).strip()
    place = _LETTERS.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(choices) else None


def _input(raw: Mapping[str, Any]) -> str:
    """Return what the model was asked, of several messages all of them."""
    given = raw.get("input")
    attached = raw.get("attachments")
    messages = given if isinstance(given, list) else [given]
    parts = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else message
        pieces = content if isinstance(content, list) else [content]
        parts += [text_of(piece.get("text")) if isinstance(piece, dict) else text_of(piece) for piece in pieces]
    known = attached if isinstance(attached, dict) else {}
    return "\n".join(
        text_of(known.get(part.removeprefix(_ATTACHED))) if part.startswith(_ATTACHED) else part for part in parts
    )
