"""A pooled classifier with an LM loss on its input, which tells distillation from regularisation."""

from __future__ import annotations

import dhrd_bench as db


@db.register
class LmInputOnly(db.method("dhrd")):
    """The LM head models x; neither rationale nor answer is in the sequence."""

    card = db.MethodCard(
        name="lm-input-only",
        summary="Pooled head with an LM loss on the input alone",
        objective="L = beta L_cls(x) + alpha L_lm(x)",
        paper="a control of this benchmark",
        role="control",
        inference="pooled",
    )

    class Params(db.PooledParams):
        """Weights of the two losses."""

        alpha: float = 1.0
        beta: float = 1.0

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        x = encode.input(row.example)
        return [db.Row(x, len(x), label=row.label, lm=(0, len(x)))]
