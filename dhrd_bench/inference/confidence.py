"""How sure a method is of its answers."""

from __future__ import annotations

import math
from typing import Literal

from dhrd_bench.contracts import Predictions
from dhrd_bench.errors import UserError

Measure = Literal["probability", "margin"]


def confidence(predictions: Predictions, measure: Measure = "probability") -> list[float]:
    """Return how sure each answer is, read off the row's class scores; higher is surer.

    Parameters
    ----------
    predictions
        With scores.
    measure
        ``probability``: the largest softmax probability (Hendrycks and Gimpel 2017, arXiv 1610.02136), over 0 to 1.
        ``margin``: the largest score less the second largest, 0 at least. With two classes both rank rows alike.

    Raises
    ------
    UserError
        If there are no scores.
    """
    if predictions.scores is None:
        raise UserError("There are no class scores to read a confidence off.", "Take a method that gives some.")
    if measure == "margin":
        return [best - second for second, best in (sorted(row)[-2:] for row in predictions.scores)]
    return [1 / math.fsum(math.exp(score - max(row)) for score in row) for row in predictions.scores]
