"""What the rationales behind a leaderboard are, as their audit says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dhrd_bench.errors import shown
from dhrd_bench.results.store import read_regular
from dhrd_bench.untrusted import leads_out, parse_json

AUDITS = "audits"
"""Folder of the results in which ``rationales audit --output`` files are looked for."""


def badges(results: Path, cells: pd.DataFrame) -> tuple[str, ...]:
    """Return the badge of every audit of rationales that `cells` were trained on.

    An audit belongs to a cell if it holds the fingerprint of the very rationales the cell had.

    Parameters
    ----------
    results
        Folder of the records; audits are the JSON files of its ``audits``.
    cells
        Cells of one leaderboard, with their ``data``.
    """
    used = {data.get("rationale_fingerprint") for data in cells["data"]}
    lines = []
    for path in sorted((results / AUDITS).glob("*.json")):
        try:
            if leads_out(path, results):
                raise ValueError("a link")
            audit = parse_json(read_regular(path))
            seen = {str(task["rationale_fingerprint"]) for task in audit["tasks"]}
            badge = shown(str(audit["badge"]))
        except (OSError, ValueError, KeyError, TypeError):
            lines.append(f"{shown(path.name)} is no audit of rationales; write it anew with rationales audit --output.")
            continue
        if used & seen:
            lines.append(badge)
    return tuple(lines)
