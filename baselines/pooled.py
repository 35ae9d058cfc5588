"""Pooled classifier: the baseline over which every relative gain is taken, and what it makes of DHRD's costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

import dhrd_bench as db


@db.register
class Pooled(db.FineTuned):
    """``match=tokens`` trains for more epochs, on as many tokens as [x, r, y] has; ``match=cost`` on more rows."""

    card = db.MethodCard(
        name="pooled",
        summary="Classification head on the last input token",
        objective="L = L_cls(x)",
        paper="Xu et al. 2025, arXiv 2509.21487 (beta=1, alpha=0)",
        role="baseline",
        inference="pooled",
    )

    class Params(db.PooledParams):
        """``label_tokens``: the price of a label in tokens of the teacher's; by default it reads x and writes one."""

        match: Literal["none", "tokens", "cost"] = "none"
        label_tokens: float | None = Field(None, gt=0)
        label_smoothing: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def card_for(cls, params: Params) -> db.MethodCard:
        matched = {"role": "control", "uses_rationales": True, "uses_spare": params.match == "cost"}
        return cls.card if params.match == "none" else cls.card.model_copy(update=matched)

    def weights(self) -> dict[str, float]:
        return {"cls": 1.0}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x, share, classes = encode.input(row.example), self.params.label_smoothing, len(encode.card.labels)
        smooth = tuple(share / classes + (1 - share) * (k == row.label) for k in range(classes))
        return [db.Row(x, len(x), label=row.label, soft=smooth if share else None)]

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        encode = db.Encoder(context.backbone, context.budget, task.card, pause=self.params.pause)
        x = sum(len(encode.input(row.example)) for row in task.train)
        if self.params.match == "tokens" and x:
            more = sum(len(encode.reasoning(row.rationale) + encode.answer(row.label)) for row in task.train)
            epochs = context.train_log["epochs_wanted"] = round(context.budget.epochs * (x + more) / x)
            context = replace(context, budget=context.budget.model_copy(update={"epochs": epochs}))
        elif self.params.match == "cost" and x:
            asked = [row for row in task.train if row.rationale]
            spent = sum(len(encode.input(row.example) + context.backbone.encode(row.rationale)) for row in asked)
            wanted = int(spent / (self.params.label_tokens or x / len(task.train) + 1))
            task = replace(task, train=(*task.train, *task.spare[:wanted]))
            context.train_log |= {"spare_wanted": wanted, "spare_used": min(wanted, len(task.spare))}
        super().fit(task, context)
