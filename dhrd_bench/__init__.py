"""dhrd-bench: does distilling reasoning into a fast classifier pay?

What a contributor's method file needs is exported here. Heavy parts load on first use, so that
importing a method file imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dhrd_bench.contracts import (
    UNPARSABLE,
    Budget,
    Context,
    Example,
    LabeledExample,
    Method,
    MethodCard,
    MethodParams,
    Predictions,
    Prompt,
    TaskCard,
    TaskData,
    derive_seed,
)
from dhrd_bench.errors import UserError
from dhrd_bench.finetuned import FineTuned
from dhrd_bench.registry import register

if TYPE_CHECKING:
    from dhrd_bench.inference import classify, generate
    from dhrd_bench.training import Encoder, Fitted, Row, fine_tune

__version__ = "0.1.0"

_LAZY = {
    "Encoder": "dhrd_bench.training",
    "Fitted": "dhrd_bench.training",
    "Row": "dhrd_bench.training",
    "fine_tune": "dhrd_bench.training",
    "classify": "dhrd_bench.inference",
    "generate": "dhrd_bench.inference",
}

__all__ = [
    "UNPARSABLE",
    "Budget",
    "Context",
    "Encoder",
    "Example",
    "FineTuned",
    "Fitted",
    "LabeledExample",
    "Method",
    "MethodCard",
    "MethodParams",
    "Predictions",
    "Prompt",
    "Row",
    "TaskCard",
    "TaskData",
    "UserError",
    "classify",
    "derive_seed",
    "fine_tune",
    "generate",
    "register",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
