"""Giving each row what belongs to another, for controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def derange(values: Sequence[Hashable], seed: int) -> list[int]:
    """Return for each position another one from which it is to take its value.

    A permutation in which no position takes a value equal to its own (so none keeps its own), drawn by
    `seed`. Where one value fills more than half of the positions that cannot be; then as few as possible
    keep an equal one.

    Parameters
    ----------
    values
        ``(n,)`` what is exchanged, such as the rationales of n rows.
    seed
        Of the drawing.

    Returns
    -------
    list of int
        ``(n,)`` positions in `values`, each once.
    """
    order: list[int] = np.random.default_rng(seed).permutation(len(values)).tolist()
    # Equal values side by side, then everyone takes from as many places on as the largest group is long.
    first_seen = {values[i]: place for place, i in reversed(list(enumerate(order)))}
    order.sort(key=lambda i: first_seen[values[i]])
    step = max(Counter(values).values(), default=0)
    takes = [0] * len(order)
    for place, i in enumerate(order):
        takes[i] = order[(place + step) % len(order)]
    return takes
