"""Reliability diagrams and risk-coverage curves, by the definitions of `dhrd_bench.stats.calibration`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.stats.calibration import BINS
from dhrd_bench.stats.design import Flags, Floats
from dhrd_bench.stats.probabilities import Probabilities

_PLACES = 40
"""Places that a curve is drawn at."""


@dataclass(frozen=True)
class Curves:
    """How sure a method was, and how often it was right.

    Attributes
    ----------
    bins
        Of every bin that is not empty: answers, mean probability of the answer, share of right ones.
    risk
        Coverage and error rate, from the surest answers to all.
    """

    bins: list[tuple[int, float, float]]
    risk: list[tuple[float, float]]


def curves(given: Sequence[Probabilities], methods: Sequence[str], name: str) -> Curves | None:
    """Return the curves of a method over all rows and seeds of `given`; None where it has no probabilities."""
    if name not in methods or not given or any(name in task.left_out for task in given):
        return None
    pairs = [_of_task(task, methods.index(name)) for task in given]
    sure, right = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return Curves(reliability(sure, right), risk_coverage(sure, right)) if len(sure) else None


def _of_task(given: Probabilities, method: int) -> tuple[Floats, Flags]:
    task = given.task
    seeds = np.flatnonzero(task.present[method])
    answers, shares = task.predictions[method, seeds], given.values[method, seeds]
    # An answer that could not be read is wrong, and as sure as its likeliest class.
    own = np.take_along_axis(shares, np.maximum(answers, 0)[..., None], axis=2)[..., 0]
    sure = np.where(answers >= 0, own, shares.max(axis=2))
    return sure.ravel(), (answers == task.labels).ravel()


def reliability(sure: Floats, right: Flags) -> list[tuple[int, float, float]]:
    """Return the bins of a reliability diagram; bin b holds the answers in (b / BINS, (b + 1) / BINS]."""
    places = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    found = []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            found.append((int(inside.sum()), float(sure[inside].mean()), float(right[inside].mean())))
    return found


def risk_coverage(sure: Floats, right: Flags) -> list[tuple[float, float]]:
    """Return coverage and error rate of answering only where the probability is highest; equal ones go together."""
    order = np.argsort(-sure, kind="stable")
    errors = np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))
    kept = np.unique(np.linspace(0, len(ends) - 1, min(len(ends), _PLACES)).astype(int))
    return [(float((end + 1) / len(sure)), float(errors[end] / (end + 1))) for end in ends[kept]]
