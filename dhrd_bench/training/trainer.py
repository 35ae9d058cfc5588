"""A backbone and a head that are being trained, one optimiser step at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from dhrd_bench.backbones import backbone_of
from dhrd_bench.backbones.device import deterministic
from dhrd_bench.backbones.sizes import sizes_of
from dhrd_bench.contracts import Context, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.modeling.batches import packs
from dhrd_bench.modeling.encode import Encoder, Row
from dhrd_bench.modeling.heads import HeadKind, classification_head
from dhrd_bench.modeling.pooling import Pool, Pooling, make_pool, places_read, pooled
from dhrd_bench.training import parallel
from dhrd_bench.training.frozen import input_states
from dhrd_bench.training.losses import lm_loss_sum
from dhrd_bench.training.optimizer import make_optimizer
from dhrd_bench.training.pack import Pack, Size
from dhrd_bench.training.passes import Loss, Pass
from dhrd_bench.training.scores import DevScores
from dhrd_bench.training.sequences import Build, Curriculum, Sequences
from dhrd_bench.training.tuning import Tuning

_log = logging.getLogger(__name__)


class Trainer:
    """Training of the context's backbone under its budget; `fine_tune` runs the epochs, and says what the loss is.

    The backbone is altered until `close`.

    Attributes
    ----------
    train
        The sequences of each training example in the present epoch.
    dev
        Those of all dev rows, in the form of the last epoch.
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
    pooling, pool
        How the states of an input become the one that the head reads.
    pause
        Fillers behind each input.
    loss
        A contributor's own loss, which is added to the others.
    weights
        Weight of each loss term that has one.
    """

    def __init__(
        self,
        context: Context,
        task: TaskData,
        build: Build,
        weights: Mapping[str, float],
        head: HeadKind | None,
        *,
        pool: Pooling | nn.Module = "last",
        pause: int = 0,
        loss: Loss | None = None,
        curriculum: Curriculum | None = None,
    ) -> None:
        self.budget, self.backbone = context.budget, backbone_of(context)
        self.weights = {term: weight for term, weight in weights.items() if weight}
        self.pause, encoder = pause, Encoder(self.backbone, self.budget, task.card, pause=pause)
        self._sequences = Sequences(task, encoder, build, curriculum)
        self.train = self._sequences.train(0)
        self.truncated = len(encoder.truncated)
        self.dev = self._sequences.dev()
        # Embedding, blocks and LM head move together; the head is drawn on the CPU and then moved.
        self.tuning = Tuning(self.backbone, self.budget, context.stream("adapters"))
        self.head_kind = head if self.weights.get("cls") else None
        self.head: nn.Sequential | None = None
        if self.head_kind:
            seed = context.stream("head")
            self.head = classification_head(self.head_kind, self.backbone.width, len(task.card.labels), seed)
            self.head.to(self.backbone.device)
        self.pooling, self.pool = self._pool(pool if self.head else "last", context)
        self.loss = loss.to(self.backbone.device) if isinstance(loss, nn.Module) else loss
        self.steps = math.ceil(len(self.train) / self.budget.batch_size) * self.budget.epochs
        self.pack_tokens = sizes_of(self.backbone).pass_tokens(self.budget.micro_tokens)
        self.out_of_memory, self._dropout = 0, False
        self._start_recording()
        self._optimizer = make_optimizer(self.parameters, self.budget, self.backbone.device)
        warmup = min(self.budget.warmup_steps, self.steps // 2)
        self._schedule = get_cosine_schedule_with_warmup(self._optimizer, warmup, self.steps)
        torch.manual_seed(context.stream("dropout") + parallel.rank())

    def _pool(self, pool: Pooling | nn.Module, context: Context) -> tuple[Pooling | Literal["custom"], Pool]:
        if isinstance(pool, nn.Module):
            return "custom", pool.to(self.backbone.device)
        made = make_pool(pool, self.backbone.width, context.stream("pool"))
        return pool, made and made.to(self.backbone.device)

    def begin(self, epoch: int) -> None:
        """Make the sequences of an epoch, counted from 0, if they differ from epoch to epoch."""
        if self._sequences.curriculum is not None and epoch:
            self.train = self._sequences.train(epoch)

    @property
    def _modules(self) -> list[nn.Module]:
        """What is trained beside the backbone."""
        return [each for each in (self.head, self.pool, self.loss) if isinstance(each, nn.Module)]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained, the backbone's first."""
        return [*self.tuning.parameters, *(each for module in self._modules for each in module.parameters())]

    def set_dropout(self, on: bool) -> None:
        """Switch dropout on or off, in backbone and head."""
        self._dropout = on
        self.tuning.train(on)
        for module in self._modules:
            module.train(on)

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Take one optimiser step on `rows`, with dropout; return the loss before it, ``()``."""
        self.set_dropout(True)
        loss = parallel.summed(self.backward(rows), self.parameters)
        if self.budget.optimizer == "adamw":
            self._graphs.run("update", self._update)
        else:  # that of 8 bits counts its steps on the host, which no recording can
            self._update()
        self._schedule.step()
        return loss

    def _update(self) -> Tensor:
        norm = nn.utils.clip_grad_norm_(self.parameters, self.budget.max_grad_norm)
        self._optimizer.step()
        # Recorded computations add to the gradients where these lie.
        self._optimizer.zero_grad(set_to_none=not self._graphs.on)
        return norm

    def backward(self, rows: Sequence[Row]) -> Tensor:
        """Accumulate the gradient of one optimiser step over `rows`; return its loss, ``()``.

        A step that does not fit into the device's memory is done again in packs of half the size, and that is said.
        """
        while True:
            try:
                return self._backward(rows)
            except torch.OutOfMemoryError:
                if self.pack_tokens <= max(len(row.ids) for row in rows):
                    raise
                self.pack_tokens, self.out_of_memory = self.pack_tokens // 2, self.out_of_memory + 1
            _log.warning(
                "Out of memory: training goes on in packs of %s tokens, half as many.", f"{self.pack_tokens:,}"
            )
            self._start_recording()
            torch.cuda.empty_cache()

    def _backward(self, rows: Sequence[Row]) -> Tensor:
        totals: dict[str, float] = {}
        for row in rows:
            if row.classified:
                totals["cls"] = totals.get("cls", 0) + 1
            # A whole number where there are no weights: nothing is to depend on how a sum of ones is rounded.
            count = len(row.targets) if row.lm_weights is None else sum(row.lm_weights)
            totals[row.term] = totals.get(row.term, 0) + count
        scales = {term: weight / totals[term] for term, weight in self.weights.items() if totals.get(term)}
        losses = []
        for chosen in self._packs(parallel.part(rows)):
            pack = self._pack(chosen, scales)
            if self.loss is not None:
                losses.append(self._pass(pack, partial(self._own_loss, chosen, pack, 1 / len(rows))))
            elif self._records(pack):
                losses.append(self._recorded(pack))
            else:
                losses.append(self._pass(pack))
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self.backbone.device)

    def _records(self, pack: Pack) -> bool:
        # A pass that computes activations anew reads the random state, which no recording can.
        able = self._graphs.on and self.backbone.one_call and not self.budget.gradient_checkpointing
        return able and pack.recordable

    def _recorded(self, pack: Pack) -> Tensor:
        """Return the loss of a pass that is recorded for packs of about this size."""
        size = next((size for size in self._buffers if size.serves(pack.size)), pack.size.rounded())
        padded = pack.padded(size)
        buffer = self._buffers.setdefault(size, padded)
        if buffer is not padded:
            buffer.copy_(padded)
        return self._graphs.run((size, self._dropout), lambda: self._pass(buffer)).clone()

    def _pass(self, pack: Pack, loss_of: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Run a pack forward and backward; return its share of the loss."""
        with deterministic(self.backbone.device):
            with self.backbone.autocast():
                hidden = self._run(pack)
                loss = self._loss(hidden, pack) if loss_of is None else loss_of(hidden)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _start_recording(self) -> None:
        """Forget what was recorded, and any gradient."""
        self._graphs = self.backbone.graphs()
        self._buffers: dict[Size, Pack] = {}
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter) if self._graphs.on else None

    def _packs(self, rows: Sequence[Row]) -> list[list[Row]]:
        return [[rows[i] for i in pack] for pack in packs([len(row.ids) for row in rows], self.pack_tokens)]

    def _pack(self, rows: Sequence[Row], scales: Mapping[str, float]) -> Pack:
        frozen = self.tuning.frozen_blocks
        with self.backbone.autocast():
            states = input_states(self.backbone, rows, frozen) if frozen else None
        return Pack.of(rows, self.backbone, scales, states, self.pool)

    def _run(self, pack: Pack) -> Tensor:
        frozen = self.tuning.frozen_blocks
        return pack.states if frozen == self.backbone.depth else self.backbone.run(pack.states, pack.layout, frozen)

    def hidden(self, rows: Sequence[Row]) -> Tensor:
        """Return the states ``(T, d)`` of `rows`, end to end, after the final norm."""
        return self._run(self._pack(rows, {}))

    def _loss(self, hidden: Tensor, pack: Pack, logits: Tensor | None = None) -> Tensor:
        loss = hidden.new_zeros((), dtype=torch.float32)
        if len(pack.pooled):
            logits = self._logits(hidden, pack) if logits is None else logits
            targets = pack.labels if pack.soft is None else pack.soft
            loss = loss + pack.scales[0] * F.cross_entropy(logits, targets, reduction="sum")
        for number, (term, (positions, targets)) in enumerate(pack.terms.items(), 1):
            loss = loss + pack.scales[number] * self._lm(hidden[positions], targets, pack.weights.get(term))
        return loss

    def _own_loss(self, rows: Sequence[Row], pack: Pack, share: float, hidden: Tensor) -> Tensor:
        """Return the built-in losses of a pack and the contributor's, each sequence's times `share`."""
        assert self.loss is not None

        def run(others: Sequence[Row]) -> Tensor:
            return self._run(pack if others is rows else self._pack(others, {}))

        seen = Pass(rows, hidden, self._logits_of, self._lm, self._words, run)
        own = self.loss(seen)
        if own.shape != (len(rows),):
            message = f"A loss of shape {tuple(own.shape)} was returned for {len(rows)} sequences."
            raise UserError(message, "Return one number a sequence, (n,): the harness takes the step's mean.")
        # The logits that the contributor has seen, not those under another dropout mask of the head.
        logits = seen.logits[[row.classified for row in rows]] if len(pack.pooled) else None
        return self._loss(hidden, pack, logits) + share * own.float().sum()

    def _logits_of(self, rows: Sequence[Row], hidden: Sequence[Tensor]) -> Tensor:
        """Return the class logits ``(n, K)`` of sequences with these states."""
        reads = [places_read(self.pool, self.backbone, row.input_length) for row in rows]
        states = [each[at.start : at.stop] for each, at in zip(hidden, reads, strict=True)]
        return self.logits(pooled(self.pool, torch.cat(states), [len(at) for at in reads]))

    def _logits(self, hidden: Tensor, pack: Pack) -> Tensor:
        """Return the class logits ``(n, K)`` of the labelled rows of a pack."""
        lengths = [1] * len(pack.pooled) if pack.lengths is None else pack.lengths
        return self.logits(pooled(self.pool, hidden[pack.pooled], lengths))

    def logits(self, pooled: Tensor) -> Tensor:
        """Return float32 class logits ``(n, K)`` of pooled states ``(n, d)``."""
        assert self.head is not None
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled.float())
        return logits

    def _words(self, hidden: Tensor) -> Tensor:
        return self.backbone.logits(hidden).float()

    def _lm(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return lm_loss_sum(hidden, self.backbone, targets, weights)

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> DevScores:
        """Return sums of the losses over `rows`, without dropout; of the LM losses those after the input.

        The LM losses are of interest where there is no classification loss; a contributor's own is not.
        """
        self.set_dropout(False)
        scores = DevScores()
        scored = {"cls": 1.0} if self.head is not None else dict.fromkeys(self.weights, 1.0)
        sums: list[tuple[str, float, Tensor]] = []
        for chosen in self._packs([_completion(row) for row in rows]):
            pack = self._pack(chosen, scored)
            with self.backbone.autocast():
                hidden = self._run(pack)
            if len(pack.pooled):
                logits = self._logits(hidden, pack)
                expected = pack.labels if pack.soft is None else pack.soft
                losses = F.cross_entropy(logits, expected, reduction="none").double().sum()
                right = (logits.argmax(-1) == pack.labels).sum()
                sums.append(("cls", len(pack.labels), torch.stack([losses, right])))
            for term, (positions, targets) in pack.terms.items():
                weights = pack.weights.get(term)
                count = len(targets) if weights is None else float(weights.sum())
                sums.append((term, count, self._lm(hidden[positions], targets, weights)))
        # Read only now: each reading waits for the device.
        for term, count, figures in sums:
            if term == "cls":
                loss, right = figures.tolist()
                scores.add_labelled(int(count), loss, int(right))
            else:
                scores.add_targets(term, count, float(figures))
        return scores

    def close(self) -> None:
        """Put the backbone back as it was."""
        self.tuning.close()


def _completion(row: Row) -> Row:
    """Return `row` with the LM targets after the input only."""
    if row.lm is None:
        return row
    kept = replace(row, lm=(max(row.lm[0], row.input_length), row.lm[1]), lm_weights=None)
    if row.lm_weights is None:
        return kept
    return replace(kept, lm_weights=row.lm_weights[len(row.targets) - len(kept.targets) :])
