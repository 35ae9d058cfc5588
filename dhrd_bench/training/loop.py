"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dhrd_bench.backbones.device import synchronise
from dhrd_bench.contracts import Context, TaskCard, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.modeling.batches import epoch_batches
from dhrd_bench.modeling.fitted import Fitted
from dhrd_bench.modeling.heads import HeadKind
from dhrd_bench.modeling.pooling import Pooling
from dhrd_bench.training.passes import Loss
from dhrd_bench.training.sequences import Build, Curriculum
from dhrd_bench.training.trainer import Trainer


def fine_tune(
    task: TaskData,
    context: Context,
    build: Build,
    *,
    weights: Mapping[str, float],
    head: HeadKind | None = "mlp",
    pool: Pooling | nn.Module = "last",
    pause: int = 0,
    loss: Loss | None = None,
    curriculum: Curriculum | None = None,
) -> Fitted:
    """Fine-tune the context's backbone under its budget.

    The loss of a step is ``weights["cls"]`` times the mean classification loss over the step's labelled
    rows, plus for every other term its weight times the mean next-token loss over the step's targets
    of that term (weighted, where a row says so), plus the mean of `loss` over the step's sequences. Sums are
    divided by the step's totals, so that neither forward passes (`packs`) nor their size have a say in the gradient.

    After each epoch the dev rows are scored: by accuracy, then loss, if there is a classification
    loss; otherwise by the LM losses after the input, each a mean of its own, with their weights. The
    best epoch's weights are kept.

    Parameters
    ----------
    task
        Train and dev rows.
    context
        Backbone, budget, seeds; `Context.train_log` receives what training cost.
    build
        Turns an example into its training sequences.
    weights
        ``{"cls": beta, "lm": alpha}`` for the paper's L = beta L_cls + alpha L_reason; any other term
        that `build` names.
    head
        Kind of classification head; None if there is no ``cls`` term.
    pool
        How the states of an input become the one that the head reads: ``last`` (the token that has read the whole
        input), ``mean``, ``attention`` (one learned query), or a module from float32 states ``(T, d)`` of inputs end to
        end and their lengths to ``(n, d)``. What follows the input is never among them.
    pause
        Fillers behind each input, the last of which is then what ``last`` reads (Goyal et al. 2023, arXiv 2310.02226).
        They are no LM targets.
    loss
        A loss of your own for each sequence of a `Pass`; the parameters of a module are trained with the others.
    curriculum
        Turns an example into the sequences of one epoch, in place of `build`; dev rows are those of the last one.

    Raises
    ------
    UserError
        If there are no training rows.
    FloatingPointError
        If the loss stops being finite.
    """
    if not task.train:
        raise UserError(f"Task {task.card.name!r} has no training rows.", "Raise train_rows, or check the rationales.")
    trainer = Trainer(
        context, task, build, weights, head, pool=pool, pause=pause, loss=loss, curriculum=curriculum
    )  # fmt: skip
    try:
        return run_epochs(trainer, task.card, context)
    finally:
        trainer.close()


def run_epochs(trainer: Trainer, card: TaskCard, context: Context) -> Fitted:
    """Run the epochs of the trainer's budget and return the best one's weights, for the task of `card`.

    The context is told of each step, and its `train_log` of what the whole cost.
    """
    budget, started, tokens, step = trainer.budget, time.perf_counter(), 0, 0
    best: _Best | None = None
    epochs: list[dict[str, float]] = []
    for epoch in range(budget.epochs):
        trainer.begin(epoch)
        losses: list[float] = []
        for batch in epoch_batches(len(trainer.train), budget.batch_size, context.stream("order"), epoch):
            rows = [row for index in batch for row in trainer.train[index]]
            losses.append(_finite(trainer.step(rows)))
            step, tokens = step + 1, tokens + sum(len(row.ids) for row in rows)
            speed = tokens / (time.perf_counter() - started)
            context.progress("train", step, trainer.steps, {"loss": losses[-1], "tok/s": speed})
        figures = {"loss": sum(losses) / len(losses)}
        if trainer.dev:
            scores = trainer.evaluate(trainer.dev)
            figures |= (told := scores.figures(trainer.weights))
            context.progress("dev", epoch + 1, budget.epochs, told)
            rank = scores.rank(trainer.weights)
            if best is None or rank > best.rank:
                best = _Best(rank, epoch + 1, [parameter.detach().clone() for parameter in trainer.parameters])
        epochs.append(figures)
    if best is not None:
        best.restore(trainer.parameters)
    trainer.set_dropout(False)
    weights, adapters = trainer.tuning.result()
    synchronise(str(trainer.backbone.device))
    seconds = time.perf_counter() - started
    context.train_log |= {
        "rows": len(trainer.train),
        "steps": trainer.steps,
        "tokens": tokens,
        "seconds": seconds,
        "epochs": epochs,
        "best_epoch": best.epoch if best else budget.epochs,
        "trainable_parameters": sum(parameter.numel() for parameter in trainer.parameters),
        "truncated": trainer.truncated,
    }
    if trainer.pack_tokens != budget.micro_tokens:
        context.train_log |= {"pack_tokens": trainer.pack_tokens, "out_of_memory": trainer.out_of_memory}
    return Fitted(
        card, weights, adapters, trainer.head_kind, trainer.head, trainer.pooling, trainer.pool, trainer.pause
    )  # fmt: skip


def _finite(loss: Tensor) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss became {value}; lower the learning rate")
    return value


@dataclass(frozen=True)
class _Best:
    """The best epoch so far, counted from 1: how good it is and the values of all that is trained."""

    rank: tuple[float, ...]
    epoch: int
    values: list[Tensor]

    @torch.no_grad()
    def restore(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, value in zip(parameters, self.values, strict=True):
            parameter.copy_(value)
