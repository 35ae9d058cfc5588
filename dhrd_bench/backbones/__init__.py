"""Backbones: a decoder LM and its tokenizer by name, loaded once a process."""

from dhrd_bench.backbones.card import BackboneCard, Gguf, resolve
from dhrd_bench.backbones.load import Backbone, load

__all__ = ["Backbone", "BackboneCard", "Gguf", "load", "resolve"]
