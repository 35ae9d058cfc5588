"""What the rationales behind a leaderboard are, as their audit says."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

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
            audit = json.loads(path.read_text(encoding="utf-8"))
            seen = {task["rationale_fingerprint"] for task in audit["tasks"]}
            badge = str(audit["badge"])
        except (OSError, ValueError, KeyError, TypeError):
            lines.append(f"{path.name} is no audit of rationales; write it anew with rationales audit --output.")
            continue
        if used & seen:
            lines.append(badge)
    return tuple(lines)
