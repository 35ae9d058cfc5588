"""What training costs, and what a point gained over the baseline costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhrd_bench.stats.intervals import Estimate

COSTS = ("tokens", "seconds", "teacher_tokens", "joules", "joules_an_example")
"""What a record's ``train`` says training cost, and what its ``energy`` says of training and of a test example."""


@dataclass(frozen=True)
class Cost:
    """One cost of one method.

    Attributes
    ----------
    mean
        Per cell; None if a record does not tell, or records tell of energy from unlike sources.
    per_point
        Extra cost over the baseline for each point gained.
    said
        Why there is no `per_point`: ``no gain shown``, ``no extra cost``; empty where nothing can be said.
    """

    mean: float | None
    per_point: Estimate | None = None
    said: str = ""


def costs_of(train: Mapping[str, object], energy: Mapping[str, Any], examples: float | None) -> dict[str, object]:
    """Return what one record says that its cell cost.

    Parameters
    ----------
    train, energy
        Those of the record; empty where it has none.
    examples
        How many it was tested on.
    """
    if not energy:
        return dict(train)
    joules = {"joules": energy["train"], "joules_an_example": energy["test"] / examples if examples else None}
    return {**train, **joules}


def energy_sources(energies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what told of energy in some records; figures of more than one source are not to be compared."""
    return sorted({energy["source"] for energy in energies if energy})


def mean_costs(train: Sequence[Mapping[str, object]]) -> dict[str, float | None]:
    """Return the means of what the records of some cells say that these cost."""
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
