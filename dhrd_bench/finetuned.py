"""Base class of methods that fine-tune the backbone: say which sequences and which loss weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.contracts import Context, Example, LabeledExample, Method, Predictions, TaskCard, TaskData

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dhrd_bench.modeling.encode import Encoder, Row
    from dhrd_bench.modeling.fitted import Fitted
    from dhrd_bench.modeling.heads import HeadKind
    from dhrd_bench.modeling.pooling import Pooling
    from dhrd_bench.training.passes import Pass


class FineTuned(Method):
    """A method that is defined by its training sequences.

    Subclasses implement `rows` and `weights`. They predict with the classification head unless they
    override `predict`. Saving and loading come for free. A parameter called ``head``, ``pooling`` or ``pause``
    (`PooledParams` has them) is that of the classifier.
    """

    fitted: Fitted

    @abstractmethod
    def rows(self, row: LabeledExample, encode: Encoder) -> list[Row]:
        """Return the training sequences of one example."""

    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Return the weight of each loss term; ``cls`` is the classification loss."""

    def needs_lm(self) -> bool:
        """Whether there is a loss term beside the classification loss, whatever its weight, or the card says so."""
        return super().needs_lm() or any(term != "cls" for term in self.weights())

    def rows_at(self, row: LabeledExample, encode: Encoder, epoch: int, epochs: int) -> list[Row]:
        """Return the training sequences of one example in one epoch, counted from 0; override it for a curriculum.

        dev rows are in the form of the last epoch.
        """
        return self.rows(row, encode)

    def pool(self, context: Context) -> Pooling | nn.Module:
        """Return how the states of an input become the one that the head reads; see `fine_tune`."""
        pooling: Pooling = getattr(self.params, "pooling", "last")
        return pooling

    def loss(self, seen: Pass) -> Tensor:
        """Return a loss ``(n,)`` for each sequence of a pass; override it to have one beside those of `weights`.

        It may depend on that sequence and the one beside it alone. The mean over a step's sequences is added.
        """
        raise NotImplementedError

    def prepare(self, task: TaskData, context: Context) -> TaskData:
        """Return the rows to learn from; an ablation may alter them here."""
        return task

    def fit(self, task: TaskData, context: Context) -> None:
        """Fine-tune on `rows` with `weights`."""
        from dhrd_bench.training.loop import fine_tune

        weights = self.weights()
        head: HeadKind | None = getattr(self.params, "head", "mlp") if weights.get("cls") else None
        cls = type(self)
        self.fitted = fine_tune(
            self.prepare(task, context),
            context,
            self.rows,
            weights=weights,
            head=head,
            pool=self.pool(context),
            pause=getattr(self.params, "pause", 0),
            # Sequences that stay are made once, and a step without a loss of one's own may be recorded.
            loss=None if cls.loss is FineTuned.loss else self.loss,
            curriculum=None if cls.rows_at is FineTuned.rows_at else self.rows_at,
        )

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

        pool = self.pool(context)
        own = None if isinstance(pool, str) else pool
        self.fitted = Fitted.load(folder, task, backbone_of(context), context.budget, own)
