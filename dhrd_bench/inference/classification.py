"""Classification from the pooled state of x alone; nothing is generated."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dhrd_bench.backbones import backbone_of
from dhrd_bench.contracts import Context, Example, Predictions
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.modeling.fitted import Fitted


@torch.inference_mode()
def classify(fitted: Fitted, examples: Sequence[Example], context: Context) -> Predictions:
    """Predict with the classification head on the pooled state of each input.

    A row's result does not depend on its neighbours.

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
    backbone = backbone_of(context)
    encoder = fitted.activate(backbone, context.budget)
    sequences = [encoder.input(example) for example in examples]
    scores: list[list[float]] = [[]] * len(sequences)
    done = 0
    for places, states in engine_of(backbone).pooled(sequences, fitted.pool):
        for i, row in zip(places, fitted.logits(states).tolist(), strict=True):
            scores[i] = row
        done += len(places)
        context.lap(len(places))
        context.progress("predict", done, len(sequences), {})
    labels = [max(range(len(row)), key=row.__getitem__) for row in scores]
    return Predictions(
        labels=labels,
        scores=scores,
        tokens_in=[len(ids) for ids in sequences],
        tokens_out=[0] * len(sequences),
        truncated=len(encoder.truncated),
    )
