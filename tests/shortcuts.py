"""Classifiers that cannot reason: what they find in a task is a shortcut."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from derivation_solvers import sentences
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

Row = dict[str, Any]
WORD = re.compile(r"\w+|[=+?-]")


def parts(row: Row) -> list[str]:
    return [*sentences(row["story"]), row["question"]]


def in_roles(train: list[Row], test: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows with roles for names: words of the question are `asked0`, `asked1`, ..., all others `other`.

    What more than half of the rows say is no name. So a classifier need not know forty names one by one to see that
    a person asked about is, say, mentioned more often.
    """
    counts = Counter(word for row in train for word in set(WORD.findall(" ".join(parts(row)))))
    kept = {word for word, count in counts.items() if count > len(train) / 2}

    def one(row: Row) -> Row:
        asked = dict.fromkeys(word for word in WORD.findall(row["question"]) if word not in kept)
        roles = {word: f"asked{number}" for number, word in enumerate(asked)} | {word: word for word in kept}
        return row | {
            key: WORD.sub(lambda word: roles.get(word[0], "other"), row[key]) for key in ("story", "question")
        }

    return [one(row) for row in train], [one(row) for row in test]


def fitted(texts: list[str], labels: list[str]) -> tuple[TfidfVectorizer, LogisticRegression]:
    """Fit a logistic regression on tf-idf of words and pairs of words."""
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD.pattern)
    return words, LogisticRegression(max_iter=200).fit(words.fit_transform(texts), labels)


def by_view(train: list[Row], test: list[Row], view: Callable[[Row], str]) -> float:
    """Return the accuracy of a bag of words over what `view` shows of a row."""
    words, model = fitted([view(row) for row in train], [row["label"] for row in train])
    return float(model.score(words.transform([view(row) for row in test]), [row["label"] for row in test]))


def by_best_sentence(train: list[Row], test: list[Row]) -> float:
    """Return the accuracy where each sentence says what it tells, and the surest one of a row is believed."""
    pairs = [(sentence, row["label"]) for row in train for sentence in parts(row)]
    words, model = fitted([sentence for sentence, _ in pairs], [label for _, label in pairs])
    told = iter(model.predict_proba(words.transform([sentence for row in test for sentence in parts(row)])))
    right = 0
    for row in test:
        surest = max((next(told) for _ in parts(row)), key=max)
        right += model.classes_[surest.argmax()] == row["label"]
    return right / len(test)


VIEWS: dict[str, Callable[[Row], str]] = {
    "all": lambda row: " ".join(parts(row)),
    "question": lambda row: str(row["question"]),
    "last sentence and question": lambda row: " ".join(parts(row)[-2:]),
}


def accuracies(train: list[Row], test: list[Row]) -> dict[str, float]:
    """Return what each of these classifiers reaches."""
    reached = {name: by_view(train, test, view) for name, view in VIEWS.items()}
    return reached | {"best sentence": by_best_sentence(train, test)}
