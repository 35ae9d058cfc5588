"""Errors that are meant for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend; shown as one line with exit code 2, without a traceback.

    Parameters
    ----------
    message
        What was wrong and where.
    hint
        What to do about it, if that is known.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest of `known` names, or lists them."""
    names = sorted(known)
    folded = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    if near:
        return f"Did you mean {folded[near[0]]!r}?"
    return f"Known: {', '.join(names)}." if names else "None are known."
