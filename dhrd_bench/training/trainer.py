"""A backbone and a head that are being trained, one optimiser step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from dhrd_bench.backbones import backbone_of
from dhrd_bench.contracts import Context, LabeledExample, TaskData
from dhrd_bench.modeling.batches import packs
from dhrd_bench.modeling.encode import Encoder, Row
from dhrd_bench.modeling.heads import HeadKind, classification_head
from dhrd_bench.training.frozen import input_states
from dhrd_bench.training.losses import lm_loss_sum
from dhrd_bench.training.scores import DevScores
from dhrd_bench.training.tuning import Tuning

Build = Callable[[LabeledExample, Encoder], list[Row]]
"""Turns an example into its training sequences."""


class Trainer:
    """Training of the context's backbone under its budget; `fine_tune` runs the epochs, and says what the loss is.

    The backbone is altered until `close`.

    Attributes
    ----------
    train
        The sequences of each training example.
    dev
        Those of all dev rows.
    truncated
        How many inputs had their passage cut.
    steps
        Optimiser steps of the whole training, over which the learning rate falls.
    tuning
        What of the backbone is trained.
    head_kind, head
        The classification head; None if there is no classification loss.
    weights
        Weight of each loss term that has one.
    """

    def __init__(
        self, context: Context, task: TaskData, build: Build, weights: Mapping[str, float], head: HeadKind | None
    ) -> None:
        self.budget, self.backbone = context.budget, backbone_of(context)
        self.weights = {term: weight for term, weight in weights.items() if weight}
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
        self.steps = math.ceil(len(self.train) / self.budget.batch_size) * self.budget.epochs
        self._optimiser = _adamw(self.parameters, self.budget.learning_rate, self.budget.weight_decay)
        warmup = min(self.budget.warmup_steps, self.steps // 2)
        self._schedule = get_cosine_schedule_with_warmup(self._optimiser, warmup, self.steps)
        torch.manual_seed(context.stream("dropout"))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained, the head's last."""
        return [*self.tuning.parameters, *(self.head.parameters() if self.head else [])]

    def set_dropout(self, on: bool) -> None:
        """Switch dropout on or off, in backbone and head."""
        self.tuning.train(on)
        if self.head:
            self.head.train(on)

    def step(self, rows: Sequence[Row]) -> float:
        """Take one optimiser step on `rows`, with dropout; return the loss before it.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        """
        self.set_dropout(True)
        loss = self.backward(rows)
        nn.utils.clip_grad_norm_(self.parameters, self.budget.max_grad_norm)
        self._optimiser.step()
        self._schedule.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss

    def backward(self, rows: Sequence[Row]) -> float:
        """Accumulate the gradient of one optimiser step over `rows`; return its loss.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        """
        totals: dict[str, int] = {}
        for row in rows:
            if row.label is not None:
                totals["cls"] = totals.get("cls", 0) + 1
            totals[row.term] = totals.get(row.term, 0) + len(row.targets)
        loss_sum = 0.0
        for pack in packs([len(row.ids) for row in rows], self.budget.micro_tokens):
            chosen = [rows[i] for i in pack]
            with self.backbone.autocast():
                hidden = self.hidden(chosen)
                loss = self._loss(hidden, chosen, totals)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        if not math.isfinite(loss_sum):
            raise FloatingPointError(f"the loss became {loss_sum}; lower the learning rate")
        return loss_sum

    def hidden(self, rows: Sequence[Row]) -> Tensor:
        """Return the states ``(T, d)`` of `rows`, end to end, after the final norm."""
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
            logits = self.logits(hidden[[position for position, _ in labelled]])
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

    def logits(self, pooled: Tensor) -> Tensor:
        """Return float32 class logits ``(n, K)`` of pooled states ``(n, d)``."""
        assert self.head is not None
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled.float())
        return logits

    def _lm(self, hidden: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
        positions = torch.tensor([position for position, _ in pairs], device=hidden.device)
        targets = torch.tensor([token for _, token in pairs], device=hidden.device)
        return lm_loss_sum(hidden[positions], self.backbone, targets)

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> DevScores:
        """Return sums of the losses over `rows`, without dropout; of the LM losses those after the input."""
        self.set_dropout(False)
        scores = DevScores()
        for pack in packs([len(row.ids) for row in rows], self.budget.micro_tokens):
            chosen = [rows[i] for i in pack]
            with self.backbone.autocast():
                hidden = self.hidden(chosen)
            offsets = _offsets(chosen)
            for offset, row in zip(offsets, chosen, strict=True):
                if row.label is not None and self.head is not None:
                    logits = self.logits(hidden[offset + row.input_length - 1][None])
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

    def close(self) -> None:
        """Put the backbone back as it was."""
        self.tuning.close()


def _offsets(rows: Sequence[Row]) -> list[int]:
    offsets, start = [], 0
    for row in rows:
        offsets.append(start)
        start += len(row.ids)
    return offsets


def _adamw(parameters: list[nn.Parameter], learning_rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW with no decay on norms and biases, as Hugging Face's trainer has it."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)
