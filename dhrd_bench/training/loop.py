"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from dhrd_bench.backbones import Backbone, backbone_of
from dhrd_bench.contracts import Context, LabeledExample, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.modeling.batches import epoch_batches, packs
from dhrd_bench.modeling.encode import Encoder, Row
from dhrd_bench.modeling.fitted import Fitted
from dhrd_bench.modeling.heads import HeadKind, classification_head
from dhrd_bench.training.frozen import input_states
from dhrd_bench.training.losses import lm_loss_sum
from dhrd_bench.training.tuning import Tuning

Build = Callable[[LabeledExample, Encoder], list[Row]]


def fine_tune(
    task: TaskData, context: Context, build: Build, *, weights: Mapping[str, float], head: HeadKind | None = "mlp"
) -> Fitted:
    """Fine-tune the context's backbone under its budget.

    The loss of a step is ``weights["cls"]`` times the mean classification loss over the step's labelled
    rows, plus for every other term its weight times the mean next-token loss over the step's targets
    of that term. Sums are divided by the step's totals, so that neither forward passes (`packs`) nor
    their size have a say in the gradient.

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

    Raises
    ------
    UserError
        If there are no training rows.
    FloatingPointError
        If the loss stops being finite.
    """
    if not task.train:
        raise UserError(f"Task {task.card.name!r} has no training rows.", "Raise train_rows, or check the rationales.")
    trainer = _Trainer(context, task, build, dict(weights), head)
    try:
        return trainer.run()
    finally:
        trainer.tuning.close()


@dataclass(slots=True)
class _Scores:
    """Sums over a set of rows."""

    cls: float = 0.0
    right: int = 0
    labelled: int = 0
    completion: dict[str, float] = field(default_factory=dict)
    completion_tokens: dict[str, int] = field(default_factory=dict)

    def lm_loss(self, weights: Mapping[str, float]) -> float:
        """Return the weighted sum of each term's mean."""
        return sum(weights[term] * self.completion[term] / count for term, count in self.completion_tokens.items())

    def rank(self, weights: Mapping[str, float]) -> tuple[float, ...]:
        """Larger is better."""
        if self.labelled:
            return (self.right / self.labelled, -self.cls / self.labelled)
        return (-self.lm_loss(weights),)

    def figures(self, weights: Mapping[str, float]) -> dict[str, float]:
        out: dict[str, float] = {}
        if self.labelled:
            out |= {"dev_accuracy": 100 * self.right / self.labelled, "dev_loss": self.cls / self.labelled}
        if self.completion_tokens:
            out["dev_lm_loss"] = self.lm_loss(weights)
        return out


