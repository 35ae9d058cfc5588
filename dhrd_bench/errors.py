"""Errors that are meant for people, and texts of strangers made fit to be shown to them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError


LONGEST = 4000
"""Characters of a message: a file may have keys of megabytes."""


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
        self.message, self.hint = shown(_shortened(message)), shown(_shortened(hint))  # a stranger's file is quoted
        super().__init__(f"{self.message} {self.hint}".strip())


def shown(text: str) -> str:
    """Return `text` with what is no character to be seen as a picture: nothing in it steers a terminal.

    Control characters (line ends too), those that turn the direction of writing, and halves of surrogate pairs, which
    no file can hold.
    """
    return text.translate(_PICTURES)


def shown_lines(text: str) -> str:
    """Return `text` as `shown` does, but with its lines."""
    return "\n".join(map(shown, text.split("\n")))


_PICTURES = (
    {code: 0x2400 + code for code in range(32)}
    | {127: 0x2421}
    | dict.fromkeys((*range(128, 160), *range(0xD800, 0xE000), *range(0x2028, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest of `known` names, or lists them."""
    names = sorted(known)
    folded = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    if near:
        return f"Did you mean {folded[near[0]]!r}?"
    return f"Known: {', '.join(names)}." if names else "None are known."


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
        return _shortened(".".join(map(str, self.keys))) or "the whole file"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def first_misfit(error: ValidationError) -> Misfit:
    """Return what to mend first; a misspelt key is also a missing one, and comes before it."""
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    return Misfit(first["loc"], first["msg"].removeprefix("Value error, "), first["type"], first["input"])
