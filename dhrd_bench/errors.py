"""Errors that are meant for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError
    from yaml import YAMLError


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


def yaml_mistake(error: YAMLError, path: Path) -> UserError:
    """Return what to tell about a file that is no YAML: where, and what the parser found there."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    return UserError(f"{path}{line}: {getattr(error, 'problem', None) or error}.", "Mend the YAML there.")


class Misfit(NamedTuple):
    """One value that does not fit its model.

    Attributes
    ----------
    keys
        The way to it, from the outside in; empty for the whole document.
    message, kind
        What is wrong, in pydantic's words, and pydantic's name for it.
    value
        What stands there.
    """

    keys: tuple[int | str, ...]
    message: str
    kind: str
    value: object

    @property
    def place(self) -> str:
        """The way to it as text."""
        return ".".join(map(str, self.keys)) or "the whole file"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def first_misfit(error: ValidationError) -> Misfit:
    """Return what to mend first; a misspelt key is also a missing one, and comes before it."""
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    return Misfit(first["loc"], first["msg"].removeprefix("Value error, "), first["type"], first["input"])
