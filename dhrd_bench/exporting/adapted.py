"""Adapters that lie apart, put on their backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dhrd_bench.backbones import load as load_backbone
from dhrd_bench.backbones.lookup import resolve
from dhrd_bench.errors import UserError
from dhrd_bench.exporting.description import Description
from dhrd_bench.exporting.model import PooledClassifier

CONFIG = "adapter_config.json"
"""What peft writes into the folder of an adapter."""


def with_adapter(folder: Path, about: Description, backbone: str | None) -> Any:
    """Return the whole model of a peft folder: the adapters merged into the backbone that they belong to.

    Parameters
    ----------
    folder
        What ``export --adapter`` wrote.
    about
        Its description.
    backbone
        Name, hub id or folder of the backbone; None takes the one that the description names.
    """
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification

    base = load_backbone(resolve(backbone or about.origin.backbone))
    if base.revision != about.origin.revision:
        message = f"The adapters in {folder} belong to revision {about.origin.revision} of {about.origin.backbone}"
        raise UserError(f"{message}; this is {base.revision}.", "Name the backbone that they were trained on.")
    base.reset()
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForSequenceClassification.from_config(config, dtype=base.dtype)
    if isinstance(model, PooledClassifier):
        model.head.float()
    model.base_model.load_state_dict(base.trunk.state_dict())
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
