"""A backbone and a head that are being trained, one optimiser step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from dhrd_bench.backbones import backbone_of
from dhrd_bench.backbones.device import deterministic
from dhrd_bench.backbones.graphs import Graphs
from dhrd_bench.backbones.sizes import sizes_of
from dhrd_bench.contracts import Budget, Context, LabeledExample, TaskData
from dhrd_bench.modeling.batches import packs
from dhrd_bench.modeling.encode import Encoder, Row
from dhrd_bench.modeling.heads import HeadKind, classification_head
from dhrd_bench.training import parallel
from dhrd_bench.training.frozen import input_states
from dhrd_bench.training.losses import lm_loss_sum
from dhrd_bench.training.pack import Pack, Size
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
    pack_tokens, out_of_memory
        Tokens of a forward pass; how often they were halved for want of memory.
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
        self.pack_tokens = sizes_of(self.backbone).pass_tokens(self.budget.micro_tokens)
        self.out_of_memory, self._dropout = 0, False
        self._start_recording()
        self._optimiser = _adamw(self.parameters, self.budget, self.backbone.device)
        warmup = min(self.budget.warmup_steps, self.steps // 2)
        self._schedule = get_cosine_schedule_with_warmup(self._optimiser, warmup, self.steps)
        torch.manual_seed(context.stream("dropout") + parallel.rank())

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained, the head's last."""
        return [*self.tuning.parameters, *(self.head.parameters() if self.head else [])]

    def set_dropout(self, on: bool) -> None:
        """Switch dropout on or off, in backbone and head."""
        self._dropout = on
        self.tuning.train(on)
        if self.head:
            self.head.train(on)

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Take one optimiser step on `rows`, with dropout; return the loss before it, ``()``."""
        self.set_dropout(True)
        loss = parallel.summed(self.backward(rows), self.parameters)
        self._graphs.run("update", self._update)
        self._schedule.step()
        return loss

    def _update(self) -> Tensor:
        norm = nn.utils.clip_grad_norm_(self.parameters, self.budget.max_grad_norm)
        self._optimiser.step()
        # Recorded computations add to the gradients where these lie.
        self._optimiser.zero_grad(set_to_none=not self._graphs.on)
        return norm

    def backward(self, rows: Sequence[Row]) -> Tensor:
        """Accumulate the gradient of one optimiser step over `rows`; return its loss, ``()``.

        A step that does not fit into the device's memory is done again in packs of half the size.
        """
        while True:
            try:
                return self._backward(rows)
            except torch.OutOfMemoryError:
                if self.pack_tokens <= max(len(row.ids) for row in rows):
                    raise
                self.pack_tokens, self.out_of_memory = self.pack_tokens // 2, self.out_of_memory + 1
            self._start_recording()
            torch.cuda.empty_cache()

    def _backward(self, rows: Sequence[Row]) -> Tensor:
        totals: dict[str, int] = {}
        for row in rows:
            if row.label is not None:
                totals["cls"] = totals.get("cls", 0) + 1
            totals[row.term] = totals.get(row.term, 0) + len(row.targets)
        scales = {term: weight / totals[term] for term, weight in self.weights.items() if totals.get(term)}
        losses = []
        for chosen in self._packs(parallel.part(rows)):
            pack = self._pack(chosen, scales)
            # A pass that computes activations anew reads the random state, which no recording can.
            if self._graphs.on and self.backbone.one_call and not self.budget.gradient_checkpointing:
                losses.append(self._recorded(pack))
            else:
                losses.append(self._pass(pack))
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self.backbone.device)

    def _recorded(self, pack: Pack) -> Tensor:
        """Return the loss of a pass that is recorded for packs of about this size."""
        size = next((size for size in self._buffers if size.serves(pack.size)), pack.size.rounded())
        padded = pack.padded(size)
        buffer = self._buffers.setdefault(size, padded)
        if buffer is not padded:
            buffer.copy_(padded)
        return self._graphs.run((size, self._dropout), lambda: self._pass(buffer)).clone()

    def _pass(self, pack: Pack) -> Tensor:
        """Run a pack forward and backward; return its share of the loss."""
        with deterministic(self.backbone.device):
            with self.backbone.autocast():
                loss = self._loss(self._run(pack), pack)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _start_recording(self) -> None:
        """Forget what was recorded, and any gradient."""
        self._graphs: Graphs[Tensor] = Graphs(self.backbone.device)
        self._buffers: dict[Size, Pack] = {}
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter) if self._graphs.on else None

    def _packs(self, rows: Sequence[Row]) -> list[list[Row]]:
        return [[rows[i] for i in pack] for pack in packs([len(row.ids) for row in rows], self.pack_tokens)]

    def _pack(self, rows: Sequence[Row], scales: Mapping[str, float]) -> Pack:
        frozen = self.tuning.frozen_blocks
        with self.backbone.autocast():
            states = input_states(self.backbone, rows, frozen, self.pack_tokens) if frozen else None
        return Pack.of(rows, self.backbone, scales, states)

    def _run(self, pack: Pack) -> Tensor:
        frozen = self.tuning.frozen_blocks
        return pack.states if frozen == self.backbone.depth else self.backbone.run(pack.states, pack.layout, frozen)

    def hidden(self, rows: Sequence[Row]) -> Tensor:
        """Return the states ``(T, d)`` of `rows`, end to end, after the final norm."""
        return self._run(self._pack(rows, {}))

    def _loss(self, hidden: Tensor, pack: Pack) -> Tensor:
        loss = hidden.new_zeros((), dtype=torch.float32)
        if len(pack.pooled):
            summed = F.cross_entropy(self.logits(hidden[pack.pooled]), pack.labels, reduction="sum")
            loss = loss + pack.scales[0] * summed
        for number, (positions, targets) in enumerate(pack.terms.values(), 1):
            loss = loss + pack.scales[number] * self._lm(hidden[positions], targets)
        return loss

    def logits(self, pooled: Tensor) -> Tensor:
        """Return float32 class logits ``(n, K)`` of pooled states ``(n, d)``."""
        assert self.head is not None
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled.float())
        return logits

    def _lm(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return lm_loss_sum(hidden, self.backbone, targets)

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> DevScores:
        """Return sums of the losses over `rows`, without dropout; of the LM losses those after the input.

        The LM losses are of interest where there is no classification loss.
        """
        self.set_dropout(False)
        scores = DevScores()
        scored = {"cls": 1.0} if self.head is not None else dict.fromkeys(self.weights, 1.0)
        sums: list[tuple[str, int, Tensor]] = []
        for chosen in self._packs([_completion(row) for row in rows]):
            pack = self._pack(chosen, scored)
            with self.backbone.autocast():
                hidden = self._run(pack)
            if len(pack.pooled):
                logits = self.logits(hidden[pack.pooled])
                losses = F.cross_entropy(logits, pack.labels, reduction="none").double().sum()
                right = (logits.argmax(-1) == pack.labels).sum()
                sums.append(("cls", len(pack.pooled), torch.stack([losses, right])))
            for term, (positions, targets) in pack.terms.items():
                sums.append((term, len(targets), self._lm(hidden[positions], targets)))
        # Read only now: each reading waits for the device.
        for term, count, figures in sums:
            if term == "cls":
                loss, right = figures.tolist()
                scores.add_labelled(count, loss, int(right))
            else:
                scores.add_targets(term, count, float(figures))
        return scores

    def close(self) -> None:
        """Put the backbone back as it was."""
        self.tuning.close()


def _completion(row: Row) -> Row:
    """Return `row` with the LM targets after the input only."""
    return row if row.lm is None else replace(row, lm=(max(row.lm[0], row.input_length), row.lm[1]))


def _adamw(parameters: list[nn.Parameter], budget: Budget, device: torch.device) -> torch.optim.AdamW:
    """AdamW with no decay on norms and biases, as Hugging Face's trainer has it."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": budget.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    rate: Any = budget.learning_rate
    options: dict[str, Any] = {}
    if device.type == "cuda":
        # A recorded step reads its rate from the device.
        rate, options = torch.tensor(rate, device=device), {"fused": True, "capturable": True}
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, **options)
