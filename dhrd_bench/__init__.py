"""A benchmark of distilling reasoning into fast classifiers.

What a contributor's method file needs is exported here. Everything loads on first use, so that
neither ``--help`` nor importing a method file imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from dhrd_bench.inference import chat_turn, classify, generate, parse_free_answer, score_labels
    from dhrd_bench.registry import method, register
    from dhrd_bench.shuffling import derange
    from dhrd_bench.training import Encoder, Fitted, Row, fine_tune

__version__ = "0.1.0"

_PLACES = {
    "contracts": (
        "UNPARSABLE", "Budget", "Context", "Example", "LabeledExample", "Method", "MethodCard", "MethodParams",
        "Predictions", "Prompt", "TaskCard", "TaskData", "derive_seed",
    ),
    "errors": ("UserError",),
    "finetuned": ("FineTuned",),
    "inference": ("chat_turn", "classify", "generate", "parse_free_answer", "score_labels"),
    "registry": ("method", "register"),
    "shuffling": ("derange",),
    "training": ("Encoder", "Fitted", "Row", "fine_tune"),
}  # fmt: skip
_MODULES = {name: f"dhrd_bench.{module}" for module, names in _PLACES.items() for name in names}

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
    "chat_turn",
    "classify",
    "derange",
    "derive_seed",
    "fine_tune",
    "generate",
    "method",
    "parse_free_answer",
    "register",
    "score_labels",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
