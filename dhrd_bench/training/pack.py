"""A pack of training sequences as tensors: what a forward pass reads and which of its positions are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.layout import Layout, fillings, sent
from dhrd_bench.modeling.encode import Row
from dhrd_bench.modeling.pooling import Pool, places_read

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
        ``(n,)`` the position that has read the input, or, with `lengths`, all of an input's positions end to end;
        ``(n,)`` class of the labelled rows.
    terms
        For each LM term the positions ``(m,)`` from which its targets ``(m,)`` are predicted.
    scales
        ``(1 + number of terms,)`` float32: what the summed classification loss and each term's sum are
        multiplied by.
    lengths
        How many of the pooled positions are each input's; None if one is.
    soft
        ``(n, K)`` probabilities that the classification loss takes for classes, where a row has some.
    weights
        For each LM term in which a row has weights those of its targets, ``(m,)``.
    """

    states: Tensor
    layout: Layout
    pooled: Tensor
    labels: Tensor
    terms: dict[str, tuple[Tensor, Tensor]]
    scales: Tensor
    lengths: list[int] | None = None
    soft: Tensor | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        backbone: Backbone,
        scales: Mapping[str, float],
        states: Tensor | None = None,
        pool: Pool = None,
    ) -> Pack:
        """Return the pack of `rows`.

        Parameters
        ----------
        scales
            Factor of each loss; what has none is left out.
        states
            What the trained blocks take in; None for the token ids.
        pool
            What reads the states of an input.
        """
        device = backbone.device
        labelled = [row for row in rows if row.classified and "cls" in scales]
        weighted = {row.term for row in rows if row.lm_weights is not None}
        pooled: list[int] = []
        lengths: list[int] = []
        terms: dict[str, tuple[list[int], list[int]]] = {}
        weights: dict[str, list[float]] = {}
        start = 0
        for row in rows:
            if row.classified and "cls" in scales:
                reads = places_read(pool, backbone, row.input_length)
                pooled += [start + place for place in reads]
                lengths.append(len(reads))
            if row.term in scales and row.targets:
                positions, tokens = terms.setdefault(row.term, ([], []))
                positions += [start + t - 1 for t in row.targets]
                tokens += [row.ids[t] for t in row.targets]
                if row.term in weighted:
                    weights.setdefault(row.term, []).extend(row.target_weights)
            start += len(row.ids)
        if states is None:
            states = sent([token for row in rows for token in row.ids], device)
        factors = np.array([scales.get("cls", 0.0), *(scales[term] for term in sorted(terms))], dtype=np.float32)
        return cls(
            states,
            backbone.layout([len(row.ids) for row in rows]),
            sent(pooled, device),
            sent([_class(row) for row in labelled], device),
            {term: (sent(terms[term][0], device), sent(terms[term][1], device)) for term in sorted(terms)},
            sent(factors, device),
            None if pool is None else lengths,
            _soft(labelled, device),
            {term: sent(np.array(each, dtype=np.float32), device) for term, each in weights.items()},
        )

    @property
    def recordable(self) -> bool:
        """Whether packs of its size are alike: what few methods ask for is not filled up, and so not recorded."""
        return self.lengths is None and self.soft is None and not self.weights

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


def _class(row: Row) -> int:
    """Return the class that a row counts as: its label, or the likeliest one."""
    if row.label is not None:
        return row.label
    assert row.soft is not None
    return max(range(len(row.soft)), key=row.soft.__getitem__)


def _soft(rows: Sequence[Row], device: torch.device) -> Tensor | None:
    """Return the class probabilities ``(n, K)`` of `rows`, a label's being 1; None if no row has any."""
    classes = next((len(row.soft) for row in rows if row.soft is not None), None)
    if classes is None:
        return None
    table = np.zeros((len(rows), classes), dtype=np.float32)
    for line, row in zip(table, rows, strict=True):
        line[:] = np.eye(classes)[_class(row)] if row.soft is None else row.soft
    return sent(table, device)


def _filled(tensor: Tensor, size: int, value: int) -> Tensor:
    return torch.cat([tensor, tensor.new_full((size - len(tensor),), value)])
