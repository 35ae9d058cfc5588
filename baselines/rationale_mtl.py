"""Distilling step-by-step: two tasks, told apart by a prefix, of which one is asked at test time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

import dhrd_bench as db

LABEL, RATIONALE = "[label] ", "[rationale] "


@db.register
class RationaleMtl(db.FineTuned):
    """The LM learns to write the answer after one prefix and the rationale after the other.

    Each loss is the mean over its own tokens. Source: their L_label + lambda L_rationale, with the two
    weights adding up to 1.
    """

    card = db.MethodCard(
        name="rationale-mtl",
        summary="LM fine-tuned on two prefixed tasks, input to answer and input to rationale",
        objective="L = a L_lm(y | label, x) + (1 - a) L_lm(r | rationale, x)",
        paper="Hsieh et al. 2023, arXiv 2305.02301",
        uses_rationales=True,
        inference="generate",
    )

    class Params(db.MethodParams):
        """Weight of the label task; ``predict=score`` scores the answer words instead of writing one."""

        a: float = Field(0.5, ge=0, le=1)
        predict: Literal["generate", "score"] = "generate"

    @classmethod
    def card_for(cls, params: Params) -> db.MethodCard:
        return cls.card.model_copy(update={"inference": params.predict})

    def weights(self) -> dict[str, float]:
        return {"label": self.params.a, "rationale": 1 - self.params.a}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x = encode.input(row.example, LABEL)
        ids = [*x, *encode.answer(row.label)]
        rows = [db.Row(ids, len(x), lm=(len(x) + len(encode.answer_marker()), len(ids)), term="label")]
        if row.rationale:
            x = encode.input(row.example, RATIONALE)
            ids = [*x, *encode.reasoning(row.rationale), encode.backbone.eos_id]
            rows.append(db.Row(ids, len(x), lm=(len(x) + len(encode.reason_marker()), len(ids)), term="rationale"))
        return rows

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        if self.params.predict == "score":
            return db.score_labels(self.fitted, examples, context, prefix=LABEL)
        return db.generate(self.fitted, examples, context, lead=self.fitted.card.answer, prefix=LABEL)
