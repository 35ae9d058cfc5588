"""Test rows that stand in train: what a model has learnt by heart says nothing about it."""

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
    exact, near = set(train), {_letters(texts) for texts in train}
    same = [name for name, texts in zip(names, test, strict=True) if texts in exact]
    alike = [name for name, texts in zip(names, test, strict=True) if texts not in exact and _letters(texts) in near]
    kinds = {"have a text": same, "have nearly a text": alike}
    return [f"{len(rows)} test rows {kind} of the train rows: {_some(rows)}" for kind, rows in kinds.items() if rows]


def _letters(texts: Texts) -> str:
    return "\n".join("".join(filter(str.isalnum, text.casefold())) for text in texts)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
