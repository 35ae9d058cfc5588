"""Records with scores and studies for a site, and how a browser reads what it is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import yaml

from dhrd_bench.data.suite import Suite
from dhrd_bench.results.schema import CellRecord, TrainingCost
from dhrd_bench.studies.frozen import Comparison, Frozen, FrozenCell, frozen_path, write_frozen
from dhrd_bench.studies.study import read_study

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


def of_suite(suite: str, task: str, rows: int = 20) -> CellRecord:
    """A record of the first test rows of a task that is there."""
    record = grid((fakes.FakeTask("beta", rows),), 1)[0]
    loaded = Suite.named(suite).load(task)
    found = {"fingerprint": loaded.fingerprint, "prompt": loaded.card.prompt}
    parts = record.parts.model_copy(update={"task": record.parts.task.model_copy(update=found)})
    cell = record.cell.model_copy(update={"suite": suite, "task": task})
    named = fakes.with_rows(record, id=list(loaded.test.ids[:rows]))
    return named.model_copy(update={"cell": cell, "parts": parts})


def unpacked(text: str) -> Any:
    """What a page receives: the text of a script, read as a browser reads it."""
    found = re.fullmatch(r"dhrd\.receive\(\"[a-z0-9-]+\", '((?:[^'\\\n]|\\.)*)'\);\n", text)
    assert found, text[:200]
    return json.loads(re.sub(r"\\(x3c|.)", lambda part: "<" if part[1] == "x3c" else part[1], found[1]))


def study(
    path: Path, made: Sequence[CellRecord], pairs: Sequence[tuple[str, str]], hypothesis: str, **more: Any
) -> Path:
    """A study of the records `made`, with a primary contrast a pair of method and baseline, frozen a day before."""
    cells = [record.cell for record in made]
    primary = [{"method": method, "baseline": baseline} for method, baseline in pairs]
    request = {"suite": cells[0].suite, "backbone": cells[0].backbone, "budget": cells[0].budget}
    request["methods"] = ",".join(sorted({cell.method for cell in cells}))
    written = {"hypothesis": hypothesis, "requests": request, "primary": primary, "margin": 5.0} | more
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), encoding="utf-8")
    tasks = tuple(sorted({cell.task for cell in cells}))
    frozen = Frozen(
        study=path.stem, content=read_study(path).content(), made_of={}, looks=(len({cell.seed for cell in cells}),),
        primary=tuple(
            Comparison(
                suite=cells[0].suite, backbone=cells[0].backbone, budget=cells[0].budget, method=method,
                baseline=baseline, tasks=tasks,
            )
            for method, baseline in pairs
        ),
        secondary=(), cells=tuple(FrozenCell(cell=record.cell, identity=record.identity) for record in made),
        time="2025-12-31T00:00:00+00:00",
    )  # fmt: skip
    write_frozen(frozen, frozen_path(path))
    return path
