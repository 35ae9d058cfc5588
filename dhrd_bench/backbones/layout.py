"""How sequences lie end to end, as the attention kernels want to be told."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Runs:
    """Sequences as runs of equal length, each run one kernel call.

    Attributes
    ----------
    segments
        ``(count, length)`` of each run.
    branches
        Every sequence ends in branches of these lengths, which do not see each other.
    """

    segments: tuple[tuple[int, int], ...]
    branches: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of any lengths for one kernel call.

    Attributes
    ----------
    starts_q, starts_k
        ``(N + 1,)`` int32: where each stretch of queries and the keys it sees begin.
    longest_q, longest_k
        Bounds on their lengths.
    keys
        ``(T_k,)`` which tokens stand as keys; None if they are those of the queries. The keys of a branch are
        its stem's and its own, and as causal attention is aligned at the end, it sees the whole stem.
    """

    starts_q: Tensor
    starts_k: Tensor
    longest_q: int
    longest_k: int
    keys: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """How sequences lie end to end.

    Attributes
    ----------
    positions
        ``(T,)`` each token's place in its own sequence; a branch counts on from the stem.
    runs
        For the kernels that every device has.
    ragged
        For `varlen_attn`, where attention goes by it.
    """

    positions: Tensor
    runs: Runs
    ragged: Ragged | None = field(default=None)

    @classmethod
    def of(
        cls, lengths: Sequence[int], device: torch.device, branches: tuple[int, ...] = (), *, one_call: bool = False
    ) -> Layout:
        """Return the layout of sequences of these lengths, each with these branches at its end.

        `one_call` tells whether attention takes them all at once; see `Backbone.one_call`.
        """
        runs = Runs(tuple((len(list(run)), length) for length, run in groupby(lengths)), branches)
        ragged = _ragged(lengths, branches, device) if one_call else None
        return cls(sent(positions_of(lengths, branches), device), runs, ragged)

    def padded(self, tokens: int, sequences: int, longest: int) -> Layout:
        """Return the layout filled up to so many tokens and sequences, of which the further ones count for nothing.

        Fillings are sequences of at most `longest` tokens, a bound for all, and then sequences without tokens. It can
        be done where attention takes all sequences in one call.
        """
        assert self.ragged is not None
        starts, held = self.ragged.starts_q, len(self.positions)
        more = np.arange(held + longest, tokens + longest, longest).clip(max=tokens)
        empty = sequences + 1 - len(starts) - len(more)
        assert empty >= 0, "too many sequences for the size"
        ends = np.concatenate([more, np.full(empty, tokens)]).astype(np.int32)
        full = torch.cat([starts, sent(ends, starts.device)])
        places = torch.arange(tokens - held, device=self.positions.device) % longest
        return Layout(torch.cat([self.positions, places]), Runs(()), Ragged(full, full, longest, longest))

    def copy_(self, other: Layout) -> None:
        """Take over a layout of the same size, where computations were recorded with this one."""
        assert self.ragged is not None
        assert other.ragged is not None
        self.positions.copy_(other.positions)
        self.ragged.starts_q.copy_(other.ragged.starts_q)


def fillings(tokens: int, longest: int) -> int:
    """Return how many sequences of at most `longest` tokens it takes to fill up `tokens`."""
    return -(-tokens // longest)


@lru_cache(maxsize=1)
def varlen_options() -> frozenset[str]:
    """Return the options of the installed `varlen_attn`; none where it cannot be told about windows.

    It is not asked for where there is no card: with it comes PyTorch's compiler, which takes a second to import.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    options = frozenset(inspect.signature(varlen_attn).parameters)
    return options if {"scale", "window_size"} <= options else frozenset()


@lru_cache(maxsize=8)
def has_varlen(device: torch.device) -> bool:
    """Whether attention goes by `varlen_attn` on `device`: a CUDA card of Ampere's generation or later, torch 2.11."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0) and bool(varlen_options())


def _ragged(lengths: Sequence[int], branches: tuple[int, ...], device: torch.device) -> Ragged:
    """Return each sequence as its stem and, for each branch, the branch's queries on stem and branch."""
    if not branches:
        starts = sent(_starts(lengths), device)
        return Ragged(starts, starts, max(lengths), max(lengths))
    queries, seen, keys = [], [], []
    begin = 0
    for length in lengths:
        stem = np.arange(begin, begin + length - sum(branches))
        queries.append(len(stem))
        seen.append(stem)
        place = begin + len(stem)
        for size in branches:
            queries.append(size)
            seen.append(np.concatenate([stem, np.arange(place, place + size)]))
            place += size
        begin += length
    keys = [len(each) for each in seen]
    starts_q, starts_k = (sent(_starts(sizes), device) for sizes in (queries, keys))
    return Ragged(starts_q, starts_k, max(queries), max(keys), sent(np.concatenate(seen), device))


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def positions_of(lengths: Sequence[int], branches: tuple[int, ...]) -> np.ndarray:
    """Return each token's place in its own sequence, ``(T,)``; a branch counts on from the stem."""
    sizes = np.asarray(lengths)
    positions: np.ndarray = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    back = np.concatenate([[0], np.cumsum(branches)])[:-1].astype(np.int64)  # how far a branch lies behind the stem
    tail = np.repeat(back, branches)
    if len(tail):
        ends = np.cumsum(sizes)[:, None] - len(tail) + np.arange(len(tail))
        positions[ends] -= tail
    return positions


def sent(values: Sequence[int] | np.ndarray, device: torch.device) -> Tensor:
    """Return a tensor of `values` on `device`, copied without waiting for what runs there."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else torch.tensor(values, dtype=torch.long)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
