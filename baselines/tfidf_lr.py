"""Logistic regression on TF-IDF: what a classifier does that counts words and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

import dhrd_bench as db


@db.register
class TfidfLr(db.Method):
    """It reads the whole input, however long. No backbone is used, so its tokens are words."""

    card = db.MethodCard(
        name="tfidf-lr",
        summary="Logistic regression on TF-IDF of words and pairs of words",
        objective="sum of log losses + |w|^2 / (2 C)",
        paper="Wang and Manning 2012, P12-2018 (a linear classifier of bigrams)",
        inference="none",
    )

    class Params(db.MethodParams):
        """Words in a row that make a feature, at most."""

        ngrams: int = Field(2, ge=1)

    def vectoriser(self, vocabulary: dict[str, int] | None = None) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        word = r"\w+"  # scikit-learn's own leaves out words of one letter, and an answer may be one
        return TfidfVectorizer(ngram_range=(1, self.params.ngrams), token_pattern=word, vocabulary=vocabulary)

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        texts = [row.example.prompt.text for row in (*task.train, *task.dev)]
        self.words = self.vectoriser().fit(texts[: len(task.train)])
        self.classifier = db.LogisticRegression.fit(self.words.transform(texts), task)

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        texts = [example.prompt.text for example in examples]
        return self.classifier.predict(self.words.transform(texts), [len(text.split()) for text in texts])

    def save(self, folder: Path) -> None:
        self.classifier.save(folder)
        words = {word: [int(place), self.words.idf_[place]] for word, place in self.words.vocabulary_.items()}
        (folder / "words.json").write_text(json.dumps(words), encoding="utf-8")

    def load(self, folder: Path, task: db.TaskCard, context: db.Context) -> None:
        self.classifier = db.LogisticRegression.load(folder)
        words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        self.words = self.vectoriser({word: place for word, (place, _) in words.items()})
        self.words.idf_ = np.array([idf for _, idf in sorted(words.values())])
