"""Every metric is one entry of `METRICS`: how it is measured, and how it is resampled.

Measured, it is a figure of one cell's predictions, by scikit-learn where that has it. Resampled, it is
a function of weighted counts: a resample gives every cluster a weight, and all that a metric needs of
it are sums of weights, of the rows answered right, of the rows predicted as class k, and so on.
Predictions may hold `UNPARSABLE`, an answer that could not be read. It is a prediction of no class, as scikit-learn
takes a label that is none of those asked for: for accuracy and exact match it is wrong; for F1 it is a miss of its
row's class and a false alarm of none, so for F1 and F1a it costs nothing where the truth is negative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Sums of weights over examples. Leading axes are free and broadcast; K classes come last.

    Attributes
    ----------
    hits, predicted
        ``(..., M, S, K)`` weight of class k answered right, and of rows predicted as k.
    support
        ``(..., 1, 1, K)`` weight of class k.
    groups_right, groups
        ``(..., M, S)`` and ``(..., 1, 1)`` weight of the groups answered right throughout, and of all.
    """

    hits: Floats
    predicted: Floats
    support: Floats
    groups_right: Floats
    groups: Floats


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    description
        What it is, for people.
    measure
        The metric of predictions ``(n,)``, references ``(n,)``, the names ``(n,)`` of the rows scored
        together, and the number of classes; 0-1, or -1 to 1 if `signed`.
    resampled
        The same of weighted counts, with their free axes.
    binary
        Whether the task must have two classes.
    signed
        Whether it can be negative, as a correlation.
    predicted, grouped
        Whether `resampled` needs the rows predicted by class, and the groups answered right.
    """

    description: str
    measure: Callable[[Ints, Ints, Sequence[str], int], float]
    resampled: Callable[[Counts], Floats]
    binary: bool = False
    signed: bool = False
    predicted: bool = False
    grouped: bool = False


# ---------------------------------------------------------------- measured; scikit-learn takes a second to import


def _accuracy(predictions: Ints, references: Ints, groups: Sequence[str], classes: int) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def _f1(predictions: Ints, references: Ints, groups: Sequence[str], classes: int) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(references == 1, predictions == 1, zero_division=0.0))


def _f1_macro(predictions: Ints, references: Ints, groups: Sequence[str], classes: int) -> float:
    from sklearn.metrics import f1_score

    # The labels are given, or scikit-learn would leave absent classes out and take UNPARSABLE for one.
    labels = list(range(classes))
    return float(f1_score(references, predictions, labels=labels, average="macro", zero_division=0.0))


def _matthews(predictions: Ints, references: Ints, groups: Sequence[str], classes: int) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))


def _exact_match(predictions: Ints, references: Ints, groups: Sequence[str], classes: int) -> float:
    right: defaultdict[str, bool] = defaultdict(lambda: True)
    for group, hit in zip(groups, predictions == references, strict=True):
        right[group] &= bool(hit)
    return sum(right.values()) / len(right)


# ---------------------------------------------------------------- resampled


def _ratio(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.zeros(np.broadcast_shapes(over.shape, under.shape)), where=under > 0)


def _accuracy_of(counts: Counts) -> Floats:
    return _ratio(counts.hits.sum(-1), counts.support.sum(-1))


def _f1_by_class(counts: Counts) -> Floats:
    """Return F1 of every class, 0 where a class is neither present nor predicted."""
    return _ratio(2 * counts.hits, counts.predicted + counts.support)


def _f1_of(counts: Counts) -> Floats:
    return _f1_by_class(counts)[..., 1]


def _f1_macro_of(counts: Counts) -> Floats:
    return np.asarray(_f1_by_class(counts).mean(-1))


def _exact_match_of(counts: Counts) -> Floats:
    return _ratio(counts.groups_right, counts.groups)


def _matthews_of(counts: Counts) -> Floats:
    """Return Matthews correlation of K classes (Gorodkin 2004); an unread answer is a class of its own."""
    total = counts.support.sum(-1)
    unread = total - counts.predicted.sum(-1)
    covariance = counts.hits.sum(-1) * total - (counts.predicted * counts.support).sum(-1)
    spread = (total**2 - (counts.predicted**2).sum(-1) - unread**2) * (total**2 - (counts.support**2).sum(-1))
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))


# ---------------------------------------------------------------- the table

_F1 = Metric(
    "F1 of label id 1 over all rows, an unread answer predicting no class; 0 if it is neither there nor predicted.",
    _f1, _f1_of, binary=True, predicted=True,
)  # fmt: skip

METRICS: dict[str, Metric] = {
    "accuracy": Metric("Share of rows whose class is predicted right.", _accuracy, _accuracy_of),
    "exact_match": Metric(
        "Share of groups (such as questions) whose every row (such as an answer option) is predicted right.",
        _exact_match, _exact_match_of, grouped=True,
    ),
    "f1": _F1,
    "f1_macro": Metric(
        "Unweighted mean of F1 over all classes of the task, absent ones too (as 0); an unread answer predicts none.",
        _f1_macro, _f1_macro_of, predicted=True,
    ),
    "f1a": _F1,  # as F1 over the answer options of all questions is called
    "matthews_correlation": Metric(
        "Matthews correlation coefficient; an unparsable answer counts as a class of its own.",
        _matthews, _matthews_of, signed=True, predicted=True,
    ),
}  # fmt: skip
"""Our metrics by name; any other is named ``evaluate:NAME`` and can be measured, but not resampled."""
