"""Metrics as `evaluate.Metric`s on scikit-learn; nothing is downloaded.

Importing this module imports `evaluate`, which takes seconds: do it where a score is wanted.
Predictions may hold `UNPARSABLE`, which is no class and always wrong.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from dhrd_bench.data.cards import METRICS
from dhrd_bench.errors import UserError, did_you_mean

_CITATION = "Wang et al. 2019, SuperGLUE, arXiv 1905.00537; Pedregosa et al. 2011, scikit-learn, JMLR 12"


class LabelMetric(evaluate.Metric):  # type: ignore[misc]
    """Base of metrics over label ids; subclasses say in `measure` what they measure, 0-1."""

    description: ClassVar[str]

    def _info(self) -> Any:
        columns = {"predictions": "int64", "references": "int64", "groups": "string"}
        return evaluate.MetricInfo(
            description=self.description,
            citation=_CITATION,
            inputs_description="predictions, references: label ids; groups: names of the rows scored together.",
            features=datasets.Features({name: datasets.Value(kind) for name, kind in columns.items()}),
        )

    def _compute(self, predictions: Any, references: Any, groups: Any, classes: int) -> dict[str, float]:
        value = self.measure(np.asarray(predictions), np.asarray(references), groups, classes)
        return {type(self).__name__: float(value)}

    def measure(self, predictions: Any, references: Any, groups: Sequence[str], classes: int) -> float:
        """Return the metric, 0-1, of ``(n,)`` label ids."""
        raise AssertionError("a subclass measures")


class Accuracy(LabelMetric):
    """Share of rows predicted right."""

    description = "Share of rows whose class is predicted right."

    def measure(self, predictions: Any, references: Any, groups: Sequence[str], classes: int) -> float:
        """Return the accuracy."""
        return float(accuracy_score(references, predictions))


class F1(LabelMetric):
    """F1 of the second class; over the answer options of all questions it is called F1a."""

    description = "F1 of label id 1 over all rows; 0 if that class is neither there nor predicted."

    def measure(self, predictions: Any, references: Any, groups: Sequence[str], classes: int) -> float:
        """Return F1 of label id 1."""
        return float(f1_score(references == 1, predictions == 1, zero_division=0.0))


class F1Macro(LabelMetric):
    """Mean of F1 over all classes of the task, 0 for a class that is neither there nor predicted."""

    description = "Unweighted mean of F1 over all classes of the task, absent ones too (as 0)."

    def measure(self, predictions: Any, references: Any, groups: Sequence[str], classes: int) -> float:
        """Return macro-F1 over the task's classes."""
        # The labels are given, or scikit-learn would leave absent classes out and take UNPARSABLE for one.
        labels = list(range(classes))
        return float(f1_score(references, predictions, labels=labels, average="macro", zero_division=0.0))


class MatthewsCorrelation(LabelMetric):
    """Matthews correlation, -1 to 1."""

    description = "Matthews correlation coefficient; an unparsable answer counts as a class of its own."

    def measure(self, predictions: Any, references: Any, groups: Sequence[str], classes: int) -> float:
        """Return the correlation."""
        return float(matthews_corrcoef(references, predictions))


class ExactMatch(LabelMetric):
    """Share of groups whose every row is predicted right."""

    description = "Share of groups (such as questions) whose every row (such as an answer option) is predicted right."

    def measure(self, predictions: Any, references: Any, groups: Sequence[str], classes: int) -> float:
        """Return the share of groups that are right throughout."""
        right: defaultdict[str, bool] = defaultdict(lambda: True)
        for group, hit in zip(groups, predictions == references, strict=True):
            right[group] &= bool(hit)
        return sum(right.values()) / len(right)


_OURS: dict[str, type[LabelMetric]] = {
    "accuracy": Accuracy,
    "exact_match": ExactMatch,
    "f1": F1,
    "f1_macro": F1Macro,
    "f1a": F1,
    "matthews_correlation": MatthewsCorrelation,
}
assert tuple(_OURS) == METRICS


def compute(
    name: str, predictions: Sequence[int], references: Sequence[int], groups: Sequence[str], classes: int
) -> float:
    """Compute one metric.

    Parameters
    ----------
    name
        One of `METRICS`, or ``evaluate:NAME`` for a metric that the evaluate library finds (on the
        hub, or at a local path), computed from predictions and references with its defaults.
    predictions, references
        ``(n,)`` label ids.
    groups
        ``(n,)`` names of the rows scored together by exact match.
    classes
        Number of classes.

    Returns
    -------
    float
        0-100 (a correlation: -100 to 100).

    Raises
    ------
    UserError
        If the metric is unknown or cannot be had.
    """
    # `evaluate` wants a folder even for a metric that stays in memory; this one leaves no trace.
    with tempfile.TemporaryDirectory() as folder:
        if name in _OURS:
            metric = _OURS[name](keep_in_memory=True, cache_dir=folder)
            result = metric.compute(predictions=predictions, references=references, groups=groups, classes=classes)
        elif name.startswith("evaluate:"):
            try:
                metric = evaluate.load(name.removeprefix("evaluate:"), keep_in_memory=True, cache_dir=folder)
            except Exception as error:  # no network, no such metric, a missing package of its own
                reason = str(error).splitlines()[0].rstrip(".")
                raise UserError(
                    f"Cannot load the metric {name!r}: {reason}.", f"Ours need no download: {', '.join(METRICS)}."
                ) from error
            result = metric.compute(predictions=predictions, references=references)
        else:
            raise UserError(f"Unknown metric {name!r}.", did_you_mean(name, METRICS))
    figures = {key: value for key, value in result.items() if isinstance(value, int | float | np.number)}
    wanted = name.rpartition(":")[2].rpartition("/")[2]
    if wanted not in figures and len(figures) != 1:
        raise UserError(
            f"The metric {name!r} gives no single figure, but {', '.join(result) or 'none'}.", "Use another one."
        )
    return 100 * float(figures[wanted] if wanted in figures else next(iter(figures.values())))
