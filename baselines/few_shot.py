"""The untrained LM behind some train rows and their answers: what costs no training."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from pydantic import Field

import dhrd_bench as db


@db.register
class FewShot(db.Method):
    """All rows of a cell follow the same shots, each cut as a train row is; none of them is cut for the shots."""

    card = db.MethodCard(
        name="few-shot",
        summary="Untrained LM shown train rows with their answers; the likeliest answer word counts",
        objective="none",
        paper="Brown et al. 2020, arXiv 2005.14165; scoring as in lm-evaluation-harness (Gao et al. 2024)",
        trains=False,
        inference="score",
        expected_failures={"long-inputs": "the shots are read beside max_length, so that no row is cut for them"},
    )

    class Params(db.MethodParams):
        """How many rows are shown, of each class alike where there are enough."""

        shots: int = Field(4, ge=1)

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        order = np.random.default_rng(context.stream("shots")).permutation(len(task.train)).tolist()
        turn = defaultdict[int, Iterator[int]](count)  # the first of every class come before the second of any
        rows = sorted((task.train[i] for i in order), key=lambda row: next(turn[row.label]))
        encode = db.Encoder(context.backbone, context.budget, task.card)
        self.shots, self.fitted = "", db.Fitted(task.card)
        for row in rows[: self.params.shots]:
            seen = context.backbone.decode(encode.input(row.example))
            text = seen if row.example.id in encode.truncated else row.example.prompt.text
            self.shots += f"{text}{task.card.answer} {task.card.answers[row.label]}\n\n"

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return db.score_labels(self.fitted, *db.with_shots(self.shots, examples, context))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shots.json").write_text(json.dumps(self.shots), encoding="utf-8")

    def load(self, folder: Path, task: db.TaskCard, context: db.Context) -> None:
        self.shots, self.fitted = json.loads((folder / "shots.json").read_text(encoding="utf-8")), db.Fitted(task)
