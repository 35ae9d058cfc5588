"""Which finished cells can be used at all; a record may have been written, or edited, by anything."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import Ints
from dhrd_bench.stats.pairing import Pairing


def usable(pairing: Pairing, cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return those of the finished `cells` that can be scored, and say in `notes` why others cannot."""
    keep = []
    for method, task, seed, metrics in zip(
        *(cells[name] for name in ("method", "task", "seed", "metrics")), strict=True
    ):
        info, cell = pairing.infos[task], (method, task, seed)
        # Metrics of ours are computed from the rows; others are taken as recorded.
        undefined = [] if known(info.metrics) else [name for name in info.metrics if not _finite(metrics.get(name))]
        why = (
            "no test row is recorded"
            if cell not in pairing.at
            else "a label or prediction is none of the task's classes"
            if _strange(pairing, pairing.rows_of(cell), len(info.labels))
            else f"{', '.join(undefined)} is no number"
            if undefined
            else ""
        )
        keep.append(not why)
        if why:
            notes.append(f"{method} on {task}, seed {seed}, left out: {why}.")
    return cells[keep]


def _strange(pairing: Pairing, rows: Ints, classes: int) -> bool:
    labels, predictions = pairing.label[rows], pairing.prediction[rows]
    return bool(labels.min() < 0 or predictions.min() < -1 or np.maximum(labels, predictions).max() >= classes)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
