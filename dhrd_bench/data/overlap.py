"""Texts that rows share: within a split they make a cluster, across splits a model may know them by heart."""

from __future__ import annotations

from collections.abc import Sequence

Texts = tuple[str, ...]
"""What is read of a row: its text, or one text a candidate."""

NAMED = 5
"""So many rows are named in a note."""


def overlap_notes(train: Sequence[Texts], names: Sequence[str], test: Sequence[Texts]) -> list[str]:
    """Say how many test rows have a text of the train rows, to the letter or nearly, and name the first.

    Near are texts whose letters and digits are the same, in whatever case, with whatever is between them.
    """
    exact, near = set(train), {_whole(texts) for texts in train}
    same = [name for name, texts in zip(names, test, strict=True) if texts in exact]
    alike = [name for name, texts in zip(names, test, strict=True) if texts not in exact and _whole(texts) in near]
    kinds = {"have a text": same, "have nearly a text": alike}
    return [f"{len(rows)} test rows {kind} of the train rows: {_some(rows)}" for kind, rows in kinds.items() if rows]


def letters(text: str) -> str:
    """Return the letters and digits of `text`, case aside: releases print one text with other spaces and commas."""
    return "".join(filter(str.isalnum, text.casefold()))


def _whole(texts: Texts) -> str:
    return "\n".join(map(letters, texts))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
