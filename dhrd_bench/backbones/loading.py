"""Getting a backbone into memory."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dhrd_bench.backbones.agreement import check_agreement
from dhrd_bench.backbones.backbone import DTYPES, Backbone
from dhrd_bench.backbones.device import fast_bfloat16
from dhrd_bench.backbones.gguf import converted
from dhrd_bench.backbones.location import Location, how_to_get, locate
from dhrd_bench.backbones.random_weights import byte_tokenizer, random_model
from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.contracts import BackboneCard
from dhrd_bench.errors import UserError

_loaded: dict[str, Backbone] = {}


def load(card: BackboneCard) -> Backbone:
    """Load the backbone of `card`; a second call in the same process returns the same object.

    Raises
    ------
    UserError
        If it is not on this machine and cannot be fetched; the message says how to get it. Or if its outputs here are
        not those of transformers.
    """
    card = settle(card)
    key = card.model_dump_json()
    if key not in _loaded:
        for other in _loaded.values():
            if other.engine is not None:
                other.engine.release()
        _loaded.clear()  # one backbone at a time: two would not fit beside each other at 8B
        _loaded[key] = load_fresh(card)
    return _loaded[key]


def settle(card: BackboneCard) -> BackboneCard:
    """Replace ``auto`` by what this machine does best.

    The rule looks at what the hardware supports, not at a stopwatch, so that a busy moment cannot
    change a cell's identity.
    """
    device = card.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = card.dtype
    if dtype == "auto":
        dtype = "bfloat16" if fast_bfloat16(device) else "float32"
    return card.model_copy(update={"device": device, "dtype": dtype})


def load_fresh(card: BackboneCard) -> Backbone:
    """Load the backbone of a settled `card` into an object that no one else has, and see that it is run right."""
    backbone = _from_its_place(card)
    check_agreement(backbone)
    return backbone


def _from_its_place(card: BackboneCard) -> Backbone:
    from transformers import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    location = locate(card)
    if card.random:
        model, tokenizer = random_model(card.random)
        return Backbone(card, model.to(card.device, DTYPES[card.dtype]), tokenizer, location.revision)
    return _from_folder(card, location)


@lru_cache(maxsize=4)
def load_tokens(card: BackboneCard, location: Location) -> Tokens | None:
    """Return how the backbone of `card` makes tokens, without its weights; None if it cannot be had.

    What is wrong then, `load` will say.
    """
    from transformers import AutoTokenizer

    if card.random:
        return Tokens(byte_tokenizer())
    try:
        place, options = _arguments(card, location)
        return Tokens(AutoTokenizer.from_pretrained(place, **options))
    except (OSError, ValueError, UserError):
        return None


def _arguments(card: BackboneCard, location: Location) -> tuple[str, dict[str, Any]]:
    """Return the folder or hub id to load from, and the options of loading."""
    place = str(converted(Path(location.place))) if location.kind == "package" else location.place
    options: dict[str, Any] = {"trust_remote_code": card.trust_remote_code}
    return place, options if Path(place).is_dir() else options | {"revision": location.revision}


def _from_folder(card: BackboneCard, location: Location) -> Backbone:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, options = _arguments(card, location)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModelForCausalLM.from_pretrained(
            place, dtype=DTYPES[card.dtype], attn_implementation="eager", use_safetensors=True, **options
        ).to(card.device)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"Backbone {card.name!r} could not be loaded: {_first_line(error)}.", how_to_get(card)
        ) from error
    return Backbone(card, model, tokenizer, location.revision)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
