"""Pooled classifier: the baseline over which every relative gain is taken."""

from __future__ import annotations

import dhrd_bench as db


@db.register
class Pooled(db.FineTuned):
    """Classification head on the pooled input; no rationale, no language modelling."""

    card = db.MethodCard(
        name="pooled",
        summary="Classification head on the last input token",
        objective="L = L_cls(x)",
        paper="Xu et al. 2025, arXiv 2509.21487 (beta=1, alpha=0)",
        role="baseline",
        inference="pooled",
    )

    Params = db.PooledParams

    def weights(self) -> dict[str, float]:
        return {"cls": 1.0}

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x = encode.input(row.example)
        return [db.Row(x, len(x), label=row.label)]
