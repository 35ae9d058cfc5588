"""Distilling step-by-step whose two tasks are to say the same: a bound on their mutual information is raised."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

import dhrd_bench as db

if TYPE_CHECKING:
    from torch import Tensor


@db.register
class MiCot(db.method("rationale-mtl")):
    """Beside the two losses: the words of the rationale task foretell those of the label task.

    The variational bound on I(label task; rationale task) is a cross-entropy. What it is of is that of the source's
    code, as the paper leaves it open: for each task the vocabulary's probabilities, each the largest over the task's
    targets; those of the label task are the targets, without a gradient, and those of the rationale task the logits.
    """

    card = db.MethodCard(
        name="mi-cot",
        summary="Two prefixed tasks, input to answer and input to rationale, with a bound on their mutual information",
        objective="L = a L_lm(y | label, x) + (1 - a) L_lm(r | rationale, x) + beta H(p_label, q_rationale)",
        paper="Chen et al. 2024, arXiv 2403.03348",
        uses_rationales=True,
        inference="generate",
    )

    class Params(db.method("rationale-mtl").Params):
        """Weight of the bound; the source recommends a=0.5 and beta=0.1."""

        beta: float = Field(0.1, ge=0)

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        label, *rationale = super().rows(row, encode)
        return [label, *(replace(each, beside=label) for each in rationale)]

    def loss(self, seen: db.Pass) -> Tensor:
        import torch

        losses = seen.states.new_zeros(len(seen.rows)).float()
        with torch.no_grad():
            labels = seen.over([row.beside or row for row in seen.rows])
            said = [logits.softmax(-1).amax(0) for logits in labels.lm_logits]
        for number, (row, logits) in enumerate(zip(seen.rows, seen.lm_logits, strict=True)):
            if row.beside:  # an example is two sequences, of which this is one: their mean is half the examples'
                foretold = logits.softmax(-1).amax(0).log_softmax(-1)
                losses[number] = -2 * self.params.beta * (said[number] * foretold).sum()
        return losses
