"""Reading an answer out of generated text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from dhrd_bench.contracts import UNPARSABLE, TaskCard

_QUOTES = " \t\n*\"'`([:.-"


def parse_answer(text: str, card: TaskCard) -> int:
    """Return the class whose answer word follows the last answer marker in `text`.

    Case, surrounding punctuation and what comes after the word do not matter; among answer words
    that fit, the longest counts. Anything else is `UNPARSABLE`: guessing at an answer would flatter
    the method.
    """
    marker = card.answer.strip()
    _, found, tail = text.rpartition(marker)
    return _first_word(tail, card)[0] if found else UNPARSABLE


def parse_free_answer(text: str, card: TaskCard) -> int:
    """Return the answer of an LM that was asked for one and never trained on its form.

    As `parse_answer`, with these differences. The marker's case and colon do not matter; where it is
    missing, its last word will do if "is" or a colon follows ("the answer is"), or else a last line that
    is an answer word and nothing else. An answer that goes on to a second one ("Yes or No", "Yes, No") is
    none, and an answer of one letter must be a letter by itself: "a mix" is not A. An answer word
    somewhere in the running text is never taken for the answer.
    """
    marker = card.answer.strip().rstrip(":").strip()
    full = rf"{re.escape(marker)}(?:[^\w\n]*\bis\b)?"
    short = rf"\b{re.escape(marker.split()[-1])}[^\w\n]*(?::|\bis\b)" if marker else r"(?!)"
    for pattern in (full, short):
        if places := list(re.finditer(pattern, text, re.IGNORECASE)):
            label, rest = _first_word(text[places[-1].end() :], card, letters=True)
            after = re.sub(r"^\W*(?:(?:or|and)\b)?", "", rest.partition("\n")[0], flags=re.IGNORECASE)
            other, _ = _first_word(after, card, letters=True)
            return label if other in (UNPARSABLE, label) else UNPARSABLE
    lines = text.strip().splitlines()
    label, rest = _first_word(lines[-1], card, letters=True) if lines else (UNPARSABLE, "")
    return label if not re.search(r"\w", rest) else UNPARSABLE


def vote(labels: Sequence[int], classes: int) -> tuple[int, list[float]]:
    """Return the class most of `labels` agree on, and each class's share of them.

    Answers that could not be read have no vote; on a tie the class that was answered first wins.
    """
    votes = Counter(label for label in labels if label != UNPARSABLE)
    winner = votes.most_common(1)[0][0] if votes else UNPARSABLE
    return winner, [votes[label] / len(labels) for label in range(classes)]


def _first_word(text: str, card: TaskCard, *, letters: bool = False) -> tuple[int, str]:
    """Return the class whose answer word `text` begins with, and what follows the word.

    With `letters` an answer of one letter counts in its own case only, and not before another word.
    """
    text = text.lstrip(_QUOTES)
    fitting = []
    for label, answer in enumerate(card.answers):
        alone = letters and len(answer) == 1
        end, flags = (r"(?!\w|[^\S\n]+\w)", re.NOFLAG) if alone else (r"(?!\w)", re.IGNORECASE)
        if match := re.match(re.escape(answer) + end, text, flags):
            fitting.append((len(match[0]), label))
    if not fitting:
        return UNPARSABLE, text
    length, label = max(fitting)
    return label, text[length:]
