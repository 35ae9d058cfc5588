"""DHRD without rationales, which tells the rationale from an LM loss on input and label."""

from __future__ import annotations

import dhrd_bench as db


@db.register
class DhrdOnlyLabel(db.method("dhrd")):
    """The LM head models [x, y]."""

    card = db.MethodCard(
        name="dhrd-only-label",
        summary="DHRD on input and answer alone",
        objective="L = beta L_cls(x) + alpha L_lm(x, y)",
        paper="Xu et al. 2025, arXiv 2509.21487 (OnlyLabel)",
        role="control",
        inference="pooled",
    )

    def reasoning(self, row: db.LabeledExample, encode: db.Encoder) -> list[int]:
        return []
