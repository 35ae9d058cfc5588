"""Texts that rows share: within a split they make a cluster, across splits a model may know them by heart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Texts = tuple[str, ...]
"""What is read of a row: its text, or one text a candidate."""

NAMED = 5
"""So many rows are named in a note."""


@dataclass(frozen=True)
class Overlap:
    """Names of the test rows that have a text of the train rows: to the letter, and nearly.

    Near are texts whose letters and digits are the same, in whatever case, with whatever is between them.
    """

    same: tuple[str, ...]
    alike: tuple[str, ...]

    @classmethod
    def of(cls, train: Sequence[Texts], names: Sequence[str], test: Sequence[Texts]) -> Overlap:
        """Compare the texts of the test rows called `names` with those of the train rows."""
        exact, near = set(train), {_whole(texts) for texts in train}
        known = [(name, texts in exact) for name, texts in zip(names, test, strict=True) if _whole(texts) in near]
        return cls(tuple(name for name, same in known if same), tuple(name for name, same in known if not same))

    def notes(self) -> list[str]:
        """Say how many there are of each kind, and name the first."""
        kinds = {"have a text": self.same, "have nearly a text": self.alike}
        return [
            f"{len(rows)} test rows {kind} of the train rows: {_some(rows)}" for kind, rows in kinds.items() if rows
        ]


def letters(text: str) -> str:
    """Return the letters and digits of `text`, case aside: releases print one text with other spaces and commas."""
    return "".join(filter(str.isalnum, text.casefold()))


def _whole(texts: Texts) -> str:
    return "\n".join(map(letters, texts))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
