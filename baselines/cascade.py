"""Cascade: a fast method answers, and a slow one is asked where the fast one is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Literal

from pydantic import Field

import dhrd_bench as db


@db.register
class Cascade(db.Composed):
    """Hands on what the fast method is less sure of than a threshold, which dev rows set once and for all."""

    card = db.MethodCard(
        name="cascade",
        summary="A fast method, and a slow one where the fast one is unsure",
        objective="those of the two, each by itself",
        paper="Chen et al. 2023, arXiv 2305.05176",
        inference=("pooled", "generate"),
    )

    class Params(db.MethodParams):
        """`share` of dev rows handed on, at most; or the least that reaches the `score` (dev accuracy, 0-100)."""

        fast: db.MethodReference = "pooled"
        slow: db.MethodReference = "cot"
        confidence: Literal["probability", "margin"] = "probability"
        share: float = Field(0.2, ge=0, le=1)
        score: float | None = Field(None, ge=0, le=100)

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        super().fit(task, context)
        self.chosen["cut"] = self.cut(task.dev, context) if task.dev else inf

    def cut(self, dev: Sequence[db.LabeledExample], context: db.Context) -> float:
        examples, n, score = [row.example for row in dev], len(dev), self.params.score
        fast = self.parts["fast"].predict(examples, context.inner("fast"))
        sure = db.confidence(fast, self.params.confidence)
        cuts = [-inf, *(sum(pair) / 2 for pair in pairwise(sorted(set(sure)))), inf]
        if score is None:
            return max(cut for cut in cuts if sum(c < cut for c in sure) <= self.params.share * n + 1e-9)
        slow = self.parts["slow"].predict(examples, context.inner("slow"))
        rows = [(c, a == y.label, b == y.label) for c, a, b, y in zip(sure, fast.labels, slow.labels, dev, strict=True)]
        return min((at for at in cuts if 100 * sum(b if c < at else a for c, a, b in rows) >= score * n), default=inf)

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        fast = self.parts["fast"].predict(examples, context.inner("fast"))
        sure = db.confidence(fast, self.params.confidence)
        unsure = [place for place, each in enumerate(sure) if each < self.chosen["cut"]]
        if len(unsure) < len(examples):
            context.lap(len(examples) - len(unsure))
        asked = [examples[place] for place in unsure]
        slow = self.parts["slow"].predict(asked, context.inner("slow", counted=True)) if asked else fast
        return fast.corrected(unsure, slow)
