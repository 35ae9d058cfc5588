"""DHRD without a loss on the input, which tells the rationale from language modelling of x."""

from __future__ import annotations

from typing import Literal

import dhrd_bench as db


@db.register
class DhrdRationaleOnly(db.method("dhrd")):
    """The LM loss covers rationale and answer, given the input."""

    card = db.MethodCard(
        name="dhrd-rationale-only",
        summary="DHRD with no LM loss on the input",
        objective="L = beta L_cls(x) + alpha L_lm(r, y | x)",
        paper="a control of this benchmark",
        role="control",
        uses_rationales=True,
        inference="pooled",
    )

    class Params(db.method("dhrd").Params):
        """As DHRD's, with the scope fixed."""

        lm_scope: Literal["rationale"] = "rationale"
