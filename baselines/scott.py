"""Self-consistent chain of thought: rationales for other answers are to lead to these, so that r is not passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

import dhrd_bench as db

FACTUAL, COUNTERFACTUAL = "[factual] ", "[counterfactual] "


@db.register
class Scott(db.FineTuned):
    """LM on [x, r, y] behind one prefix, and on the answer alone of [x, r', y'] behind another, r' arguing for y'.

    The source puts the prefix before the encoder's input and before the decoder's; here there is one sequence, and
    one prefix. dev rows choose the epoch by the factual loss, as there.
    """

    card = db.MethodCard(
        name="scott",
        summary="LM fine-tuned to reason aloud, and to answer as counterfactual rationales have it",
        objective="L = (1 - a) L_lm(r, y | factual, x) + a L_lm(y' | counterfactual, x, r')",
        paper="Wang et al. 2023, arXiv 2305.01879",
        uses_rationales=True,
        uses_counterfactuals=True,
        inference="generate",
    )

    class Params(db.MethodParams):
        """Weight of the counterfactual loss, the source's."""

        a: float = Field(0.5, ge=0, lt=1)

    def prepare(self, task: db.TaskData, context: db.Context) -> db.TaskData:
        return replace(task, dev=tuple(replace(row, counterfactuals=()) for row in task.dev))

    def weights(self) -> dict[str, float]:
        return {"factual": 1 - self.params.a, "counterfactual": self.params.a}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x = encode.input(row.example, FACTUAL)
        ids = [*x, *encode.reasoning(row.rationale), *encode.answer(row.label)]
        rows = [db.Row(ids, len(x), lm=(len(x), len(ids)), term="factual")]
        for label, rationale in row.counterfactuals:
            x = encode.input(row.example, COUNTERFACTUAL)
            given = [*x, *encode.reasoning(rationale), *encode.answer_marker()]
            ids = [*x, *encode.reasoning(rationale), *encode.answer(label)]
            rows.append(db.Row(ids, len(x), lm=(len(given), len(ids)), term="counterfactual"))
        return rows

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return db.generate(self.fitted, examples, context, lead=self.fitted.card.reason, prefix=FACTUAL)
