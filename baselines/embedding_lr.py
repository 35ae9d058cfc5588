"""Logistic regression on the frozen backbone: what its states tell before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dhrd_bench as db


@db.register
class EmbeddingLr(db.Method):
    """The state is the one that a pooled head sees, so predicting costs what it costs there."""

    card = db.MethodCard(
        name="embedding-lr",
        summary="Logistic regression on the frozen backbone's state at the last input token",
        objective="sum of log losses + |w|^2 / (2 C), on standardised states",
        paper="Alain and Bengio 2016, arXiv 1610.01644 (linear probes)",
        inference="pooled",
    )

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        examples = [row.example for row in (*task.train, *task.dev)]
        states = db.embed(db.Fitted(task.card), examples, context).double().numpy()
        head = db.LogisticRegression.fit(states, task, standardise=True).head()
        self.fitted = db.Fitted(task.card, head_kind="linear", head=head.to(context.backbone.device))

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return db.classify(self.fitted, examples, context)

    def save(self, folder: Path) -> None:
        self.fitted.save(folder)

    def load(self, folder: Path, task: db.TaskCard, context: db.Context) -> None:
        self.fitted = db.Fitted.load(folder, task, context.backbone, context.budget)
