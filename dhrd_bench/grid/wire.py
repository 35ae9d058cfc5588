"""A cell on its way to another process, and what comes back: JSON, so that nothing is unpickled.

What goes is what a method may see; test labels do not go.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from dhrd_bench import registry
from dhrd_bench.contracts import (
    Budget,
    Example,
    LabeledExample,
    Method,
    Predictions,
    Prompt,
    TaskCard,
    TaskData,
)
from dhrd_bench.grid.perform import Performance
from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.methods import MethodSpec
from dhrd_bench.results.schema import Energy


def job(planned: PlannedCell, keep: Path | None) -> dict[str, Any]:
    """Return what another process needs to perform a cell.

    Parameters
    ----------
    planned
        The cell.
    keep
        Folder to save the fitted method into, if it is wanted.
    """
    cls, data = planned.method.cls, planned.data
    return {
        "module": cls.__module__,
        "class": cls.__qualname__,
        "params": planned.method.params.model_dump(mode="json"),
        "card": data.card.model_dump(mode="json"),
        "budget": planned.budget.model_dump(mode="json"),
        "seed": planned.cell.seed,
        "train": [_labeled(row) for row in data.train],
        "dev": [_labeled(row) for row in data.dev],
        "spare": [_labeled(row) for row in data.spare],
        "test": [_row(example) for example in planned.test.examples],
        "keep": keep and str(keep),
    }


def can_be_sent(spec: MethodSpec) -> bool:
    """Whether another process can import the method, with all that it is composed of."""
    return all(_can_be_imported(each.cls) for each in spec.whole)


def _can_be_imported(cls: type[Method]) -> bool:
    """Whether a class was registered from a file, by a name of its own."""
    entry = registry.methods.entries.get(cls.card.name)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    known = entry is not None and entry.origin == file
    return known and cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__


def method_of(sent: dict[str, Any]) -> Method:
    """Return an instance of the method that `job` has named."""
    cls = reduce(getattr, sent["class"].split("."), import_module(sent["module"]))
    assert isinstance(cls, type)
    assert issubclass(cls, Method)
    return cls(cls.Params.model_validate(sent["params"]))


def budget_of(sent: dict[str, Any]) -> Budget:
    """Return the budget of a job."""
    return Budget.model_validate(sent["budget"])


def data_of(sent: dict[str, Any]) -> TaskData:
    """Return what `fit` is given."""
    rows = (tuple(map(_labeled_of, sent[name])) for name in ("train", "dev", "spare"))
    return TaskData(TaskCard.model_validate(sent["card"]), *rows)


def examples_of(sent: dict[str, Any]) -> tuple[Example, ...]:
    """Return what `predict` is given."""
    return tuple(_example(*row) for row in sent["test"])


def answer(performance: Performance) -> dict[str, Any]:
    """Return what is sent back."""
    energy = performance.energy
    return asdict(replace(performance, energy=None)) | {"energy": energy and energy.model_dump()}


def performance_of(sent: dict[str, Any]) -> Performance:
    """Return what `answer` was made of."""
    laps = [(float(count), float(seconds)) for count, seconds in sent["laps"]]
    energy = sent["energy"] and Energy.model_validate(sent["energy"])
    return Performance(Predictions(**sent["predictions"]), laps, float(sent["warmup_seconds"]), energy)


def _row(example: Example) -> list[Any]:
    prompt = example.prompt
    return [example.id, prompt.before, prompt.passage, prompt.after, prompt.context]


def _labeled(row: LabeledExample) -> list[Any]:
    return [*_row(row.example), row.label, row.rationale, row.counterfactuals, row.soft]


def _labeled_of(sent: list[Any]) -> LabeledExample:
    *row, label, why, against, soft = sent
    return LabeledExample(
        _example(*row), label, why, tuple((other, text) for other, text in against), soft and tuple(soft)
    )


def _example(name: str, before: str, passage: str, after: str, context: list[Any]) -> Example:
    return Example(name, Prompt(before, passage, after, tuple((first, last, cut) for first, last, cut in context)))
