"""Getting a backbone into memory."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dhrd_bench.backbones.agreement import check_agreement
from dhrd_bench.backbones.backbone import DTYPES, Backbone
from dhrd_bench.backbones.device import fast_bfloat16
from dhrd_bench.backbones.encoder import EncoderBackbone
from dhrd_bench.backbones.fourbit import loading_options
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
    """Load the backbone of a settled `card` into an object that no one else has, and see that it is run right.

    Raises
    ------
    UserError
        If it cannot be had, does not fit, or is not run right here.
    """
    try:
        backbone = _from_its_place(card)
        check_agreement(backbone)
    except torch.OutOfMemoryError as error:
        less = "Take a smaller one" if card.quantize else f"Hold it in four bits, {card.name}[quantize=nf4]"
        raise UserError(
            f"Backbone {card.name!r} does not fit into the free memory of {card.device}.",
            f"{less}, or free the device: over several cards it is not run.",
        ) from error
    return backbone


def _from_its_place(card: BackboneCard) -> Backbone:
    from transformers import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    location = locate(card)
    if card.random:
        model, tokenizer = random_model(card.random)
        model.to(DTYPES[card.dtype])
        if card.quantize:
            given = {"config": model.config, "state_dict": model.state_dict(), "dtype": DTYPES[card.dtype]}
            model = type(model).from_pretrained(None, **given, **loading_options(DTYPES[card.dtype], card.device))
        model.to(card.device)
    else:
        model, tokenizer = _from_folder(card, location)
    kind = EncoderBackbone if is_encoder(card, location) else Backbone
    return kind(card, model, tokenizer, location.revision)


@lru_cache(maxsize=4)
def is_encoder(card: BackboneCard, location: Location) -> bool:
    """Whether the backbone of `card` reads both ways: the library trains its kind by filling in masked tokens.

    False if that cannot be had; what is wrong then, `load` will say.
    """
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig

    if card.random:
        return card.random.encoder
    try:
        place, options = _arguments(card, location)
        config = AutoConfig.from_pretrained(place, **options)
    except (OSError, ValueError, UserError):
        return False
    other = getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False)
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not other


@lru_cache(maxsize=4)
def load_tokens(card: BackboneCard, location: Location) -> Tokens | None:
    """Return how the backbone of `card` makes tokens, without its weights; None if it cannot be had.

    What is wrong then, `load` will say.
    """
    from transformers import AutoTokenizer

    if card.random:
        return Tokens(byte_tokenizer(encoder=card.random.encoder), ends=card.random.encoder)
    try:
        place, options = _arguments(card, location)
        return Tokens(AutoTokenizer.from_pretrained(place, **options), ends=is_encoder(card, location))
    except (OSError, ValueError, UserError):
        return None


def _arguments(card: BackboneCard, location: Location) -> tuple[str, dict[str, Any]]:
    """Return the folder or hub id to load from, and the options of loading."""
    gguf = location.kind == "package" and Path(location.place).is_file()
    place = str(converted(Path(location.place))) if gguf else location.place
    options: dict[str, Any] = {"trust_remote_code": card.trust_remote_code}
    return place, options if Path(place).is_dir() else options | {"revision": location.revision}


def _from_folder(card: BackboneCard, location: Location) -> tuple[Any, Any]:
    """Return the model and the tokenizer."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    place, options = _arguments(card, location)
    weights = options | {"dtype": DTYPES[card.dtype], "use_safetensors": True}
    if card.quantize:
        weights |= loading_options(DTYPES[card.dtype], card.device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        if is_encoder(card, location):  # its attention is the library's best, a decoder's is this project's own
            model, found = AutoModel.from_pretrained(place, output_loading_info=True, **weights)
            _require_all(found["missing_keys"])
        else:
            model = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager", **weights)
        model.to(card.device)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"Backbone {card.name!r} could not be loaded: {_first_line(error)}.", how_to_get(card)
        ) from error
    return model, tokenizer


def _require_all(missing: Iterable[str]) -> None:
    """Refuse weights that the library has drawn at random, those of the pooler apart, which is not used."""
    drawn = sorted(name for name in missing if not name.startswith("pooler."))
    if drawn:
        raise ValueError(f"it holds no weights for {', '.join(drawn[:3])}{' and others' if drawn[3:] else ''}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
