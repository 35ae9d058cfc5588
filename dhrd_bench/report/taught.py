"""How many train rows had a rationale, where not all had one."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd


def taught_notes(cells: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence on the methods of `cells` that learn from rationales and had one for some rows only."""
    counts: dict[str, tuple[int, int]] = {}
    for method, data in zip(cells["method"], cells["data"], strict=True):
        taught = data.get("taught_rows")
        if taught is not None and taught < data["train_rows"]:
            had, rows = counts.get(str(method), (0, 0))
            counts[str(method)] = had + taught, rows + data["train_rows"]
    if counts:
        shares = ", ".join(f"{method} {100 * had / rows:.0f} %" for method, (had, rows) in sorted(counts.items()))
        yield f"Not all train rows had a rationale: of those of {shares}. The others taught by their label alone."
