"""The most frequent class of the train rows: what accuracy costs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import dhrd_bench as db


@db.register
class Majority(db.Method):
    """Answers every row alike; the first of the classes on a tie."""

    card = db.MethodCard(
        name="majority",
        summary="The most frequent class of the train rows",
        objective="argmax of the class frequencies",
        paper="the floor; no paper",
        role="control",
        inference="none",
    )

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        if not task.train:
            raise db.UserError(f"Task {task.card.name!r} has no training rows.")
        labels = [row.label for row in task.train]
        self.shares = [labels.count(label) / len(labels) for label in range(len(task.card.labels))]

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        count, winner = len(examples), self.shares.index(max(self.shares))
        return db.Predictions([winner] * count, [self.shares] * count, tokens_in=[0] * count, tokens_out=[0] * count)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shares.json").write_text(json.dumps(self.shares), encoding="utf-8")

    def load(self, folder: Path, task: db.TaskCard, context: db.Context) -> None:
        self.shares = json.loads((folder / "shares.json").read_text(encoding="utf-8"))
