"""What the dev rows say of a model that is being trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class DevScores:
    """Sums over a set of rows.

    Attributes
    ----------
    cls
        Classification loss of the labelled rows, in nats.
    right, labelled
        Labelled rows whose class the head finds, and all of them.
    completion, completion_tokens
        Loss and weights (or count) of the LM targets after the input, by term.
    """

    cls: float = 0.0
    right: int = 0
    labelled: int = 0
    completion: dict[str, float] = field(default_factory=dict)
    completion_tokens: dict[str, float] = field(default_factory=dict)

    def add_labelled(self, count: int, loss: float, right: int) -> None:
        """Add so many labelled rows."""
        self.labelled, self.cls, self.right = self.labelled + count, self.cls + loss, self.right + right

    def add_targets(self, term: str, count: float, loss: float) -> None:
        """Add so many LM targets of a term."""
        self.completion[term] = self.completion.get(term, 0.0) + loss
        self.completion_tokens[term] = self.completion_tokens.get(term, 0) + count

    def lm_loss(self, weights: Mapping[str, float]) -> float:
        """Return the weighted sum of each term's mean."""
        return sum(
            weights[term] * self.completion[term] / count for term, count in self.completion_tokens.items() if count
        )

    def rank(self, weights: Mapping[str, float]) -> tuple[float, ...]:
        """Larger is better."""
        if self.labelled:
            return (self.right / self.labelled, -self.cls / self.labelled)
        return (-self.lm_loss(weights),)

    def figures(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Return what is told of an epoch."""
        out: dict[str, float] = {}
        if self.labelled:
            out |= {"dev_accuracy": 100 * self.right / self.labelled, "dev_loss": self.cls / self.labelled}
        if self.completion_tokens:
            out["dev_lm_loss"] = self.lm_loss(weights)
        return out
