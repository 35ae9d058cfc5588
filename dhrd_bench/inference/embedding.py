"""The states of inputs, for classifiers that are not the harness's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dhrd_bench.backbones import backbone_of
from dhrd_bench.contracts import Context, Example
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.modeling.fitted import Fitted


@torch.inference_mode()
def embed(fitted: Fitted, examples: Sequence[Example], context: Context) -> Tensor:
    """Return the state at the last token of each input, after the final norm: what `classify` gives to its head.

    Parameters
    ----------
    fitted
        A fine-tuned model, or ``Fitted(card)`` for the untrained backbone.
    examples
        Inputs; returned in this order.
    context
        Backbone and budget.

    Returns
    -------
    Tensor
        ``(n, d)`` states in float32, on the CPU.
    """
    backbone = backbone_of(context)
    encoder = fitted.activate(backbone, context.budget)
    embedded = torch.empty(len(examples), backbone.width)
    for places, states in engine_of(backbone).pooled([encoder.input(example) for example in examples]):
        embedded[places] = states.float().cpu()
    return embedded
