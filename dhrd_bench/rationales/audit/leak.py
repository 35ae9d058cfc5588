"""How much of the verdict a rationale gives away: in so many words, and to a bag-of-words classifier."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

FOLDS = 5

_ALONE = re.compile(r"(?:^|[.!?:;]\s+)(?:no|right|wrong)\s*(?:[.,:;!?]|$)", re.IGNORECASE)
_VERDICT = re.compile(r"\b(?:yes|true|false|correct|incorrect)\b", re.IGNORECASE)
_SUFFIX = re.compile(r"(?:ment|ion|ed|s)$")


def states_verdict(text: str) -> bool:
    """Whether `text` has a verdict word; no, right and wrong count only where they stand alone."""
    return bool(_VERDICT.search(text) or _ALONE.search(text))


def names_label(text: str, names: Sequence[str]) -> bool:
    """Whether `text` has one of the class names or answer words, inflected forms included.

    Names of a letter or two and plain numbers count only as ``option A`` or ``(A)``; the words that
    `states_verdict` looks for are left to it.
    """
    for name in names:
        words = re.findall(r"[^\W_]+", name.lower())
        if not words or name.lower() in ("yes", "no", "true", "false", "correct", "incorrect"):
            continue
        if name.isdigit() or len(name) <= 2:
            alone = re.escape(name)
            if re.search(rf"\b(?:option|choice|alternative|answer) {alone}\b|\({alone}\)", text, re.IGNORECASE):
                return True
            continue
        stem = _SUFFIX.sub("", words[-1]) if len(words[-1]) > 6 else words[-1]
        pattern = r"\W+".join([*map(re.escape, words[:-1]), re.escape(stem) + (r"\w*" if stem != words[-1] else "")])
        if re.search(rf"\b{pattern}\b", text, re.IGNORECASE):
            return True
    return False


def predictability(texts: Sequence[str], labels: Sequence[int], groups: Sequence[str]) -> tuple[float, float] | None:
    """Return how well the label can be read from the text alone, and the share of the largest class (0-1).

    The accuracy of a logistic regression over the words present, in 5-fold cross-validation; rows of
    a group (one passage) are in one fold, so that recognising the passage does not help. None where
    a class has fewer rows or groups than folds.
    """
    by_class = {label: {groups[i] for i in range(len(labels)) if labels[i] == label} for label in set(labels)}
    if len(by_class) < 2 or min(map(len, by_class.values())) < FOLDS:
        return None
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(binary=True), LogisticRegression(max_iter=1000, random_state=0))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    predicted = cross_val_predict(model, list(texts), list(labels), groups=list(groups), cv=folds)
    right = sum(int(guess) == label for guess, label in zip(predicted, labels, strict=True))
    return right / len(labels), max(Counter(labels).values()) / len(labels)
