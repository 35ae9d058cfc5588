"""Running a record's cell once more and comparing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhrd_bench.backbones.lookup import resolve
from dhrd_bench.cards import Reference
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.request import Options, RunRequest, read_request
from dhrd_bench.results.schema import CellRecord, Rows

FLIPS = {"float32": 0.02, "bfloat16": 0.10, "float16": 0.05}
"""Share of the rows whose class may differ on another machine or with other versions, by dtype: rounding that
differs in the first optimiser step grows over training."""


@dataclass(frozen=True)
class Comparison:
    """Two runs of one cell.

    Attributes
    ----------
    identical
        Whether all predictions and scores are the same, to the last digit that a record keeps.
    flips, rows
        Rows whose predicted class differs, of how many.
    distance
        Largest difference of two scores, relative to the larger of 1 and their size; 0 without scores.
    tolerance
        Share of the rows that may flip.
    """

    identical: bool
    flips: int
    rows: int
    distance: float
    tolerance: float

    @property
    def close(self) -> bool:
        """Whether no more rows flip than may."""
        return self.flips <= self.tolerance * self.rows


def plan_again(record: CellRecord, options: Options) -> Plan:
    """Return the plan of the one cell of `record`, as this machine would run it now, its record aside.

    Raises
    ------
    UserError
        If a name is unknown here, or the data are missing.
    """
    if record.foreign is not None:
        message = f"The record was made of a log of {record.foreign.tool}: there is nothing here to run again."
        raise UserError(message, "Run that harness again, and import its log.")
    # A record is data: no folder of plug-ins and no file is opened because one names it.
    asked = (record.request or RunRequest()).without_places(record.cell.backbone)
    asked = asked.model_copy(
        update={
            "methods": (record.cell.method,),
            "suite": record.cell.suite,  # with its settings
            "prompt": None,
            "tasks": (record.cell.task,),
            "backbone": _as_run(record.cell.backbone, record.parts.backbone.dtype),
            "budget": record.cell.budget,
            "seeds": (record.cell.seed,),
            "rationales": None,
            "stores": {},
            "allow_missing_rationales": True,  # as it was: the record is there
            "throughput": (),
            "isolation": "auto",
            "cell_timeout": None,
            "processes": record.parts.processes or 1,
            "energy": "counters",
        }
    )
    request = read_request(None, options)
    places = {
        key: getattr(request, key)
        for key in ("data_dir", "include", "rationales", "stores", "backbone")
        if options.get(key)
    }
    if "backbone" not in places and resolve(asked.backbone).trust_remote_code:
        message = f"The record asks that code of the hub be run: {asked.backbone}."
        raise UserError(message, "If you trust it, name the backbone yourself with --backbone.")
    plan = make_plan(asked.model_copy(update=places))
    if record.request and record.request.rationales and not plan.request.rationales:
        raise UserError(
            f"The cell was trained on the rationale store {record.request.rationales!r}.",
            "Name its folder with --rationales.",
        )
    return plan


def _as_run(backbone: str, dtype: str) -> str:
    """Return the reference to `backbone` with the dtype that a machine chose when it was left to it."""
    reference = Reference.parse(backbone)
    return str(Reference(reference.name, tuple(sorted((dict(reference.options) | {"dtype": dtype}).items()))))


def compare(before: Rows, after: Rows, dtype: str) -> Comparison:
    """Compare the outcomes of two runs, row by row.

    Raises
    ------
    UserError
        If they are not about the same rows.
    """
    if before.id != after.id:
        raise UserError("The two runs were tested on different rows.", "The data have changed since.")
    flips = sum(old != new for old, new in zip(before.prediction, after.prediction, strict=True))
    distance = 0.0
    if before.score is not None and after.score is not None:
        old_scores, new_scores = np.array(before.score), np.array(after.score)
        size = np.maximum(1.0, np.maximum(np.abs(old_scores), np.abs(new_scores)))
        distance = float((np.abs(old_scores - new_scores) / size).max(initial=0.0))
    identical = before.prediction == after.prediction and before.score == after.score
    return Comparison(identical, flips, len(before.id), distance, FLIPS.get(dtype, FLIPS["float32"]))


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield a line for each value that differs between two nested mappings, as ``packages.torch: 2.8 -> 2.9``."""
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {'-' if old is None else old} -> {'-' if new is None else new}"
