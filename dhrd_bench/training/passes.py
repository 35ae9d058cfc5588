"""What a loss of a contributor's own is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from dhrd_bench.modeling.encode import Row


@dataclass(eq=False)
class Pass:
    """A forward pass, with dropout, over some of the sequences of an optimiser step.

    It is the pass that the built-in losses are computed from, so what it tells costs no second one.

    Attributes
    ----------
    rows
        The sequences; which ones go into one pass is a matter of memory and may not matter to a loss.
    states
        ``(T, d)`` states after the final norm, end to end.
    """

    rows: Sequence[Row]
    states: Tensor
    _logits: Callable[[Sequence[Row], Sequence[Tensor]], Tensor]
    _lm: Callable[[Tensor, Tensor], Tensor]
    _words: Callable[[Tensor], Tensor]
    _run: Callable[[Sequence[Row]], Tensor]

    @cached_property
    def hidden(self) -> tuple[Tensor, ...]:
        """States of each sequence, ``(length, d)``."""
        return torch.split(self.states, [len(row.ids) for row in self.rows])

    @cached_property
    def logits(self) -> Tensor:
        """Float32 class logits ``(n, K)`` of each sequence's input."""
        return self._logits(self.rows, self.hidden)

    @cached_property
    def cls_losses(self) -> Tensor:
        """Cross-entropy ``(n,)`` with each sequence's soft targets or label, in nats; 0 where it has neither."""
        losses = torch.zeros(len(self.rows), device=self.states.device)
        for number, row in enumerate(self.rows):
            if row.classified:
                target = row.label if row.soft is None else row.soft
                losses[number] = F.cross_entropy(self.logits[number], torch.tensor(target, device=losses.device))
        return losses

    @cached_property
    def lm_losses(self) -> Tensor:
        """Next-token cross-entropy ``(n,)`` of each sequence, a sum over its targets, in nats; weights are left out."""
        losses = []
        for row, states in zip(self.rows, self._predicting, strict=True):
            at = row.targets
            targets = torch.tensor(row.ids[at.start : at.stop], dtype=torch.long, device=states.device)
            losses.append(self._lm(states, targets) if at else states.new_zeros(()).float())
        return torch.stack(losses)

    @property
    def lm_logits(self) -> Iterator[Tensor]:
        """Float32 next-token logits ``(m, V)`` at the m LM targets of each sequence, made one sequence at a time."""
        return map(self._words, self._predicting)

    def again(self) -> Pass:
        """Return another pass over the same sequences, with dropout of its own."""
        return self.over(self.rows)

    def over(self, rows: Sequence[Row]) -> Pass:
        """Return a pass over other sequences, such as those `Row.beside` these, with dropout of its own."""
        return replace(self, rows=rows, states=self._run(rows))

    @property
    def _predicting(self) -> list[Tensor]:
        """States ``(m, d)`` of each sequence from which its LM targets are predicted."""
        pairs = zip(self.rows, self.hidden, strict=True)
        return [states[max(0, row.targets.start - 1) : max(0, row.targets.stop - 1)] for row, states in pairs]


Loss = Callable[[Pass], Tensor]
"""A loss for each sequence of a pass, ``(n,)``, which depends on it and what is beside it; the step's mean is added."""
