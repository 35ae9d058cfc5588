"""Base class of methods that fine-tune the backbone: say which sequences and which loss weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.contracts import Context, Example, LabeledExample, Method, Predictions, TaskCard, TaskData

if TYPE_CHECKING:
    from dhrd_bench.modeling.encode import Encoder, Row
    from dhrd_bench.modeling.fitted import Fitted
    from dhrd_bench.modeling.heads import HeadKind


class FineTuned(Method):
    """A method that is defined by its training sequences.

    Subclasses implement `rows` and `weights`. They predict with the classification head unless they
    override `predict`. Saving and loading come for free.
    """

    fitted: Fitted

    @abstractmethod
    def rows(self, row: LabeledExample, encode: Encoder) -> list[Row]:
        """Return the training sequences of one example."""

    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Return the weight of each loss term; ``cls`` is the classification loss."""

    def prepare(self, task: TaskData, context: Context) -> TaskData:
        """Return the rows to learn from; an ablation may alter them here."""
        return task

    def fit(self, task: TaskData, context: Context) -> None:
        """Fine-tune on `rows` with `weights`."""
        from dhrd_bench.training.loop import fine_tune

        weights = self.weights()
        head: HeadKind | None = getattr(self.params, "head", "mlp") if weights.get("cls") else None
        self.fitted = fine_tune(self.prepare(task, context), context, self.rows, weights=weights, head=head)

    def predict(self, examples: Sequence[Example], context: Context) -> Predictions:
        """Classify from the pooled state of each input."""
        from dhrd_bench.inference.classification import classify

        return classify(self.fitted, examples, context)

    def save(self, folder: Path) -> None:
        """Write the fitted weights as safetensors."""
        self.fitted.save(folder)

    def load(self, folder: Path, task: TaskCard, context: Context) -> None:
        """Read what `save` wrote."""
        from dhrd_bench.backbones import backbone_of
        from dhrd_bench.modeling.fitted import Fitted

        self.fitted = Fitted.load(folder, task, backbone_of(context), context.budget)
