"""A pooled classifier on a teacher's class probabilities: what its opinion is worth without its reasons."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

import dhrd_bench as db


@db.register
class SoftLabels(db.method("pooled")):
    """Rows of which the teacher has said nothing keep their label.

    Cross-entropy and KL divergence from the teacher differ by a constant. The temperature is the teacher's only: one
    that states how sure it is has no logits, and the classifier is used at temperature 1.
    """

    card = db.MethodCard(
        name="soft-labels",
        summary="Classification head on a teacher's class probabilities, mixed with the label",
        objective="L = cross-entropy with gold 1_y + (1 - gold) p_teacher^(1/T), p normalised",
        paper="Hinton et al. 2015, arXiv 1503.02531",
        uses_soft_labels=True,
        inference="pooled",
    )

    class Params(db.method("pooled").Params):
        """``gold`` is the label's share."""

        gold: float = Field(0.5, ge=0, le=1)
        temperature: float = Field(1.0, gt=0)

    @classmethod
    def card_for(cls, params: Params) -> db.MethodCard:
        return super().card_for(params).model_copy(update={"uses_soft_labels": params.gold < 1})

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        (made,) = super().rows(row, encode)
        return [replace(made, soft=row.mixed(1 - self.params.gold, self.params.temperature) or made.soft)]
