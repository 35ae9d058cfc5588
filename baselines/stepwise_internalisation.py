"""Stepwise internalisation: the rationale is taken away from its front, epoch by epoch, until none is left."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

import dhrd_bench as db


@db.register
class StepwiseInternalisation(db.FineTuned):
    """LM on [x, what is left of r, y]; the answer words are scored right behind x, as in the last epoch."""

    card = db.MethodCard(
        name="stepwise-internalisation",
        summary="LM fine-tuned on rationales that lose their first tokens epoch by epoch; the likeliest answer counts",
        objective="L = L_lm(r without its first s(t) tokens, y | x), s(t) growing to the whole of r",
        paper="Deng et al. 2024, arXiv 2405.14838",
        uses_rationales=True,
        inference="score",
    )

    class Params(db.MethodParams):
        """Tokens removed an epoch, or None for equal shares; the rate of the geometric offset on top, the source's.

        There the optimiser starts anew at each removal; here it is the budget's, and runs through.
        """

        delta: int | None = Field(None, ge=1)
        smoothing: float = Field(4.0, gt=0)

    def prepare(self, task: db.TaskData, context: db.Context) -> db.TaskData:
        self.seed = context.stream("stepwise")
        return task

    def weights(self) -> dict[str, float]:
        return {"lm": 1.0}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        return self.rows_at(row, encode, 0, 1)

    def rows_at(self, row: db.LabeledExample, encode: db.Encoder, epoch: int, epochs: int) -> list[db.Row]:
        x, marker = encode.input(row.example), encode.reason_marker()
        thoughts = encode.reasoning(row.rationale)[len(marker) :]
        removed = len(thoughts)
        if epoch < epochs - 1:
            rng = np.random.default_rng(db.derive_seed(str(self.seed), row.example.id, str(epoch)))
            removed = math.ceil(epoch * (self.params.delta or len(thoughts) / (epochs - 1)))
            removed += int(rng.exponential(1 / self.params.smoothing))
        left = thoughts[removed:]
        ids = [*x, *(marker if left else []), *left, *encode.answer(row.label)]
        return [db.Row(ids, len(x), lm=(len(x), len(ids)))]

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return db.score_labels(self.fitted, examples, context)
