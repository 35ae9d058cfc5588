"""Records with scores for a site, and how a browser reads what it is sent."""

from __future__ import annotations

import json
import re
from typing import Any

import fakes
import numpy as np

from dhrd_bench.results.schema import CellRecord, TrainingCost

ALPHA, BETA = fakes.SMALL[:2]


def with_scores(record: CellRecord, seed: int = 0) -> CellRecord:
    """The record with class scores that go with its answers, most of the time."""
    assert record.rows is not None
    rng, classes = np.random.default_rng(seed), len(record.task.labels)
    scores = rng.normal(size=(len(record.rows.id), classes)).round(1)
    scores[np.arange(len(scores)), np.maximum(record.rows.prediction, 0)] += 1.5
    return fakes.with_rows(record, score=scores.round(5).tolist())


def grid(tasks: tuple[fakes.FakeTask, ...] = (ALPHA, BETA), seeds: int = 2) -> list[CellRecord]:
    made = [with_scores(record, at) for at, record in enumerate(fakes.records(tasks, fakes.THREE, range(seeds)))]
    epochs = [
        {"loss": 1.0, "dev_loss": 0.9, "dev_accuracy": 50.0},
        {"loss": 0.5, "dev_loss": 0.7, "dev_accuracy": 60.0},
    ]
    return [record.model_copy(update={"train": TrainingCost(epochs=epochs, best_epoch=2)}) for record in made]


def unpacked(text: str) -> Any:
    """What a page receives: the text of a script, read as a browser reads it."""
    found = re.fullmatch(r"dhrd\.receive\(\"[a-z0-9-]+\", '((?:[^'\\\n]|\\.)*)'\);\n", text)
    assert found, text[:200]
    return json.loads(re.sub(r"\\(x3c|.)", lambda part: "<" if part[1] == "x3c" else part[1], found[1]))
