"""Which finished cells can be used at all; a record may have been written, or edited, by anything."""

from __future__ import annotations

import math

import pandas as pd

from dhrd_bench.results.table import LongTable
from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import Group


def usable(table: LongTable, group: Group, cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return those of the finished `cells` of `group` that can be scored, and say in `notes` why others cannot."""
    rows = table.rows
    same = [rows[name] == getattr(group, name) for name in ("suite", "backbone", "budget")]
    rows = rows[same[0] & same[1] & same[2]]
    infos = {task: info for (suite, task), info in table.tasks.items() if suite == group.suite}
    classes = rows["task"].astype(object).map({task: len(info.labels) for task, info in infos.items()})
    strange = (rows["label"] < 0) | (rows["label"] >= classes)
    strange |= (rows["prediction"] < -1) | (rows["prediction"] >= classes)
    key = ["method", "task", "seed"]
    there = set(rows[key].drop_duplicates().itertuples(index=False, name=None))
    outside = set(rows.loc[strange, key].drop_duplicates().itertuples(index=False, name=None))
    keep = []
    for method, task, seed, metrics in zip(*(cells[name] for name in (*key, "metrics")), strict=True):
        cell, wanted = (method, task, seed), infos[task].metrics
        # Metrics of ours are computed from the rows; others are taken as recorded.
        undefined = [] if known(wanted) else [name for name in wanted if not _finite(metrics.get(name))]
        why = (
            "no test row is recorded"
            if cell not in there
            else "a label or prediction is none of the task's classes"
            if cell in outside
            else f"{', '.join(undefined)} is no number"
            if undefined
            else ""
        )
        keep.append(not why)
        if why:
            notes.append(f"{method} on {task}, seed {seed}, left out: {why}.")
    return cells[keep]


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
