"""The adapters of a classifier apart from its backbone, in the form of peft."""

from __future__ import annotations

from pathlib import Path

import torch

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Lora
from dhrd_bench.errors import UserError
from dhrd_bench.exporting.description import FILE, Description
from dhrd_bench.exporting.folder import whole_model, write_tokenizer
from dhrd_bench.modeling.fitted import Fitted
from dhrd_bench.results.store import write_text_atomically


def write_adapter(folder: Path, fitted: Fitted, backbone: Backbone, about: Description, lora: Lora) -> None:
    """Write the adapters and the head as a peft folder, with the tokenizer and the description of a whole export.

    Raises
    ------
    UserError
        If no adapters were trained, or they belong to weights in four bits.
    """
    from peft import LoraConfig, get_peft_model

    if not fitted.adapters:
        raise UserError("No adapters were trained, so there are none to keep apart.", "Export it without --adapter.")
    if backbone.quantized:
        raise UserError(
            "The adapters were trained on weights in four bits, and whoever loads them would put them onto others.",
            "Export it without --adapter: all weights are written out, the adapters merged.",
        )
    tokenizer = write_tokenizer(folder, backbone, about)
    backbone.reset()
    model = whole_model(fitted, backbone, about)
    model.config.pad_token_id = tokenizer.pad_token_id
    held = _held_at(backbone)
    names = sorted({name.rpartition(".")[0] for name in fitted.adapters})
    targets = [f"{model.base_model_prefix}.{name.removeprefix(held)}" for name in names]
    kept = [name for name in ("head", "pool", "score") if getattr(model, name, None) is not None]
    config = LoraConfig(
        task_type="SEQ_CLS", r=lora.r, lora_alpha=lora.alpha, target_modules=targets, modules_to_save=kept
    )
    adapted = get_peft_model(model, config)
    config.base_model_name_or_path = about.origin.hub_id or about.origin.backbone  # peft takes what the model says
    config.revision = about.origin.revision if about.origin.hub_id else None
    layers = dict(adapted.base_model.model.named_modules())
    with torch.no_grad():
        for target, name in zip(targets, names, strict=True):
            for side in ("lora_A", "lora_B"):
                getattr(layers[target], side)["default"].weight.copy_(fitted.adapters[f"{name}.{side}"])
    adapted.save_pretrained(folder, save_embedding_layers=False)
    model.config.save_pretrained(folder)
    write_text_atomically(folder / FILE, about.model_dump_json(indent=2) + "\n")


def _held_at(backbone: Backbone) -> str:
    """Return what stands before the names of the trunk's parts among those of the backbone's model."""
    name = next(name for name, module in backbone.model.named_modules() if module is backbone.trunk)
    return f"{name}." if name else ""
