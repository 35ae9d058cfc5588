"""Which examples go into a step, and which sequences into a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dhrd_bench.contracts import derive_seed


def epoch_batches(count: int, size: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Yield the example numbers of each optimiser step of an epoch.

    The order depends on the seed and the epoch only, so every method of a comparison takes its steps
    on the same examples. Sequence lengths have no say in it; they matter within a step (`packs`).
    """
    order = np.random.default_rng(derive_seed(str(seed), str(epoch))).permutation(count).tolist()
    for start in range(0, count, size):
        yield order[start : start + size]


def packs(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Group sequences, shortest first, into packs of at most `tokens` tokens (at least one sequence).

    Returns
    -------
    list of list of int
        Positions in `lengths`. Sequences of equal length end up side by side.
    """
    groups: list[list[int]] = []
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if not groups or filled + lengths[index] > tokens:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += lengths[index]
    return groups
