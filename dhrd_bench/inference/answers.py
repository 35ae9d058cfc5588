"""Reading an answer out of generated text."""

from __future__ import annotations

import re

from dhrd_bench.contracts import UNPARSABLE, TaskCard


def parse_answer(text: str, card: TaskCard) -> int:
    """Return the class whose answer word follows the last answer marker in `text`.

    Case, surrounding punctuation and what comes after the word do not matter; among answer words
    that fit, the longest counts. Anything else is `UNPARSABLE`: guessing at an answer would flatter
    the method.
    """
    marker = card.answer.strip()
    _, found, tail = text.rpartition(marker)
    if not found:
        return UNPARSABLE
    tail = tail.lstrip(" \t\n*\"'`([:.-").casefold()
    fitting = [
        label for label, answer in enumerate(card.answers) if re.match(rf"{re.escape(answer.casefold())}(?!\w)", tail)
    ]
    return max(fitting, key=lambda label: len(card.answers[label]), default=UNPARSABLE)
