"""Tasks and records made up for statistics."""

from __future__ import annotations

import fakes
import numpy as np

from dhrd_bench.results.schema import TaskInfo, TrainingCost
from dhrd_bench.stats.design import TaskGrid


def task(labels, predictions, metrics, classes, clusters=None, groups=None) -> TaskGrid:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    rows = np.arange(len(labels))
    return TaskGrid(
        name="t",
        info=TaskInfo(labels=[str(k) for k in range(classes)], metrics=list(metrics)),
        seeds=tuple(range(predictions.shape[1])),
        labels=labels,
        predictions=predictions,
        clusters=rows if clusters is None else np.asarray(clusters),
        groups=rows if groups is None else np.asarray(groups),
    )


def with_scores(record, scale=2.0):
    """Return the record with logits that favour its answers, more or less."""
    rng = np.random.default_rng(sum(map(ord, record.cell.method)) + record.cell.seed)
    classes = len(record.task.labels)
    logits = rng.normal(0, 1, (len(record.rows.id), classes))
    at = [max(answer, 0) for answer in record.rows.prediction]
    logits[np.arange(len(at)), at] += scale
    return fakes.with_rows(record, score=np.round(logits, 5).tolist())


def scored(one):
    """Give a record class scores, of which the answer's is the highest, and dev accuracies."""
    rng = np.random.default_rng(len(one.cell.method) + one.cell.seed)
    classes = len(one.task.labels)
    p = rng.dirichlet(np.ones(classes), len(one.rows.label))
    answers = np.maximum(one.rows.prediction, 0)
    at = np.arange(len(p))
    p[at, answers], p[at, p.argmax(axis=1)] = p.max(axis=1), p[at, answers]
    made = fakes.with_rows(one, score=np.log(p).round(5).tolist())
    epochs = [{"loss": 1.0, "dev_accuracy": 50.0 + 10 * epoch + one.cell.seed} for epoch in range(3)]
    return made.model_copy(update={"train": TrainingCost(epochs=epochs)})
