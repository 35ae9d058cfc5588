"""Dual-Head Reasoning Distillation: reason while training, classify at test time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

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
        """The paper's weights; ``lm_scope=rationale`` leaves the input out of the LM loss.

        ``soft`` is the share of the teacher's class probabilities in the classification loss, the label has the rest.
        """

        alpha: float = 1.0
        beta: float = 1.0
        lm_scope: Literal["all", "rationale"] = "all"
        soft: float = Field(0.0, ge=0, le=1)

    @classmethod
    def card_for(cls, params: db.MethodParams) -> db.MethodCard:
        soft = bool(getattr(params, "soft", 0))  # controls have parameters of their own
        return cls.card.model_copy(update={"uses_soft_labels": True}) if soft else cls.card

    def weights(self) -> dict[str, float]:
        return {"cls": self.params.beta, "lm": self.params.alpha}

    def reasoning(self, row: db.LabeledExample, encode: db.Encoder) -> list[int]:
        """Return the tokens between input and answer; what the variants change."""
        return encode.reasoning(row.rationale)

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x = encode.input(row.example)
        ids = [*x, *self.reasoning(row, encode), *encode.answer(row.label)]
        start = 0 if self.params.lm_scope == "all" else len(x)
        return [db.Row(ids, len(x), label=row.label, soft=row.mixed(self.params.soft), lm=(start, len(ids)))]
