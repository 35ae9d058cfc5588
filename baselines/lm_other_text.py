"""DHRD with another text in place of each rationale, which tells reasons from more text to model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import dhrd_bench as db

DIGEST = "20828b05ce5d525c"


@db.register
class LmOtherText(db.method("dhrd")):
    """Each row gets a stretch of `other_text.txt` that has as many tokens as its rationale, the same in every epoch.

    The text, on a mill, a harbour, bees and the like, was written for this project. Where a stretch begins is drawn by
    seed and row; behind its last word the text begins again.
    """

    card = db.MethodCard(
        name="lm-other-text",
        summary="DHRD with unrelated text of the same length in place of the rationale",
        objective="L = beta L_cls(x) + alpha L_lm(x, other text, y)",
        paper="a control of this benchmark",
        role="control",
        uses_rationales=True,
        inference="pooled",
    )

    def prepare(self, task: db.TaskData, context: db.Context) -> db.TaskData:
        content = Path(__file__).with_name("other_text.txt").read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != DIGEST:  # the text is part of the method, as its code is
            raise db.UserError("other_text.txt has been edited.", "Restore it, or write its digest into the method.")
        self.seed, self.text = context.stream("other text"), context.backbone.encode(" " + content.decode())
        return task

    def reasoning(self, row: db.LabeledExample, encode: db.Encoder) -> list[int]:
        count = len(encode.reasoning(row.rationale)) - len(encode.reason_marker())
        start = db.derive_seed(str(self.seed), row.example.id) % len(self.text)
        other = (self.text[start:] + self.text * (1 + count // len(self.text)))[:count] if count > 0 else []
        return encode.reason_marker() + other if other else []
