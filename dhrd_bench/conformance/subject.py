"""A method under test."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dhrd_bench.backbones import Backbone
from dhrd_bench.conformance.tasks import BUDGET, CheckTask, make_task
from dhrd_bench.contracts import Budget, Context, Example, Method, MethodCard, Predictions, TaskData
from dhrd_bench.methods import MethodSpec

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}
"""How far two scores of one example may lie apart, relative to the larger of 1 and their size."""


class CheckError(AssertionError):
    """The method does not keep to what is being checked."""


def ensure(condition: bool, message: str) -> None:
    """Raise `CheckError` with `message` unless `condition` holds."""
    if not condition:
        raise CheckError(message)


@dataclass
class Run:
    """A fitted method and its predictions for the test split."""

    method: Method
    predictions: Predictions
    laps: list[int] = field(default_factory=list)


class Subject:
    """A method with a backbone to run it on; every call starts from a backbone in its original state."""

    def __init__(
        self, spec: MethodSpec, backbone: Backbone, budget: Budget = BUDGET, data_dir: Path | None = None
    ) -> None:
        self.spec, self.backbone, self.budget, self.data_dir = spec, backbone, budget, data_dir

    @property
    def card(self) -> MethodCard:
        """The method's card."""
        return self.spec.card

    @cached_property
    def task(self) -> CheckTask:
        """The task most checks use."""
        return make_task()

    @cached_property
    def base(self) -> Run:
        """The method fitted on that task with seed 0; checks compare with it and leave it as it is."""
        return self.run(self.task)

    def new(self) -> Method:
        """Return an instance that has not been fitted."""
        return self.spec.new()

    def context(self, task: str, seed: int = 0) -> Context:
        """Return what the harness lends to one cell."""
        return Context(self.backbone, self.budget, task, seed)

    def fit(self, data: TaskData, seed: int = 0) -> Method:
        """Fit a new instance."""
        self.backbone.reset()
        self.backbone.frozen_states.clear()
        method = self.new()
        method.fit(data.lent_to(self.card), self.context(data.card.name, seed))
        return method

    def run(self, task: CheckTask, seed: int = 0) -> Run:
        """Fit a new instance, predict the test split and check the form of what it says."""
        method = self.fit(task.data, seed)
        laps: list[int] = []
        predictions = self.predict(method, task.test, task, seed, laps)
        self.check_form(predictions, len(task.test), len(task.data.card.labels))
        return Run(method, predictions, laps)

    def predict(
        self, method: Method, examples: Sequence[Example], task: CheckTask, seed: int = 0, laps: list[int] | None = None
    ) -> Predictions:
        """Predict with a fresh context, as another process would have it."""
        context = self.context(task.data.card.name, seed)
        if laps is not None:
            context.lap = laps.append
        return method.predict(examples, context)

    def check_form(self, predictions: Predictions, count: int, classes: int) -> None:
        """Check that there is one prediction an example, and that they are ones that can be."""
        ensure(len(predictions.labels) == count, f"{len(predictions.labels)} labels for {count} examples")
        wrong = {label for label in predictions.labels if not -1 <= label < classes}
        ensure(not wrong, f"labels {sorted(wrong)} of a task with {classes} classes")
        if predictions.scores is not None:
            shape_fits = len(predictions.scores) == count and all(len(row) == classes for row in predictions.scores)
            ensure(shape_fits, f"scores are not {count} x {classes}")
            finite = all(math.isfinite(value) for row in predictions.scores for value in row)
            ensure(finite, "scores hold NaN or infinity")

    def difference(self, first: Predictions, second: Predictions) -> str:
        """Say how two predictions for the same examples differ; nothing if they agree within `TOLERANCE`."""
        tolerance = TOLERANCE[self.backbone.card.dtype]
        if (first.scores is None) != (second.scores is None):
            return "scores are there once and missing once"
        close = np.ones(len(first.labels), dtype=bool)
        if first.scores is not None and second.scores is not None and first.scores:
            a, b = np.array(first.scores), np.array(second.scores)
            apart = float((np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))).max())
            if apart > tolerance:
                return f"scores lie {apart:.2g} apart (tolerance {tolerance:g})"
            ranked = np.sort(a, axis=1)
            # On a near tie the tolerated difference may decide.
            close = ranked[:, -1] - ranked[:, -2] > 2 * tolerance * np.maximum(1.0, np.abs(ranked[:, -1]))
        for number, pair in enumerate(zip(first.labels, second.labels, strict=True)):
            if pair[0] != pair[1] and close[number]:
                return f"example {number} is {pair[0]} once and {pair[1]} once"
        # Of examples that a method answered without writing, none has a text or all have an empty one.
        texts = [each.texts or [""] * len(each.labels) for each in (first, second)]
        if self.backbone.card.dtype == "float32" and texts[0] != texts[1]:
            return "the generated texts differ"
        return ""

    @contextmanager
    def saved(self, method: Method) -> Iterator[Path]:
        """Give a temporary folder with what `method` saves."""
        with tempfile.TemporaryDirectory() as folder:
            method.save(Path(folder))
            yield Path(folder)

    def state(self, method: Method) -> dict[str, Any]:
        """Return all that a fitted method saves, by file."""
        with self.saved(method) as folder:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            return {str(path.relative_to(folder)): path.read_bytes() for path in files}
