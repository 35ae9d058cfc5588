"""Prompted chain of thought: no training at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

import dhrd_bench as db


@db.register
class CotZeroshot(db.Method):
    """The task's instruction is put to the untrained LM, as a chat turn if it knows chat."""

    card = db.MethodCard(
        name="cot-zeroshot",
        summary="Prompted to reason and answer, without training; parsed leniently",
        objective="none",
        paper="Kojima et al. 2022, arXiv 2205.11916",
        trains=False,
        inference="generate",
    )

    class Params(db.MethodParams):
        """With several samples the majority counts; see `dhrd_bench.generate` for the decodings."""

        samples: int = Field(1, ge=1)
        decoding: Literal["budget", "paper", "diverse"] = "budget"

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        self.fitted = db.Fitted(task.card)

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        prefix, suffix = db.chat_turn(context.backbone, self.fitted.card.instruction)
        settings = {"samples": self.params.samples, "decoding": self.params.decoding, "read": db.parse_free_answer}
        return db.generate(self.fitted, examples, context, prefix=prefix, suffix=suffix, **settings)

    def load(self, folder: Path, task: db.TaskCard, context: db.Context) -> None:
        self.fitted = db.Fitted(task)
