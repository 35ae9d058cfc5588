"""The cells of a board as data: an index of all, and what there is of each row, by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dhrd_bench.errors import UserError, shown
from dhrd_bench.results.predictions import read_texts
from dhrd_bench.results.schema import Cell
from dhrd_bench.results.store import record_path
from dhrd_bench.results.table import CELL, LongTable
from dhrd_bench.stats.probabilities import as_probabilities

if TYPE_CHECKING:  # what reads data may need libraries that a page does without
    from dhrd_bench.data.inputs import Inputs, InputSource

_LONGEST = 4000
"""Characters of a text on a page."""


def index_of(cells: pd.DataFrame) -> dict[str, list[Any]]:
    """Return what a list of cells shows, in columns."""
    columns = ["task", "method", "seed", "status", "score", "qps", "finished"]
    found: dict[str, list[Any]] = {
        name: [None if value is None or value != value else value for value in cells[name].tolist()] for name in columns
    }
    # What reads nothing of its input answers as fast as it is asked: no throughput to compare.
    found["qps"] = [None if tokens == 0 else qps for qps, tokens in zip(found["qps"], cells["tokens_in"], strict=True)]
    found["error"] = [error or "" for error in cells["error"].tolist()]
    found["train_rows"] = [data.get("train_rows") for data in cells["data"]]
    found["epochs"] = [[_dev(epoch) for epoch in train.get("epochs") or []] for train in cells["train"]]
    return found


def _dev(epoch: dict[str, float]) -> float | None:
    """Return the dev score of an epoch: the mean of its metrics."""
    scores = [value for name, value in epoch.items() if name.startswith("dev_") and "loss" not in name]
    return float(np.mean(scores)) if scores else None


class TaskCells:
    """The cells of one task of one board, with their rows.

    What many cells have in common (rows, settings, surroundings) is there once, and pointed at.
    """

    def __init__(self, table: LongTable, cells: pd.DataFrame, rows: pd.DataFrame, source: InputSource | None) -> None:
        self.folder = table.folder
        self.cells, self.rows = cells, rows
        self.source = source
        first = cells.iloc[0]
        self.classes = table.tasks[first["suite"], first["task"]].labels
        self._shared: list[Any] = []
        self._places: dict[str, int] = {}

    def data(self) -> dict[str, Any]:
        """Return the data of the pages of these cells."""
        inputs = self._inputs()
        of_cell = dict(iter(self.rows.groupby(["method", "seed"], observed=True))) if len(self.rows) else {}
        found = [
            self._cell(cell, of_cell.get((cell["method"], cell["seed"])), inputs)
            for cell in self.cells.to_dict("records")
        ]
        return {
            "classes": self.classes,
            "licence": inputs.licence if inputs else "",
            "reason": inputs.reason if inputs else "",
            "cells": found,
            "shared": self._shared,
        }

    def _inputs(self) -> Inputs | None:
        first = self.cells.iloc[0]
        asked = {(parts["task"]["prompt"], parts["task"]["fingerprint"]) for parts in self.cells["parts"]}
        if self.source is None or len(asked) > 1:  # several prompts or versions of the rows have no text in common
            return None
        ((prompt, fingerprint),) = asked
        return self.source.of(str(first["suite"]), str(first["task"]), prompt, fingerprint)

    def _cell(self, cell: Mapping[Any, Any], rows: pd.DataFrame | None, inputs: Inputs | None) -> dict[str, Any]:
        parts, data = dict(cell["parts"]), cell["data"]
        place = record_path(Path(), Cell(**{name: cell[name] for name in CELL}))
        about = {name: parts.pop(name) for name in ("method", "budget")}
        found: dict[str, Any] = {
            "method": cell["method"],
            "seed": int(cell["seed"]),
            "identity": cell["identity"],
            "path": place.as_posix(),
            "metrics": cell["metrics"],
            "unparsable": cell["unparsable"],
            "tokens": [cell["tokens_in"], cell["tokens_out"]],
            "train": cell["train"],
            "energy": cell["energy"],
            "isolation": cell["isolation"],
            "settings": self._once(about["budget"]),
            "about": self._once({"summary": cell["summary"], "paper": cell["paper"], **about["method"]}),
            "parts": self._once({**parts["backbone"], **parts["task"], "harness": parts["harness"]}),
            "data": self._once(data),
            "environment": self._once(cell["environment"]),
        }
        if rows is None:
            return found
        ids = rows["example"].tolist()
        given = self._once({
            "id": ids, "label": rows["label"].tolist(), "text": _texts(ids, inputs.texts if inputs else {}),
            "why": _texts(ids, inputs.rationales if inputs else {}),
        })  # fmt: skip
        found |= {"rows": given, "answer": rows["prediction"].tolist()}
        found["sure"] = _sure(cell["scores"], rows["prediction"].to_numpy(), len(self.classes))
        if inputs and inputs.open and (wrote := self._wrote(place)):
            found["wrote"] = [_cut(_written(wrote, name, self.classes)) for name in ids]
        return found

    def _wrote(self, place: Path) -> dict[str, str]:
        if self.folder is None:
            return {}
        try:
            return read_texts(self.folder / place)
        except (UserError, OSError):  # the record does without
            return {}

    def _once(self, value: Any) -> int:
        key = repr(value)
        if key not in self._places:
            self._places[key] = len(self._shared)
            self._shared.append(value)
        return self._places[key]


def _texts(ids: Sequence[str], texts: Mapping[str, str]) -> list[str | None] | None:
    return [_cut(texts.get(name)) for name in ids] if texts else None


def _written(wrote: dict[str, str], name: str, classes: Sequence[str]) -> str | None:
    if name in wrote:
        return wrote[name]
    parts = [f"{each}: {wrote[key]}" for each in classes if (key := f"{name}:{each}") in wrote]
    return "\n".join(parts) or None


def _sure(scores: Any, answers: Any, classes: int) -> list[float] | None:
    """Return the probability of each answer, of the likeliest class where it could not be read."""
    read = as_probabilities(scores, len(answers), classes)
    if isinstance(read, str):
        return None
    own = np.where(answers >= 0, read[np.arange(len(answers)), np.maximum(answers, 0)], read.max(axis=1))
    return [round(share, 3) for share in own.tolist()]


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]} …"


def tasks_of(cells: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the tasks of a board with their cells, each in the order of methods and seeds."""
    for task, own in cells.sort_values(["task", "method", "seed"]).groupby("task", sort=True, observed=True):
        yield shown(str(task)), own
