"""Dual-Head Reasoning Distillation: reason while training, classify at test time."""

from __future__ import annotations

from typing import Literal

import dhrd_bench as db


@db.register
class Dhrd(db.FineTuned):
    """One pass over [x, r, y]: the head classifies from x, by default its last token, the LM head models the text."""

    card = db.MethodCard(
        name="dhrd",
        summary="Pooled head and LM head trained on one pass over input, rationale and answer",
        objective="L = beta L_cls(x) + alpha L_lm(x, r, y)",
        paper="Xu et al. 2025, arXiv 2509.21487",
        uses_rationales=True,
        inference="pooled",
    )

    class Params(db.PooledParams):
        """The paper's weights; ``lm_scope=rationale`` leaves the input out of the LM loss."""

        alpha: float = 1.0
        beta: float = 1.0
        lm_scope: Literal["all", "rationale"] = "all"

    def weights(self) -> dict[str, float]:
        return {"cls": self.params.beta, "lm": self.params.alpha}

    def reasoning(self, row: db.LabeledExample, encode: db.Encoder) -> list[int]:
        """Return the tokens between input and answer; what the variants change."""
        return encode.reasoning(row.rationale)

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x = encode.input(row.example)
        ids = [*x, *self.reasoning(row, encode), *encode.answer(row.label)]
        start = 0 if self.params.lm_scope == "all" else len(x)
        return [db.Row(ids, len(x), label=row.label, lm=(start, len(ids)))]
