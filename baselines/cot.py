"""Chain-of-thought decoding: the LM is fine-tuned on [x, r, y] and writes r and y at test time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

import dhrd_bench as db


@db.register
class Cot(db.FineTuned):
    """Fine-tuned to reason aloud; the answer is parsed from what it writes."""

    card = db.MethodCard(
        name="cot",
        summary="LM fine-tuned on input, rationale and answer; generates both and is parsed",
        objective="L = L_lm(x, r, y)",
        paper="Xu et al. 2025, arXiv 2509.21487 (alpha=1, beta=0)",
        role="reference",
        uses_rationales=True,
        inference="generate",
    )

    class Params(db.MethodParams):
        """``lm_scope=rationale`` leaves the input out of the LM loss; with several samples the majority counts.

        ``decoding=paper`` samples as the paper does, ``decoding=diverse`` as self-consistency does;
        otherwise the budget says how.
        """

        lm_scope: Literal["all", "rationale"] = "all"
        samples: int = Field(1, ge=1)
        decoding: Literal["budget", "paper", "diverse"] = "budget"

    def weights(self) -> dict[str, float]:
        return {"lm": 1.0}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x = encode.input(row.example)
        ids = [*x, *encode.reasoning(row.rationale), *encode.answer(row.label)]
        return [db.Row(ids, len(x), lm=(0 if self.params.lm_scope == "all" else len(x), len(ids)))]

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        settings = {"samples": self.params.samples, "decoding": self.params.decoding}
        return db.generate(self.fitted, examples, context, lead=self.fitted.card.reason, **settings)
