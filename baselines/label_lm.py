"""The LM as a classifier: fine-tuned to write the answer, it is asked which answer it would write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import dhrd_bench as db


@db.register
class LabelLm(db.FineTuned):
    """LM on [x, y]; at test time the answer words are scored and nothing is generated."""

    card = db.MethodCard(
        name="label-lm",
        summary="LM fine-tuned on input and answer; the likeliest answer word counts",
        objective="L = L_lm(y | x)",
        paper="scoring as in lm-evaluation-harness (Gao et al. 2024)",
        inference="score",
    )

    class Params(db.MethodParams):
        """``lm_scope=all`` puts the loss on input and answer marker, too.

        The default is usual supervised fine-tuning: the loss is on what is to be written, the answer
        word and the end of text. The marker is always given, so nothing is to be learnt about it.
        """

        lm_scope: Literal["answer", "all"] = "answer"

    def weights(self) -> dict[str, float]:
        return {"lm": 1.0}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x, answer = encode.input(row.example), encode.answer(row.label)
        ids = [*x, *answer]
        start = 0 if self.params.lm_scope == "all" else len(x) + len(encode.answer_marker())
        return [db.Row(ids, len(x), lm=(start, len(ids)))]

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return db.score_labels(self.fitted, examples, context)
