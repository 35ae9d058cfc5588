"""Data as files that a page loads by script tags: a page that is opened from disk may fetch nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from dhrd_bench.stats.intervals import Estimate

_DIGITS = 6


def shard(name: str, value: Any) -> str:
    """Return the script that hands `value` to the page under `name`.

    The page parses a text and never runs a literal: in a literal a key ``__proto__`` is more than a key. All of it is
    ASCII, and nothing in it ends a script element.
    """
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("<", "\\x3c")
    return f"dhrd.receive({json.dumps(name)}, '{quoted}');\n"


def plain(value: Any) -> Any:
    """Return `value` as JSON has it: six digits a number, None for what is none, lists for estimates."""
    if isinstance(value, Estimate):
        # [value] has no interval; an end that is None lies at infinity.
        ends = [] if value.low is None or value.high is None else [value.low, value.high]
        return [plain(number) for number in (value.value, *ends)]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
