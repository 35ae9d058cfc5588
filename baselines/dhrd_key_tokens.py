"""DHRD whose LM loss is on the key tokens of the rationale, which tells whether the others are worth imitating."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

from pydantic import Field

import dhrd_bench as db


@db.register
class DhrdKeyTokens(db.method("dhrd")):
    """All tokens of r are read; of its LM targets a share counts, those that tell most. x and y count as ever."""

    card = db.MethodCard(
        name="dhrd-key-tokens",
        summary="DHRD with the LM loss on each rationale's key tokens",
        objective="L = beta L_cls(x) + alpha L_lm(x, key tokens of r, y)",
        paper="after Feng et al. 2024, arXiv 2405.16064, and Wadhwa et al. 2024, arXiv 2406.14511",
        uses_rationales=True,
        inference="pooled",
    )

    class Params(db.method("dhrd").Params):
        """The share of a rationale's tokens that is kept, and what they are ranked by over the train rationales.

        ``rarity`` is the inverse document frequency, ``label`` the mutual information of a token's presence and the
        class. The sources learn masks and take gradients of a trained model; both ask for a training of its own.
        """

        weighting: Literal["rarity", "label"] = "rarity"
        share: float = Field(0.25, gt=0, le=1)

    def prepare(self, task: db.TaskData, context: db.Context) -> db.TaskData:
        encode = db.Encoder(context.backbone, context.budget, task.card)
        skip = len(encode.reason_marker())
        held = [(set(self.reasoning(row, encode)[skip:]), row.label) for row in task.train if row.rationale]
        rows, classes = len(held), Counter(label for _, label in held)
        having = Counter((token, label) for tokens, label in held for token in tokens)
        self.scores: dict[int, float] = {}
        for token in {token for token, _ in having}:
            among = sum(having[token, label] for label in classes)
            cells = [(having[token, label], among, classes[label]) for label in classes]
            cells += [(count - found, rows - among, count) for found, _, count in cells]
            told = sum(both / rows * math.log(both * rows / (one * other)) for both, one, other in cells if both)
            score = told if self.params.weighting == "label" else math.log(rows / among)
            self.scores[token] = round(score, 9)  # ties are to be ties on every machine
        return task

    def rows(self, row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        (whole,) = super().rows(row, encode)
        start = whole.input_length + len(encode.reason_marker())
        places = range(start, whole.input_length + len(self.reasoning(row, encode)))
        ranked = sorted(places, key=lambda place: -self.scores.get(whole.ids[place], 0.0))
        idle = set(ranked[math.ceil(self.params.share * len(places)) :])
        return [whole.weighted(lambda place: float(place not in idle))]
