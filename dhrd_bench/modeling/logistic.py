"""Logistic regression on features that a method computes itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from dhrd_bench.contracts import Predictions, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.modeling.heads import classification_head

Floats = NDArray[np.float64]

GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the L2 penalty, from which dev chooses."""

NEVER = -100.0
"""Logit of a class without a train row. The largest of the others is 0 at least, so it never wins."""

FILE = "logistic.safetensors"


@dataclass(frozen=True, eq=False)
class LogisticRegression:
    """A linear classifier as scikit-learn fits it: log loss summed over the train rows and ``|w|^2 / (2 C)``.

    Attributes
    ----------
    weight, bias
        ``(K, d)`` and ``(K,)``. Of two classes the first has the logit 0.
    """

    weight: Floats
    bias: Floats

    @classmethod
    def fit(cls, features: Any, task: TaskData, *, standardise: bool = False) -> LogisticRegression:
        """Fit the train rows of `task`; C is the value of `GRID` with the best dev accuracy, the smallest on a tie.

        Without dev rows C is 1.

        Parameters
        ----------
        features
            ``(n, d)`` array or sparse matrix: the train rows, and behind them the dev rows.
        standardise
            Whether each feature is brought to mean 0 and standard deviation 1 on the train rows.

        Raises
        ------
        UserError
            If there are no train rows.
        """
        from sklearn import linear_model
        from sklearn.preprocessing import StandardScaler

        count, labels = len(task.train), [row.label for row in task.train]
        if not count:
            raise UserError(f"Task {task.card.name!r} has no training rows.")
        weight, bias = np.zeros((len(task.card.labels), features.shape[1])), np.full(len(task.card.labels), NEVER)
        present = sorted(set(labels))
        bias[present] = 0.0
        if len(present) == 1:
            return cls(weight, bias)
        scaler = StandardScaler().fit(features[:count]) if standardise else None
        scaled = scaler.transform(features) if scaler else features
        grid, dev_labels = GRID if task.dev else (1.0,), [row.label for row in task.dev]
        fits = [linear_model.LogisticRegression(C=c, max_iter=10_000).fit(scaled[:count], labels) for c in grid]
        best = max(fits, key=lambda fit: fit.score(scaled[count:], dev_labels)) if task.dev else fits[0]
        rows = present if len(present) > 2 else present[1:]  # of two classes scikit-learn keeps the second's logit
        weight[rows], bias[rows] = best.coef_, best.intercept_
        if scaler:
            weight = weight / scaler.scale_
            bias = bias - weight @ scaler.mean_
        return cls(weight, bias)

    def predict(self, features: Any, tokens_in: list[int], truncated: int = 0) -> Predictions:
        """Return the classes and logits ``(n, K)`` of features ``(n, d)``, with what was read for them."""
        logits: Floats = features @ self.weight.T + self.bias
        labels = logits.argmax(axis=1).tolist()
        return Predictions(labels, logits.tolist(), None, tokens_in, [0] * len(labels), truncated)

    def head(self) -> nn.Sequential:
        """Return a classification head, in float32, that gives these logits; of the kind ``linear``."""
        head = classification_head("linear", self.weight.shape[1], len(self.weight), seed=0)
        values = {"0.weight": torch.from_numpy(self.weight), "0.bias": torch.from_numpy(self.bias)}
        head.load_state_dict({name: value.float() for name, value in values.items()})
        return head.eval()

    def save(self, folder: Path) -> None:
        """Write weight and bias as safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"weight": self.weight, "bias": self.bias}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> LogisticRegression:
        """Read what `save` wrote."""
        return cls(**load_file(folder / FILE))
