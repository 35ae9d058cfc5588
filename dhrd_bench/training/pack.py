"""A pack of training sequences as tensors: what a forward pass reads and which of its positions are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.layout import Layout, fillings, sent
from dhrd_bench.modeling.encode import Row

IGNORED = -100
"""The target that no loss counts: `torch.nn.functional.cross_entropy` leaves it out by default."""

TOKENS, SEQUENCES, TARGETS = 512, 16, 256
"""What the tokens, sequences and LM targets of a padded pack are multiples of."""


@dataclass(frozen=True)
class Size:
    """What has to be equal for one recorded computation to serve for two packs.

    Attributes
    ----------
    tokens, sequences, longest
        Of the sequences: tokens of all, how many, and a bound on the tokens of one.
    pooled
        Labelled rows.
    targets
        LM targets of each term.
    """

    tokens: int
    sequences: int
    longest: int
    pooled: int
    targets: tuple[tuple[str, int], ...]

    def rounded(self) -> Size:
        """Return the next larger one of few."""
        tokens, longest = _up(self.tokens, TOKENS), _up(self.longest, TOKENS)
        sequences = self.sequences + fillings(tokens - self.tokens, longest)
        targets = tuple((term, _up(count, TARGETS)) for term, count in self.targets)
        return Size(tokens, _up(sequences, SEQUENCES), longest, _up(self.pooled, SEQUENCES), targets)

    def serves(self, other: Size) -> bool:
        """Whether a pack of the size `other` can be filled up to this one, at less than twice the work."""
        return (
            other.tokens <= self.tokens < 2 * other.tokens
            and other.longest <= self.longest
            and other.sequences + fillings(self.tokens - other.tokens, self.longest) <= self.sequences
            and other.pooled <= self.pooled
            and bool(other.pooled) == bool(self.pooled)
            and [term for term, _ in other.targets] == [term for term, _ in self.targets]
            and all(a <= b for (_, a), (_, b) in zip(other.targets, self.targets, strict=True))
        )


@dataclass(frozen=True, eq=False)
class Pack:
    """Sequences end to end.

    Attributes
    ----------
    states
        ``(T,)`` token ids, or ``(T, d)`` what the trained blocks take in.
    layout
        How the sequences lie.
    pooled, labels
        ``(n,)`` last position of the input and class of the labelled rows.
    terms
        For each LM term the positions ``(m,)`` from which its targets ``(m,)`` are predicted.
    scales
        ``(1 + number of terms,)`` float32: what the summed classification loss and each term's sum are
        multiplied by.
    """

    states: Tensor
    layout: Layout
    pooled: Tensor
    labels: Tensor
    terms: dict[str, tuple[Tensor, Tensor]]
    scales: Tensor

    @classmethod
    def of(
        cls, rows: Sequence[Row], backbone: Backbone, scales: Mapping[str, float], states: Tensor | None = None
    ) -> Pack:
        """Return the pack of `rows`.

        Parameters
        ----------
        scales
            Factor of each loss; what has none is left out.
        states
            What the trained blocks take in; None for the token ids.
        """
        device = backbone.device
        pooled, labels = [], []
        terms: dict[str, tuple[list[int], list[int]]] = {}
        start = 0
        for row in rows:
            if row.label is not None and "cls" in scales:
                pooled.append(start + row.input_length - 1)
                labels.append(row.label)
            if row.term in scales and row.targets:
                positions, tokens = terms.setdefault(row.term, ([], []))
                positions += [start + t - 1 for t in row.targets]
                tokens += [row.ids[t] for t in row.targets]
            start += len(row.ids)
        if states is None:
            states = sent([token for row in rows for token in row.ids], device)
        factors = np.array([scales.get("cls", 0.0), *(scales[term] for term in sorted(terms))], dtype=np.float32)
        return cls(
            states,
            backbone.layout([len(row.ids) for row in rows]),
            sent(pooled, device),
            sent(labels, device),
            {term: (sent(terms[term][0], device), sent(terms[term][1], device)) for term in sorted(terms)},
            sent(factors, device),
        )

    @property
    def size(self) -> Size:
        """What tells its shapes from another's."""
        ragged = self.layout.ragged
        assert ragged is not None
        targets = tuple((term, len(targets)) for term, (_, targets) in self.terms.items())
        return Size(len(self.states), len(ragged.starts_q) - 1, ragged.longest_q, len(self.pooled), targets)

    def padded(self, size: Size) -> Pack:
        """Return the pack filled up to `size`, by sequences and by targets that no loss counts."""
        more = size.tokens - len(self.states)
        return Pack(
            torch.cat([self.states, self.states.new_zeros(more, *self.states.shape[1:])]),
            self.layout.padded(size.tokens, size.sequences, size.longest),
            _filled(self.pooled, size.pooled, 0),
            _filled(self.labels, size.pooled, IGNORED),
            {
                term: (_filled(self.terms[term][0], count, 0), _filled(self.terms[term][1], count, IGNORED))
                for term, count in size.targets
            },
            self.scales,
        )

    def copy_(self, other: Pack) -> None:
        """Take over the values of a pack of the same size."""
        self.layout.copy_(other.layout)
        for own, new in zip(self._tensors(), other._tensors(), strict=True):
            own.copy_(new)

    def _tensors(self) -> list[Tensor]:
        scored = [tensor for pair in self.terms.values() for tensor in pair]
        return [self.states, self.pooled, self.labels, self.scales, *scored]


def _up(count: int, step: int) -> int:
    """Return the next multiple of `step`, or of four steps where there are many."""
    step = step if count <= 8 * step else 4 * step
    return -(-count // step) * step


def _filled(tensor: Tensor, size: int, value: int) -> Tensor:
    return torch.cat([tensor, tensor.new_full((size - len(tensor),), value)])
