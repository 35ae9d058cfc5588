"""Backbones: a decoder LM and its tokenizer by name, loaded once a process."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dhrd_bench.backbones.lookup import resolve
from dhrd_bench.contracts import BackboneCard

if TYPE_CHECKING:
    from dhrd_bench.backbones.loading import Backbone, load

__all__ = ["Backbone", "BackboneCard", "load", "resolve"]


def __getattr__(name: str) -> Any:
    if name in ("Backbone", "load"):  # cards are read without torch; weights are not
        return getattr(import_module("dhrd_bench.backbones.loading"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
