"""Backbones: a decoder LM and its tokenizer by name, loaded once a process."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dhrd_bench.backbones.lookup import resolve
from dhrd_bench.contracts import BackboneCard

if TYPE_CHECKING:
    from dhrd_bench.backbones.backbone import Backbone, backbone_of
    from dhrd_bench.backbones.loading import load

__all__ = ["Backbone", "BackboneCard", "backbone_of", "load", "resolve"]

_HEAVY = {"Backbone": "backbone", "backbone_of": "backbone", "load": "loading"}
"""Modules of what needs torch: cards are read without it."""


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(f"{__name__}.{_HEAVY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
