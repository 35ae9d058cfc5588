"""What training leaves: the weights that changed and the head."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Budget, TaskCard
from dhrd_bench.errors import UserError
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.heads import HeadKind, classification_head
from dhrd_bench.untrusted import parse_json


@dataclass(eq=False)
class Fitted:
    """A fine-tuned backbone, kept apart from the backbone itself.

    Attributes
    ----------
    card
        The task it was fitted on.
    weights
        Backbone parameters that differ from the original, by name, in the compute dtype.
    adapters
        The LoRA factors behind them, if that is what was trained.
    head_kind, head
        The classification head, if there is one.
    """

    card: TaskCard
    weights: dict[str, Tensor] = field(default_factory=dict)
    adapters: dict[str, Tensor] = field(default_factory=dict)
    head_kind: HeadKind | None = None
    head: nn.Sequential | None = None

    def activate(self, backbone: Backbone, budget: Budget) -> Encoder:
        """Put the weights into `backbone` (nothing happens if they are there) and return an encoder."""
        backbone.load_weights(self.weights, self)
        return Encoder(backbone, budget, self.card)

    def save(self, folder: Path) -> None:
        """Write the state as safetensors and JSON; LoRA is saved as its factors."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"adapter.{k}": v for k, v in self.adapters.items()}
        if not tensors:
            tensors = {f"weight.{k}": v for k, v in self.weights.items()}
        if self.head is not None:
            tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, folder / "fitted.safetensors")
        (folder / "fitted.json").write_text(json.dumps({"head": self.head_kind, "task": self.card.name}))

    @classmethod
    def load(cls, folder: Path, card: TaskCard, backbone: Backbone, budget: Budget) -> Fitted:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the folder holds something else.
        """
        try:
            return cls._read(folder, card, backbone, budget)
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{folder} holds no fitted method for {card.name!r}: {reason}.", "Delete it.") from error

    @classmethod
    def _read(cls, folder: Path, card: TaskCard, backbone: Backbone, budget: Budget) -> Fitted:
        tensors = load_file(folder / "fitted.safetensors", device=str(backbone.device))
        parts: dict[str, dict[str, Tensor]] = {"adapter": {}, "weight": {}, "head": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = tensor
        weights = parts["weight"]
        if parts["adapter"]:
            weights = merge_lora(backbone, parts["adapter"], budget.lora.alpha / budget.lora.r)
        kind = parse_json((folder / "fitted.json").read_bytes())["head"]
        head = None
        if kind:
            head = classification_head(kind, backbone.width, len(card.labels), seed=0).to(backbone.device)
            head.load_state_dict(parts["head"])
            head.eval()
        return cls(card, weights, parts["adapter"], kind, head)

    @torch.no_grad()
    def logits(self, pooled: Tensor) -> Tensor:
        """Return float32 class logits ``(n, K)`` of pooled states ``(n, d)``."""
        assert self.head is not None, "this method has no classification head"
        out: Tensor = self.head(pooled.float())
        return out


def merge_lora(backbone: Backbone, adapters: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the merged weights for saved `adapters`; the inverse of what training takes off the backbone."""
    backbone.reset()
    parameters = dict(backbone.model.named_parameters())
    merged = {}
    for key in (key for key in adapters if key.endswith(".lora_A")):
        name = key.removesuffix(".lora_A")
        weight = parameters[f"{name}.weight"]
        delta = scale * (adapters[f"{name}.lora_B"].to(weight.device) @ adapters[key].to(weight.device))
        if isinstance(backbone.model.get_submodule(name), Conv1D):  # GPT-2's linear layer: its weight is transposed
            delta = delta.T
        merged[f"{name}.weight"] = (weight.float() + delta.float()).to(backbone.dtype)
    return merged