class _Trainer:
    def __init__(
        self, context: Context, task: TaskData, build: Build, weights: dict[str, float], head: HeadKind | None
    ) -> None:
        self.context, self.budget, self.backbone = context, context.budget, backbone_of(context)
        self.task, self.weights = task, {term: weight for term, weight in weights.items() if weight}
        encoder = Encoder(self.backbone, self.budget, task.card)
        self.train = [build(example, encoder) for example in task.train]
        self.truncated = len(encoder.truncated)
        self.dev = [row for example in task.dev for row in build(example, encoder)]
        # Embedding, blocks and LM head move together; the head is drawn on the CPU and then moved.
        self.tuning = Tuning(self.backbone, self.budget, context.stream("adapters"))
        self.head_kind = head if self.weights.get("cls") else None
        self.head: nn.Sequential | None = None
        if self.head_kind:
            seed = context.stream("head")
            self.head = classification_head(self.head_kind, self.backbone.width, len(task.card.labels), seed)
            self.head.to(self.backbone.device)
        torch.manual_seed(context.stream("dropout"))

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.tuning.parameters, *(self.head.parameters() if self.head else [])]

    def run(self) -> Fitted:
        budget, started, tokens = self.budget, time.perf_counter(), 0
        per_epoch = math.ceil(len(self.train) / budget.batch_size)
        total = per_epoch * budget.epochs
        optimiser = _adamw(self.parameters, budget.learning_rate, budget.weight_decay)
        schedule = get_cosine_schedule_with_warmup(optimiser, min(budget.warmup_steps, total // 2), total)
        best: tuple[tuple[float, ...], int, list[Tensor]] | None = None
        epochs: list[dict[str, float]] = []
        step = 0
        for epoch in range(budget.epochs):
            losses: list[float] = []
            for batch in epoch_batches(len(self.train), budget.batch_size, self.context.stream("order"), epoch):
                rows = [row for index in batch for row in self.train[index]]
                self._dropout(True)
                losses.append(self._step(rows))
                nn.utils.clip_grad_norm_(self.parameters, budget.max_grad_norm)
                optimiser.step()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
                step, tokens = step + 1, tokens + sum(len(row.ids) for row in rows)
                speed = tokens / (time.perf_counter() - started)
                self.context.progress("train", step, total, {"loss": losses[-1], "tok/s": speed})
            figures = {"loss": sum(losses) / len(losses)}
            if self.dev:
                scores = self._evaluate(self.dev)
                figures |= scores.figures(self.weights)
                if best is None or scores.rank(self.weights) > best[0]:
                    best = (scores.rank(self.weights), epoch, [p.detach().clone() for p in self.parameters])
            epochs.append(figures)
        if best is not None:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, best[2], strict=True):
                    parameter.copy_(value)
        self._dropout(False)
        weights, adapters = self.tuning.result()
        seconds = time.perf_counter() - started
        self.context.train_log |= {
            "rows": len(self.train),
            "steps": total,
            "tokens": tokens,
            "seconds": seconds,
            "epochs": epochs,
            "best_epoch": best[1] + 1 if best else budget.epochs,
            "trainable_parameters": sum(p.numel() for p in self.parameters),
            "truncated": self.truncated,
        }
        return Fitted(self.task.card, weights, adapters, self.head_kind, self.head)

    def _dropout(self, on: bool) -> None:
        self.tuning.train(on)
        if self.head:
            self.head.train(on)

    def _step(self, rows: list[Row]) -> float:
        """Accumulate the gradient of one optimiser step; return its loss."""
        totals: dict[str, int] = {}
        for row in rows:
            if row.label is not None:
                totals["cls"] = totals.get("cls", 0) + 1
            totals[row.term] = totals.get(row.term, 0) + len(row.targets)
        loss_sum = 0.0
        for pack in packs([len(row.ids) for row in rows], self.budget.micro_tokens):
            chosen = [rows[i] for i in pack]
            with _autocast(self.backbone):
                hidden = self._hidden(chosen)
                loss = self._loss(hidden, chosen, totals)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        if not math.isfinite(loss_sum):
            raise FloatingPointError(f"the loss became {loss_sum}; lower the learning rate")
        return loss_sum

    def _hidden(self, rows: Sequence[Row]) -> Tensor:
        frozen = self.tuning.frozen_blocks
        states = input_states(self.backbone, rows, frozen, self.budget.micro_tokens)
        if frozen == self.backbone.depth:
            return states
        return self.backbone.hidden(states, [len(row.ids) for row in rows], frozen)

    def _loss(self, hidden: Tensor, rows: Sequence[Row], totals: dict[str, int]) -> Tensor:
        offsets = _offsets(rows)
        loss = hidden.new_zeros((), dtype=torch.float32)
        labelled = [
            (o + row.input_length - 1, row.label) for o, row in zip(offsets, rows, strict=True) if row.label is not None
        ]
        if labelled and self.head is not None:
            logits = self._logits(hidden[[position for position, _ in labelled]])
            labels = torch.tensor([label for _, label in labelled], device=hidden.device)
            loss = loss + self.weights["cls"] / totals["cls"] * F.cross_entropy(logits, labels, reduction="sum")
        for term in {row.term for row in rows} & set(self.weights):
            pairs = [
                (o + t - 1, row.ids[t])
                for o, row in zip(offsets, rows, strict=True)
                if row.term == term
                for t in row.targets
            ]
            if pairs:
                loss = loss + self.weights[term] / totals[term] * self._lm(hidden, pairs)
        return loss

    def _logits(self, pooled: Tensor) -> Tensor:
        assert self.head is not None
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled.float())
        return logits

    def _lm(self, hidden: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
        positions = torch.tensor([position for position, _ in pairs], device=hidden.device)
        targets = torch.tensor([token for _, token in pairs], device=hidden.device)
        return lm_loss_sum(hidden[positions], self.backbone.head_weight, targets)

    @torch.no_grad()
    def _evaluate(self, rows: list[Row]) -> _Scores:
        self._dropout(False)
        scores = _Scores()
        for pack in packs([len(row.ids) for row in rows], self.budget.micro_tokens):
            chosen = [rows[i] for i in pack]
            with _autocast(self.backbone):
                hidden = self._hidden(chosen)
            offsets = _offsets(chosen)
            for offset, row in zip(offsets, chosen, strict=True):
                if row.label is not None and self.head is not None:
                    logits = self._logits(hidden[offset + row.input_length - 1][None])
                    scores.cls += float(F.cross_entropy(logits, torch.tensor([row.label], device=hidden.device)))
                    scores.right += int(logits.argmax()) == row.label
                    scores.labelled += 1
            for term in {row.term for row in chosen} & set(self.weights) if self.head is None else ():
                pairs = [
                    (o + t - 1, r.ids[t])
                    for o, r in zip(offsets, chosen, strict=True)
                    if r.term == term
                    for t in r.targets
                    if t >= r.input_length
                ]
                if pairs:
                    scores.completion[term] = scores.completion.get(term, 0.0) + float(self._lm(hidden, pairs))
                    scores.completion_tokens[term] = scores.completion_tokens.get(term, 0) + len(pairs)
        return scores


def _offsets(rows: Sequence[Row]) -> list[int]:
    offsets, start = [], 0
    for row in rows:
        offsets.append(start)
        start += len(row.ids)
    return offsets


def _autocast(backbone: Backbone) -> AbstractContextManager[Any]:
    if backbone.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(backbone.device.type, dtype=backbone.dtype)


def _adamw(parameters: list[nn.Parameter], learning_rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW with no decay on norms and biases, as Hugging Face's trainer has it."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)
