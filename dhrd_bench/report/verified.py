"""Which methods of a board a maintainer has run again."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from dhrd_bench.report.figures import UNTAUGHT
from dhrd_bench.report.layout import Table

VERIFIED = "✓"


def verified_share(cells: pd.DataFrame, verified: frozenset[str]) -> dict[str, tuple[int, int]]:
    """Return by method how many of its cells are `verified`, and how many there are; methods with none are left out."""
    counts: dict[str, tuple[int, int]] = {}
    for method, identity in zip(cells["method"], cells["identity"], strict=True):
        known, every = counts.get(method, (0, 0))
        counts[method] = known + (identity in verified), every + 1
    return {method: (known, every) for method, (known, every) in counts.items() if known}


def with_marks(table: Table, shares: dict[str, tuple[int, int]]) -> Table:
    """Return the main table with a mark on each method all of whose cells were run again, and what it means."""
    if not shares:
        return table
    rows = []
    for row in table.rows:
        known, every = shares.get(row[1].main.removesuffix(UNTAUGHT), (0, 1))
        rows.append((row[0], replace(row[1], main=row[1].main + VERIFIED), *row[2:]) if known == every else row)
    parts = ", ".join(f"{method} {known} of {every}" for method, (known, every) in shares.items() if known < every)
    meaning = f"{VERIFIED} a maintainer has run its cells again with the same predictions."
    return replace(
        table, rows=tuple(rows), caption=(*table.caption, meaning + (f" In part: {parts}." if parts else ""))
    )
