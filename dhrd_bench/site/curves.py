"""Reliability diagrams and risk-coverage curves, by the definitions of `dhrd_bench.stats.calibration`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.stats.design import Flags, Floats
from dhrd_bench.stats.probabilities import Probabilities
from dhrd_bench.stats.reliability import Bin, reliability

_PLACES = 40
"""Places that a curve is drawn at."""


@dataclass(frozen=True)
class Curves:
    """How sure a method was, and how often it was right.

    Attributes
    ----------
    bins
        Of the reliability diagram; tasks count alike.
    risk
        Coverage and error rate, from the surest answers to all of all tasks.
    """

    bins: list[Bin]
    risk: list[tuple[float, float]]


def curves(given: Sequence[Probabilities], methods: Sequence[str], name: str) -> Curves | None:
    """Return the curves of a method over all rows and seeds of `given`; None where it has no probabilities."""
    if name not in methods or not given or any(name in task.left_out for task in given):
        return None
    method = methods.index(name)
    answers = [task.answers(method) for task in given]
    sure, right = (np.concatenate([each.ravel() for each in column]) for column in zip(*answers, strict=True))
    return Curves(reliability(given, method), risk_coverage(sure, right)) if len(sure) else None


def risk_coverage(sure: Floats, right: Flags) -> list[tuple[float, float]]:
    """Return coverage and error rate of answering only where the probability is highest; equal ones go together."""
    order = np.argsort(-sure, kind="stable")
    errors = np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))
    kept = np.unique(np.linspace(0, len(ends) - 1, min(len(ends), _PLACES)).astype(int))
    return [(float((end + 1) / len(sure)), float(errors[end] / (end + 1))) for end in ends[kept]]
