"""From a row to an input text: sandboxed jinja2 templates.

A template cannot reach Python: it sees the row's fields and a few filters. The passage is put into
the finished text by way of a sentinel, so that a method can cut it and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dhrd_bench.contracts import Prompt
from dhrd_bench.errors import UserError

if TYPE_CHECKING:
    from dhrd_bench.data.cards import PromptCard

_SENTINEL = "\x00passage\x00"
_MARK = "*"
_WORD = re.compile(r"\S+")


def mark(text: str, start: int | str, end: int | str) -> str:
    """Put asterisks around the characters ``start:end`` of `text`."""
    first, last = int(start), int(end)
    return f"{text[:first]}{_MARK}{text[first:last]}{_MARK}{text[last:]}"


def mark_words(text: str, index: int | str, words: str) -> str:
    """Put asterisks around `words` in `text`, which begin at the white-space-separated word `index`.

    Releases are sloppy here (another case, punctuation stuck to the word, an index off by one): of the
    places where the letters agree the nearest to `index` is marked, and `index` itself if there is none.
    """
    places = list(_WORD.finditer(text))
    count = max(len(words.split()), 1)

    def letters(piece: str) -> str:
        return re.sub(r"\W", "", piece).casefold()

    def at(first: int) -> tuple[int, int]:
        return places[first].start(), places[min(first + count, len(places)) - 1].end()

    wanted = letters(words)
    matches = [first for first in range(len(places) - count + 1) if letters(text[slice(*at(first))]) == wanted]
    start, end = at(min(matches, key=lambda first: abs(first - int(index)), default=int(index)))
    # Punctuation around the words stays outside the mark, as in "*he*,".
    inner = re.search(r"\w.*\w|\w", text[start:end], re.DOTALL)
    if inner:
        start, end = start + inner.start(), start + inner.end()
    return mark(text, start, end)


_environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
_environment.filters.update(mark=mark, mark_words=mark_words)


@cache
def inspect(template: str) -> tuple[str, frozenset[str]]:
    """Return what is wrong with `template` (empty if nothing is) and the variables that it uses."""
    try:
        _environment.from_string(template)
        return "", frozenset(meta.find_undeclared_variables(_environment.parse(template)))
    except jinja2.TemplateError as error:
        return f"the template is broken: {error}", frozenset()


class Renderer:
    """Renders the rows of one task with one prompt.

    Parameters
    ----------
    card
        The prompt, as checked by `read_suite`.
    answers
        The words for the classes asked about.
    """

    def __init__(self, card: PromptCard, answers: tuple[str, ...]) -> None:
        compiled = _environment.from_string
        self._card = card
        self._text = compiled(card.text)
        self._let = {name: compiled(template) for name, template in card.let.items()}
        self._candidates = [compiled(template) for template in card.candidates]
        self.instruction = compiled(card.instruction).render(answers=answers, reason=card.reason, answer=card.answer)
        digest = hashlib.sha256(card.model_dump_json().encode()).hexdigest()[:8]
        self.version = f"{card.version}+{digest}"
        """Semantic version with a digest of the whole prompt: an edit that forgets the version still shows."""

    def render(self, fields: Mapping[str, Any], place: str) -> list[Prompt]:
        """Return the prompts of one row: one, or one a candidate.

        Raises
        ------
        UserError
            If a template fails on this row, which stands at `place`.
        """
        try:
            if not self._candidates:
                return [self._one(dict(fields), place)]
            return [self._one({**fields, "candidate": each.render(fields)}, place) for each in self._candidates]
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise UserError(f"{place}: the prompt cannot be made: {error}.", "Mend the row or the template.") from error

    def _one(self, variables: dict[str, Any], place: str) -> Prompt:
        if self._let:
            variables |= {name: template.render(variables) for name, template in self._let.items()}
        name = self._card.truncate
        if name is None:
            return Prompt(self._text.render(variables), "", "")
        parts = self._text.render({**variables, name: _SENTINEL}).split(_SENTINEL)
        if len(parts) != 2:
            hint = f"Write it once as {{{{ {name} }}}}; put filters into 'let'."
            raise UserError(f"{place}: the text must hold the truncatable {name!r} once, unchanged.", hint)
        return Prompt(parts[0], str(variables[name]), parts[1])
