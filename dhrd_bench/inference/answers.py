r"""Reading an answer out of generated text, by one written grammar.

::

    text    = ... marker lead* word end      the last marker counts
    lead    = white space, punctuation, bold, quotes, bullets, "\boxed{", "<b>", or one of the words
              of "so the final answer is", "option", "the statement is"
    word    = one of the task's answer words, case aside; of those that fit, the longest
    end     = no letter, digit, hyphen + letter or apostrophe + letter ("no-one" is not no)

Three rules decide what is doubtful, always against the answer: guessing would flatter a method.

- *Several answers are none.* A word followed by "or", or (past punctuation, "and", a slash, on the next line by
  itself) by another class's word is not read: "Yes or No", "A and B", "[Yes/No]".
- *A letter stands by itself.* An answer of one character counts in its own case, and not before another word ("A mix");
  in the other case in brackets only: "(a)". So the article in "a cup fell" is no A.
- *No* begins many phrases that are none ("no one", "no idea", "no answer"): those are not read.

Text and answers are compared in Unicode's form NFKC without invisible characters, so that a no-break space is a space,
a full-width colon a colon, and a letter with its accent apart the letter. A combining mark belongs to its word.

The two parsers differ in the marker only. `parse_answer` wants it as the task writes it. `parse_free_answer`,
for an LM that never saw it in training, takes it in any case, without its colon, its last word before a colon or "is"
("the answer is"), or "\boxed{"; and without any marker a last line that is an answer and nothing else. Neither
takes a word of the running text for an answer, and neither sees a change of mind that has no marker of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from dhrd_bench.contracts import UNPARSABLE, TaskCard

ANSWERS_VERSION = "2"
"""Version of the grammar above and of how much an LM may write behind the marker; part of the identity of methods
whose answers are read from text."""

_BOXED = r"\\(?:boxed|fbox)\s*\{"
_LEAD = re.compile(
    rf"{_BOXED}|\\(?:text|textbf|mathrm|mathbf|underline)\s*\{{|\\[(\[]|</?\w+>"
    r"|(?:so|thus|hence|therefore|the|my|final|correct|best|answer|option|choice|alternative|label|class|statement"
    r"|hypothesis|claim|is|would be|must be|should be)(?![^\W_])"
    r"|[-+\u2010-\u2015\u2212](?!\d)"  # a bullet or a dash, not the sign of a number
    r"|[^\w\\+\u2010-\u2015\u2212-]|_",
    re.IGNORECASE,
)
"""One step of what may stand between a marker and the answer word."""

_OR = re.compile(r"(?:or|oder|ou|или|或)(?!\w)", re.IGNORECASE)
_AND = re.compile(r"(?:and|und|et|y|и|和)(?!\w)", re.IGNORECASE)
_NOT_NO = re.compile(
    r"\s+(?:one|body|idea|answer|way|doubt|clear|definite|information|evidence|conclusion|matter|longer|such)\b",
    re.IGNORECASE,
)


def parse_answer(text: str, card: TaskCard) -> int:
    """Return the class whose answer word follows the last answer marker in `text`, or `UNPARSABLE`."""
    marker = _plain(card.answer).strip()
    _, found, tail = _plain(text).rpartition(marker) if marker else ("", "", "")
    return _read(tail, _words(card))[0] if found else UNPARSABLE


def parse_free_answer(text: str, card: TaskCard) -> int:
    """Return the answer of an LM that was asked for one and never trained on its form, or `UNPARSABLE`."""
    text, words = _plain(text).strip(), _words(card)
    marker = _plain(card.answer).strip().rstrip(":").strip()
    patterns = [_BOXED]
    if marker:
        short = rf"\b{re.escape(marker.split()[-1])}[^\w\n]*(?::|\bis\b)"
        patterns = [rf"{re.escape(marker)}(?:[^\w\n]*\bis\b)?", _BOXED, short]
    for pattern in patterns:
        if places := list(re.finditer(pattern, text, re.IGNORECASE)):
            return _read(text[places[-1].end() :], words)[0]
    label, rest = _read(text.rpartition("\n")[2], words)
    return label if not any(map(_in_word, rest)) else UNPARSABLE


def vote(labels: Sequence[int], classes: int) -> tuple[int, list[float]]:
    """Return the class most of `labels` agree on, and each class's share of them.

    Answers that could not be read have no vote; on a tie the class that was answered first wins.
    """
    votes = Counter(label for label in labels if label != UNPARSABLE)
    winner = votes.most_common(1)[0][0] if votes else UNPARSABLE
    return winner, [votes[label] / len(labels) for label in range(classes)]


Words = list[tuple[str, int]]
"""Answer words and their classes, the longest word first."""


def _words(card: TaskCard) -> Words:
    words = [(_plain(answer).strip(), label) for label, answer in enumerate(card.answers)]
    return sorted(words, key=lambda pair: -len(pair[0]))


def _plain(text: str) -> str:
    """Return `text` in NFKC, without characters that cannot be seen."""
    text = unicodedata.normalize("NFKC", text)
    return "".join(c for c in text if unicodedata.category(c) != "Cf" and c != "\ufe0f")


def _in_word(character: str) -> bool:
    """Whether it is a letter, a digit or a combining mark; Python's regular expressions leave the last out."""
    return unicodedata.category(character)[0] in "LNM"


def _read(text: str, words: Words) -> tuple[int, str]:
    """Return the one answer that `text` begins with, and what follows its word."""
    label, rest = _first(text, words)
    if label == UNPARSABLE:
        return label, text
    line, _, below = rest.partition("\n")
    tail = re.sub(r"^[\W_]+", "", line)
    if _OR.match(tail):
        return UNPARSABLE, text
    other, _ = _first(_AND.sub("", tail, count=1) if _AND.match(tail) else tail, words)
    if other == UNPARSABLE:
        listed, more = _first(below.lstrip().partition("\n")[0], words)
        other = UNPARSABLE if any(map(_in_word, more)) else listed
    return (label, rest) if other in (UNPARSABLE, label) else (UNPARSABLE, text)


def _first(text: str, words: Words) -> tuple[int, str]:
    """Return the class of the answer word that `text` begins with past its lead, and what follows the word."""
    start = 0
    while True:
        for word, label in words:
            if _fits(text, start, word):
                return label, text[start + len(word) :]
        lead = _LEAD.match(text, start)
        if lead is None:
            return UNPARSABLE, text
        start = lead.end()


def _fits(text: str, start: int, word: str) -> bool:
    """Whether `word` stands at `start` and ends there."""
    end = start + len(word)
    found, behind, after = text[start:end], text[end : end + 1], text[end + 1 : end + 2]
    if not word or found.casefold() != word.casefold():
        return False
    if behind and _in_word(behind):
        return False
    if behind in ("-", "\u2010", "\u2011") and (not after or _in_word(after)):
        return False
    if behind in ("'", "\u2019", "_") and after and _in_word(after):
        return False
    if behind in (".", ",") and after.isdigit() and word[-1].isdigit():
        return False
    if len(word) == 1:
        before_word = re.match(r"[^\S\n]+[^\W_]", text[end:])
        return not before_word and (found == word or behind in (")", "]", "}"))
    return not (word.casefold() == "no" and _NOT_NO.match(text, end))
