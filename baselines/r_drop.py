"""R-Drop: a pooled classifier whose two passes under dropout are to agree, a rival that needs no teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

import dhrd_bench as db

if TYPE_CHECKING:
    from torch import Tensor


@db.register
class RDrop(db.method("pooled")):
    """The classification loss is the mean of the two passes', as in the authors' code; the paper adds them up.

    Which masks differ is a matter of what drops out: the two-layer head, and LoRA's adapters.
    """

    card = db.MethodCard(
        name="r-drop",
        summary="Pooled head, two passes under dropout that are to agree",
        objective="L = (L_cls(p) + L_cls(q)) / 2 + alpha (KL(p || q) + KL(q || p)) / 2",
        paper="Liang et al. 2021, arXiv 2106.14448",
        inference="pooled",
    )

    class Params(db.method("pooled").Params):
        """The paper tries 0.1, 0.5 and 1 for fine-tuning."""

        alpha: float = Field(1.0, ge=0)

    def weights(self) -> dict[str, float]:
        return {"cls": 0.5}

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        budget = context.budget
        if self.params.head == "linear" and not (budget.tuning == "lora" and budget.lora.dropout):
            message = f"Nothing drops out under tuning={budget.tuning} with a linear head: both passes would be one."
            raise db.UserError(message, "Take head=mlp, or a budget that tunes by LoRA with dropout.")
        super().fit(task, context)

    def loss(self, seen: db.Pass) -> Tensor:
        again = seen.again()
        p, q = (each.logits.log_softmax(-1) for each in (seen, again))
        return again.cls_losses / 2 + self.params.alpha * ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2
