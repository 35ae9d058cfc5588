"""From a row to an input text: sandboxed jinja2 templates.

A template cannot reach Python: it sees the row's fields and a few filters. The passage is put into
the finished text by way of a sentinel, so that a method can cut it and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dhrd_bench.contracts import Cut, Prompt
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
    return mark(text, *_place_of(text, index, words))


def _place_of(text: str, index: int | str, words: str) -> tuple[int, int]:
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
    return start, end


_EDGES = ("\x00text\x00", "\x00mark\x00", "\x00/mark\x00", "\x00/text\x00")
_OUTLINE = re.compile("|".join(_EDGES))


def _outlined(text: str, start: int | str, end: int | str) -> str:
    """Mark as `mark` does, and show where text and mark begin and end."""
    first, last = int(start), int(end)
    marked = mark(text[first:last], 0, last - first)
    return "".join((_EDGES[0], text[:first], _EDGES[1], marked, _EDGES[2], text[last:], _EDGES[3]))


def _outlined_words(text: str, index: int | str, words: str) -> str:
    return _outlined(text, *_place_of(text, index, words))


def _environment_with(**filters: Any) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters.update(filters)
    return environment


_environment = _environment_with(mark=mark, mark_words=mark_words)
_outlining = _environment_with(mark=_outlined, mark_words=_outlined_words)


_BARRED = (nodes.Call, nodes.Assign, nodes.AssignBlock, nodes.With, nodes.Macro, nodes.Mul, nodes.Pow, nodes.Mod)
_BARRED_FILTERS = {"batch", "center", "format", "indent", "slice", "urlize", "wordwrap"}
_LENGTHENING = (nodes.For, nodes.Filter)


@cache
def inspect(template: str) -> tuple[str, frozenset[str]]:
    """Return what is wrong with `template` (empty if nothing is) and the variables that it uses."""
    try:
        tree = _environment.parse(template)
        if barred := _barred(tree):
            return f"a template may not use {barred}", frozenset()
        _environment.from_string(template)
        return "", frozenset(meta.find_undeclared_variables(tree))
    except (jinja2.TemplateError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"the template is broken: {error}", frozenset()


def _barred(tree: nodes.Template) -> str:
    """Name a part of a template by which a few words could make a text that fills the memory; else nothing.

    What is left makes a text no longer than the product of two that are there: it may loop, join and replace, but not
    within what it loops over, joins and replaces, and it keeps no variables and calls nothing.
    """
    for barred in tree.find_all(_BARRED):
        return type(barred).__name__.lower()
    for each in tree.find_all(nodes.Filter):
        if each.name in _BARRED_FILTERS:
            return f"the filter {each.name!r}"
    lengthening = [node for node in tree.find_all(_LENGTHENING) if _lengthens(node)]
    for node in lengthening:
        if any(map(_lengthens, node.find_all(_LENGTHENING))):
            return "loops, join and replace inside one another"
    return ""


def _lengthens(node: nodes.Node) -> bool:
    return isinstance(node, nodes.For) or (isinstance(node, nodes.Filter) and node.name in ("join", "replace"))


_FAILURES = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


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
        # Twice the work, and only for templates that mark something.
        marks = any("mark" in template for template in (card.text, *card.let.values()))
        self._outline = _outlining.from_string(card.text) if marks else None
        self._outline_let = {name: _outlining.from_string(template) for name, template in card.let.items()}
        try:
            told = {"answers": answers, "reason": card.reason, "answer": card.answer}
            self.instruction = compiled(card.instruction).render(told)
        except _FAILURES as error:
            raise UserError(f"The instruction of a prompt cannot be made: {error}.", "Mend the template.") from error
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
        except _FAILURES as error:
            raise UserError(f"{place}: the prompt cannot be made: {error}.", "Mend the row or the template.") from error

    def _one(self, fields: dict[str, Any], place: str) -> Prompt:
        variables = fields | {name: template.render(fields) for name, template in self._let.items()}
        name = self._card.truncate
        if name is None:
            return self._with_context(Prompt(self._text.render(variables), "", ""), fields)
        parts = self._text.render({**variables, name: _SENTINEL}).split(_SENTINEL)
        if len(parts) != 2:
            hint = f"Write it once as {{{{ {name} }}}}; put filters into 'let'."
            raise UserError(f"{place}: the text must hold the truncatable {name!r} once, unchanged.", hint)
        return self._with_context(Prompt(parts[0], str(variables[name]), parts[1]), fields)

    def _with_context(self, prompt: Prompt, fields: dict[str, Any]) -> Prompt:
        """Return `prompt` with what stands around the spans marked in it, so that it is cut there and they stay.

        Without a passage that may be cut it is the rest of each marked text; of a passage all but the marks.
        """
        if self._outline is None:
            return prompt
        outlined = {name: template.render(fields) for name, template in self._outline_let.items()}
        rendered = self._outline.render(fields | outlined)
        if _OUTLINE.sub("", rendered) != prompt.text:  # a filter behind the mark has changed the text
            return prompt
        stretches: list[tuple[int, int, Cut]] = []
        if self._card.truncate is None:
            for first, start, end, last in _marked(rendered):
                stretches += [(first, start, "start"), (end, last, "end")]
        else:
            begin, stop = len(prompt.before), len(prompt.before) + len(prompt.passage)
            cut: Cut = "start"
            for _, start, end, _ in _marked(rendered):
                if begin <= start and end <= stop:
                    stretches.append((begin, start, cut))
                    begin, cut = end, "end"
            if stretches:
                stretches.append((begin, stop, cut))
        return replace(prompt, context=tuple(stretches))


def _marked(rendered: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield where each marked text of an outlined one begins, its mark begins and ends, and it ends, without edges."""
    places: list[int] = []
    removed = 0
    for edge in _OUTLINE.finditer(rendered):
        places.append(edge.start() - removed)
        removed += len(edge[0])
    for number in range(0, len(places), 4):
        yield places[number], places[number + 1], places[number + 2], places[number + 3]
