"""From predictions to metrics and per-row outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dhrd_bench.contracts import UNPARSABLE, Predictions, TaskCard
from dhrd_bench.data.suite import YES, TestSplit
from dhrd_bench.results.schema import Rows


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cell did.

    Attributes
    ----------
    metrics
        0-100 by name.
    score
        Mean of the metrics.
    rows
        Per-row outcomes; rows of the suite, not examples.
    unparsable
        Share of rows whose answer could not be read.
    """

    metrics: dict[str, float]
    score: float
    rows: Rows
    unparsable: float


def score(card: TaskCard, test: TestSplit, predictions: Predictions) -> Outcome:
    """Score the predictions for ``test.examples``.

    Where rows are asked one candidate at a time, a row's class is the candidate with the largest
    margin of yes over no; see `choose`.

    Raises
    ------
    ValueError
        If the predictions are not one a example, or hold labels or scores that cannot be.
    """
    _check(card, test, predictions)
    if test.candidates == 1:
        labels, scores = list(predictions.labels), predictions.scores
    else:
        labels, scores = choose(predictions, test.candidates)
    rows = Rows(
        id=list(test.ids),
        label=list(test.labels),
        prediction=labels,
        cluster=test.clusters and list(test.clusters),
        group=test.groups and list(test.groups),
        score=scores,
    )
    from dhrd_bench.data.metrics import compute

    groups = test.groups or test.ids
    metrics = {name: compute(name, labels, test.labels, groups, len(test.classes)) for name in card.metrics}
    return Outcome(
        metrics=metrics,
        score=math.fsum(metrics.values()) / len(metrics),
        rows=rows,
        unparsable=labels.count(UNPARSABLE) / len(labels),
    )


def choose(predictions: Predictions, candidates: int) -> tuple[list[int], list[list[float]]]:
    """Reduce yes/no answers, `candidates` a row, to one class a row.

    The margin of a candidate is its score of yes less its score of no or, where the method gives no
    scores, 1 for yes and -1 for no; it is 0 for an answer that could not be read. The largest margin
    wins, the first candidate on a tie. A row none of whose answers could be read is unparsable.

    Returns
    -------
    labels
        ``(n,)`` label ids.
    margins
        ``(n, candidates)``, the rows' scores per class.
    """
    margins: list[float] = []
    for number, label in enumerate(predictions.labels):
        if label == UNPARSABLE:
            margins.append(0.0)
        elif predictions.scores is not None:
            no, yes = predictions.scores[number]
            margins.append(yes - no)
        else:
            margins.append(1.0 if label == YES else -1.0)
    labels: list[int] = []
    table: list[list[float]] = []
    for start in range(0, len(margins), candidates):
        row = margins[start : start + candidates]
        silent = all(label == UNPARSABLE for label in predictions.labels[start : start + candidates])
        labels.append(UNPARSABLE if silent else row.index(max(row)))
        table.append(row)
    return labels, table


def _check(card: TaskCard, test: TestSplit, predictions: Predictions) -> None:
    wanted, classes = len(test.examples), len(card.labels)
    if len(predictions.labels) != wanted:
        raise ValueError(f"{len(predictions.labels)} predictions for {wanted} examples")
    allowed = {UNPARSABLE, *range(classes)}
    if wrong := set(predictions.labels) - allowed:
        raise ValueError(f"label id {sorted(wrong)[0]} of a task with {classes} classes")
    if predictions.scores is not None:
        if len(predictions.scores) != wanted or any(len(row) != classes for row in predictions.scores):
            raise ValueError(f"scores are not {wanted} x {classes}")
        if not _finite(predictions.scores):
            raise ValueError("scores hold NaN or infinity")


def _finite(scores: Sequence[Sequence[float]]) -> bool:
    # From another process NaN comes as None: JSON lacks it.
    return all(value is not None and math.isfinite(value) for row in scores for value in row)
