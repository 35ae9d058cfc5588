"""DHRD on the rationales and answers of other rows, which tells how much harm the LM loss can do."""

from __future__ import annotations

from dataclasses import replace

import dhrd_bench as db


@db.register
class DhrdShuffleReasoningLabel(db.method("dhrd")):
    """Each row gets rationale and answer of another train row, once for the whole training.

    The paper leaves open whether the head is trained on the other row's label, too; its scores, near
    those of a constant answer, say so. dev rows are left alone.
    """

    card = db.MethodCard(
        name="dhrd-shuffle-reasoning-label",
        summary="DHRD on the rationales and labels of other rows",
        objective="L = beta L_cls(x) + alpha L_lm(x, r', y'), r' and y' of another row",
        paper="Xu et al. 2025, arXiv 2509.21487 (ShuffleReasoningLabel)",
        role="control",
        uses_rationales=True,
        inference="pooled",
    )

    class Params(db.method("dhrd").Params):
        """``shuffle_class_label=false`` trains the head on the row's own label."""

        shuffle_class_label: bool = True

    def prepare(self, task: db.TaskData, context: db.Context) -> db.TaskData:
        takes = db.derange([row.rationale or row.example.id for row in task.train], context.stream("shuffle"))
        self.other = {row.example.id: task.train[j] for row, j in zip(task.train, takes, strict=True)}
        return task

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        other = self.other.get(row.example.id, row)
        (made,) = super().rows(replace(other, example=row.example), encode)
        return [made if self.params.shuffle_class_label else replace(made, label=row.label)]
