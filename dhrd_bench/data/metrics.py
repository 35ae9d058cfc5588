"""Metrics as `evaluate.Metric`s; ours are downloaded from nowhere.

Importing this module imports `evaluate`, which takes seconds: do it where a score is wanted.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.metrics import METRICS, Metric

_CITATION = "Wang et al. 2019, SuperGLUE, arXiv 1905.00537; Pedregosa et al. 2011, scikit-learn, JMLR 12"


class LabelMetric(evaluate.Metric):  # type: ignore[misc]
    """One of `METRICS` as the evaluate library wants it: ``compute`` gives its figure as ``value``."""

    def __init__(self, metric: Metric, **options: Any) -> None:
        self.metric = metric  # before the base class, which asks for `_info`
        super().__init__(**options)

    def _info(self) -> Any:
        columns = {"predictions": "int64", "references": "int64", "groups": "string"}
        return evaluate.MetricInfo(
            description=self.metric.description,
            citation=_CITATION,
            inputs_description="predictions, references: label ids; groups: names of the rows scored together.",
            features=datasets.Features({name: datasets.Value(kind) for name, kind in columns.items()}),
        )

    def _compute(self, predictions: Any, references: Any, groups: Any, classes: int) -> dict[str, float]:
        return {"value": self.metric.measure(np.asarray(predictions), np.asarray(references), groups, classes)}


def _load(name: str, folder: str) -> Any:
    script = name.removeprefix("evaluate:")
    # The library runs the code of a metric, and takes it from a folder of this name before it asks the hub.
    if not re.fullmatch(r"[A-Za-z0-9]\w*", script) or Path(script).exists():
        message = f"The metric {name!r} is none of the evaluate library's own, and would run other code."
        raise UserError(message, f"Name one of its own, as 'evaluate:rouge', or one of {', '.join(METRICS)}.")
    try:
        return evaluate.load(script, keep_in_memory=True, cache_dir=folder)
    except Exception as error:  # no network, no such metric, a missing package of its own
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"Cannot load the metric {name!r}: {reason}.", f"Ours need no download: {', '.join(METRICS)}."
        ) from error


def require(names: Iterable[str]) -> None:
    """Find out before hours of work whether the metrics of the evaluate library can be had.

    Raises
    ------
    UserError
        If one cannot be loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({name for name in names if name not in METRICS}):
            _load(name, folder)


def compute(
    name: str, predictions: Sequence[int], references: Sequence[int], groups: Sequence[str], classes: int
) -> float:
    """Compute one metric.

    Parameters
    ----------
    name
        One of `METRICS`, or ``evaluate:NAME`` for one of the evaluate library's own (on the hub), computed from
        predictions and references with its defaults.
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
        if name in METRICS:
            metric = LabelMetric(METRICS[name], keep_in_memory=True, cache_dir=folder)
            result = metric.compute(predictions=predictions, references=references, groups=groups, classes=classes)
        elif name.startswith("evaluate:"):
            metric = _load(name, folder)
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
