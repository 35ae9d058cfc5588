"""Classification from the pooled state of x alone; nothing is generated."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dhrd_bench.contracts import Context, Example, Predictions
from dhrd_bench.training.batches import packs
from dhrd_bench.training.fitted import Fitted

PACK_TOKENS = 1024
"""Tokens a forward pass. More bring nothing on a CPU; each pack is also one lap of the harness's clock."""


@torch.inference_mode()
def classify(fitted: Fitted, examples: Sequence[Example], context: Context) -> Predictions:
    """Predict with the classification head at the last token of each input.

    Inputs are packed by length without padding; a row's result does not depend on its neighbours.

    Parameters
    ----------
    fitted
        A fine-tuned model with a head.
    examples
        Inputs; returned in this order.
    context
        Backbone, budget and the clock.

    Returns
    -------
    Predictions
        Labels and ``(n, K)`` logits.
    """
    backbone = context.backbone
    encoder = fitted.activate(backbone, context.budget)
    sequences = [encoder.input(example) for example in examples]
    scores: list[list[float]] = [[]] * len(sequences)
    done = 0
    for pack in packs([len(ids) for ids in sequences], PACK_TOKENS):
        lengths = [len(sequences[i]) for i in pack]
        ids = torch.tensor([token for i in pack for token in sequences[i]], device=backbone.device)
        last = torch.tensor(lengths, device=backbone.device).cumsum(0) - 1
        logits = fitted.logits(backbone.hidden(ids, lengths)[last]).tolist()
        for i, row in zip(pack, logits, strict=True):
            scores[i] = row
        done += len(pack)
        context.lap(len(pack))
        context.progress("predict", done, len(sequences), {})
    labels = [max(range(len(row)), key=row.__getitem__) for row in scores]
    return Predictions(
        labels=labels,
        scores=scores,
        tokens_in=[len(ids) for ids in sequences],
        tokens_out=[0] * len(sequences),
        truncated=len(encoder.truncated),
    )
