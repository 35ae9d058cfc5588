"""Which backbone a name means; read without importing torch."""

from __future__ import annotations

from pathlib import Path

from dhrd_bench.cards import Reference
from dhrd_bench.contracts import BackboneCard
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.registry import backbones


def resolve(reference: str) -> BackboneCard:
    """Return the card of a registered name, a local folder or a hub id, with its settings applied.

    Raises
    ------
    UserError
        If `reference` is none of these.
    """
    ref = Reference.parse(reference)
    known = {name.lower(): name for name in backbones.names()}
    if ref.name.lower() in known:
        card = backbones.get(ref.name)
    elif Path(ref.name).is_dir():
        if not (Path(ref.name) / "config.json").is_file():
            raise UserError(
                f"The folder {ref.name} holds no model.", "It needs a config.json, as save_pretrained writes."
            )
        card = BackboneCard(name=Path(ref.name).resolve().name, hub_id=str(Path(ref.name).resolve()), revision="local")
    elif ref.name.count("/") == 1 and not ref.name.startswith((".", "/")):
        card = BackboneCard(name=ref.name, hub_id=ref.name)
    else:
        raise UserError(
            f"Unknown backbone {ref.name!r}.",
            f"{did_you_mean(ref.name, known.values())} A hub id (owner/name) or a local folder will do, too.",
        )
    return ref.apply(card, "Backbone")
