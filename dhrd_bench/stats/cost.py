"""What training costs, and what a point gained over the baseline costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.stats.intervals import Estimate

COSTS = ("tokens", "seconds", "teacher_tokens")
"""What a record's ``train`` says training cost."""


@dataclass(frozen=True)
class Cost:
    """One cost of one method.

    Attributes
    ----------
    mean
        Per cell; None if a record does not tell.
    per_point
        Extra cost over the baseline for each point gained.
    said
        Why there is no `per_point`: ``no gain shown``, ``no extra cost``; empty where nothing can be said.
    """

    mean: float | None
    per_point: Estimate | None = None
    said: str = ""


def mean_costs(train: Sequence[Mapping[str, object]]) -> dict[str, float | None]:
    """Return the means of what the records of some cells say that their training cost."""
    return {name: _mean([of_cell.get(name) for of_cell in train]) for name in COSTS}


def cost(mean: float | None, base_mean: float | None, gained: Estimate | None) -> Cost:
    """Return a mean cost beside the baseline's.

    Parameters
    ----------
    gained
        The difference in points, None for the baseline itself. The interval is that of the points: what
        a cell costs is taken as it is. A gain whose interval reaches 0 has no finite cost a point.
    """
    if mean is None or base_mean is None or gained is None:
        return Cost(mean)
    if gained.low is None or gained.high is None or gained.low <= 0:
        return Cost(mean, said="no gain shown")
    extra = mean - base_mean
    if extra <= 0:
        return Cost(mean, said="no extra cost")
    return Cost(mean, Estimate(extra / gained.value, extra / gained.high, extra / gained.low))


def _mean(values: Sequence[object]) -> float | None:
    known = [float(value) for value in values if isinstance(value, int | float)]
    return float(np.mean(known)) if known and len(known) == len(values) else None
