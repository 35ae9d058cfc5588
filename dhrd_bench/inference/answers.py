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

    As `parse_answer`, except that the marker's case and colon do not matter and an "is" may take the
    colon's place; where the marker is missing, a last line that is an answer word and nothing else
    counts. An answer that goes on to a second one ("Yes or No", "Yes, No") is none. An answer word
    somewhere in the running text is never taken for the answer.
    """
    name = re.escape(card.answer.strip().rstrip(":").strip())
    places = list(re.finditer(rf"{name}(?:[^\w\n]*\bis\b)?", text, re.IGNORECASE))
    if places:
        label, rest = _first_word(text[places[-1].end() :], card)
        other, _ = _first_word(re.sub(r"^\W*(?:(?:or|and)\b)?", "", rest.partition("\n")[0], flags=re.IGNORECASE), card)
        return label if other in (UNPARSABLE, label) else UNPARSABLE
    lines = text.strip().splitlines()
    label, rest = _first_word(lines[-1], card) if lines else (UNPARSABLE, "")
    return label if not re.search(r"\w", rest) else UNPARSABLE


def vote(labels: Sequence[int], classes: int) -> tuple[int, list[float]]:
    """Return the class most of `labels` agree on, and each class's share of them.

    Answers that could not be read have no vote; on a tie the class that was answered first wins.
    """
    votes = Counter(label for label in labels if label != UNPARSABLE)
    winner = votes.most_common(1)[0][0] if votes else UNPARSABLE
    return winner, [votes[label] / len(labels) for label in range(classes)]


def _first_word(text: str, card: TaskCard) -> tuple[int, str]:
    """Return the class whose answer word `text` begins with, and what follows the word."""
    text = text.lstrip(_QUOTES)
    fitting = [
        (len(match[0]), label)
        for label, answer in enumerate(card.answers)
        if (match := re.match(rf"{re.escape(answer)}(?!\w)", text, re.IGNORECASE))
    ]
    if not fitting:
        return UNPARSABLE, text
    length, label = max(fitting)
    return label, text[length:]
