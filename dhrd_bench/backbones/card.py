"""What a backbone is called and where it comes from; read without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dhrd_bench.cards import Reference
from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.registry import backbones


class Gguf(Card):
    """A GGUF file that a Python package carries; the offline source of a backbone."""

    package: str
    module: str
    file: str


class Random(Card):
    """Shape of a randomly initialised Llama-style LM over bytes."""

    hidden_size: int
    layers: int
    heads: int
    seed: int


class BackboneCard(Card):
    """A backbone by name.

    Attributes
    ----------
    hub_id, revision
        Where the hub has it.
    gguf
        Where it is had without the hub.
    random
        For tests: weights from a seed, tokens are bytes.
    dtype
        ``auto`` is bfloat16 where the device multiplies it in hardware, else float32.
    device
        ``auto`` is CUDA if there is one, else the CPU.
    engine
        What runs inference; training always runs on the transformers model.
    trust_remote_code
        Whether code of the hub repository may run; never unless the user says so.
    """

    name: str
    hub_id: str = ""
    revision: str = "main"
    gguf: Gguf | None = None
    random: Random | None = None
    licence: str = ""
    parameters: str = ""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    engine: Literal["transformers", "vllm"] = "transformers"
    trust_remote_code: bool = False


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
