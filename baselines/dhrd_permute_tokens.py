"""DHRD on rationales whose tokens are out of order, which tells reasoning from its words."""

from __future__ import annotations

import numpy as np

import dhrd_bench as db


@db.register
class DhrdPermuteTokens(db.method("dhrd")):
    """The tokens of each rationale are permuted within the row, the same way in every epoch."""

    card = db.MethodCard(
        name="dhrd-permute-tokens",
        summary="DHRD on rationales with permuted tokens",
        objective="L = beta L_cls(x) + alpha L_lm(x, permuted r, y)",
        paper="after Wadhwa et al. 2024, arXiv 2406.14511",
        role="control",
        uses_rationales=True,
        inference="pooled",
    )

    def prepare(self, task: db.TaskData, context: db.Context) -> db.TaskData:
        self.seed = context.stream("permute")
        return task

    def reasoning(self, row: db.LabeledExample, encode: db.Encoder) -> list[int]:
        ids, marker = encode.reasoning(row.rationale), encode.reason_marker()
        order = np.random.default_rng(db.derive_seed(str(self.seed), row.example.id))
        return marker + order.permutation(ids[len(marker) :]).tolist() if ids else []
