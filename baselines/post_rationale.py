"""Answer first, reasons after: the rationale shapes the training and is never written at test time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import dhrd_bench as db


@db.register
class PostRationale(db.FineTuned):
    """LM on [x, y, r]; generation stops after y."""

    card = db.MethodCard(
        name="post-rationale",
        summary="LM fine-tuned on input, answer and then rationale; stops after the answer",
        objective="L = L_lm(y, r | x)",
        paper="Wadhwa et al. 2024, arXiv 2406.14511",
        uses_rationales=True,
        inference="generate",
    )

    class Params(db.MethodParams):
        """``lm_scope=all`` puts the loss on the input, too; ``predict=score`` scores the answer words."""

        lm_scope: Literal["completion", "all"] = "completion"
        predict: Literal["generate", "score"] = "generate"

    @classmethod
    def card_for(cls, params: Params) -> db.MethodCard:
        return cls.card.model_copy(update={"inference": params.predict})

    def weights(self) -> dict[str, float]:
        return {"lm": 1.0}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x, marker = encode.input(row.example), encode.answer_marker()
        y, r = encode.answer_word(row.label), encode.reasoning(row.rationale)
        ids = [*x, *marker, *y, *r, encode.backbone.eos_id]
        start = 0 if self.params.lm_scope == "all" else len(x) + len(marker)
        return [db.Row(ids, len(x), lm=(start, len(ids)))]

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        if self.params.predict == "score":
            return db.score_labels(self.fitted, examples, context)
        return db.generate(self.fitted, examples, context, lead=self.fitted.card.answer)
