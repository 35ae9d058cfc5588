"""DHRD on the rationales of other rows, which tells whether a rationale must belong to its row."""

from __future__ import annotations

from dataclasses import replace

import dhrd_bench as db


@db.register
class DhrdShuffleReasoning(db.method("dhrd")):
    """Each row gets the rationale of another train row, once for the whole training; its answer stays.

    Rows without a rationale keep none. dev rows are left alone: they choose the epoch, by the head.
    """

    card = db.MethodCard(
        name="dhrd-shuffle-reasoning",
        summary="DHRD on the rationales of other rows",
        objective="L = beta L_cls(x) + alpha L_lm(x, r', y), r' of another row",
        paper="Xu et al. 2025, arXiv 2509.21487 (ShuffleReasoning)",
        role="control",
        uses_rationales=True,
        inference="pooled",
    )

    def prepare(self, task: db.TaskData, context: db.Context) -> db.TaskData:
        rows = list(task.train)
        having = [i for i, row in enumerate(rows) if row.rationale]
        takes = db.derange([rows[i].rationale for i in having], context.stream("shuffle"))
        for i, j in zip(having, takes, strict=True):
            rows[i] = replace(rows[i], rationale=task.train[having[j]].rationale)
        return replace(task, train=tuple(rows))
