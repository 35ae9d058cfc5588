"""What training leaves: the weights that changed and the head."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.fingerprint import sha256_of
from dhrd_bench.backbones.fourbit import factors
from dhrd_bench.contracts import Budget, TaskCard
from dhrd_bench.errors import UserError
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.heads import HeadKind, classification_head
from dhrd_bench.modeling.pooling import Pool, Pooling, make_pool
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.untrusted import parse_json

_WEIGHTS, _ABOUT = "fitted.safetensors", "fitted.json"


@dataclass(eq=False)
class Fitted:
    """A fine-tuned backbone, kept apart from the backbone itself.

    Attributes
    ----------
    card
        The task it was fitted on.
    weights
        Backbone parameters that differ from the original, by name, in the compute dtype; where they are held in four
        bits, the `factors` of the adapters beside them.
    adapters
        The LoRA factors behind them, if that is what was trained.
    head_kind, head
        The classification head, if there is one.
    pooling, pool
        How the states of an input become the one that the head reads; ``custom`` is a contributor's own module.
    pause
        Fillers behind each input.
    """

    card: TaskCard
    weights: dict[str, Tensor] = field(default_factory=dict)
    adapters: dict[str, Tensor] = field(default_factory=dict)
    head_kind: HeadKind | None = None
    head: nn.Sequential | None = None
    pooling: Pooling | Literal["custom"] = "last"
    pool: Pool = None
    pause: int = 0

    def activate(self, backbone: Backbone, budget: Budget) -> Encoder:
        """Put the weights into `backbone` (nothing happens if they are there) and return an encoder."""
        backbone.load_weights(self.weights, self)
        return Encoder(backbone, budget, self.card, pause=self.pause)

    def save(self, folder: Path) -> None:
        """Write the state as safetensors, and JSON with their digest; LoRA is saved as its factors."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"adapter.{k}": v for k, v in self.adapters.items()}
        if not tensors:
            tensors = {f"weight.{k}": v for k, v in self.weights.items()}
        if self.head is not None:
            tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        if self.pool is not None:
            tensors |= {f"pool.{k}": v for k, v in self.pool.state_dict().items()}
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, folder / _WEIGHTS)
        settings = {"head": self.head_kind, "task": self.card.name, "pooling": self.pooling, "pause": self.pause}
        about = settings | {"sha256": sha256_of(folder / _WEIGHTS)}
        write_text_atomically(folder / _ABOUT, with_checksum(json.dumps(about)))

    @classmethod
    def load(cls, folder: Path, card: TaskCard, backbone: Backbone, budget: Budget, pool: Pool = None) -> Fitted:
        """Read what `save` wrote; a contributor's own `pool` is handed in and takes its values from there.

        Raises
        ------
        UserError
            If a file is not there, or not as it was written; or if there was such a pool, and none is handed in.
        """
        settings, tensors = _read(folder, str(backbone.device))
        if settings.get("pooling") == "custom" and pool is None:
            raise UserError(f"{folder} was fitted with a pool of its own.", "Hand the module in as `pool`.")
        try:
            return cls._assembled(settings, tensors, card, backbone, budget, pool)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{folder} holds no fitted method for {card.name!r}: {reason}.", "Delete it.") from error

    @classmethod
    def _assembled(
        cls,
        settings: dict[str, Any],
        tensors: dict[str, Tensor],
        card: TaskCard,
        backbone: Backbone,
        budget: Budget,
        pool: Pool,
    ) -> Fitted:
        parts: dict[str, dict[str, Tensor]] = {"adapter": {}, "weight": {}, "head": {}, "pool": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        weights = parts["weight"]
        if parts["adapter"]:
            weights = merge_lora(backbone, parts["adapter"], budget.lora.alpha / budget.lora.r)
        kind, pooling = settings["head"], settings.get("pooling", "last")
        if pooling != "custom":
            pool = make_pool(pooling, backbone.width, seed=0)
        if pool is not None:
            pool.load_state_dict(parts["pool"])
            pool.to(backbone.device).eval()
        head = None
        if kind:
            head = classification_head(kind, backbone.width, len(card.labels), seed=0).to(backbone.device)
            head.load_state_dict(parts["head"])
            head.eval()
        return cls(card, weights, parts["adapter"], kind, head, pooling, pool, settings.get("pause", 0))

    @torch.no_grad()
    def logits(self, pooled: Tensor) -> Tensor:
        """Return float32 class logits ``(n, K)`` of pooled states ``(n, d)``."""
        assert self.head is not None, "this method has no classification head"
        out: Tensor = self.head(pooled.float())
        return out


def _read(folder: Path, device: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings and all tensors of what `Fitted.save` wrote."""
    try:
        about: dict[str, Any] = parse_json(without_checksum((folder / _ABOUT).read_bytes()))
        if about.get("sha256") not in (None, sha256_of(folder / _WEIGHTS)):  # once there was none
            raise ValueError(f"{_WEIGHTS} has another digest than when it was written")
        return {"head": about["head"]} | about, load_file(folder / _WEIGHTS, device=device)
    except (OSError, ValueError, LookupError, AttributeError, SafetensorError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"What was fitted cannot be read from {folder}: {reason}.", "Fit and save it again.") from error


def merge_lora(backbone: Backbone, adapters: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the merged weights for saved `adapters`; the inverse of what training takes off the backbone.

    Weights in four bits take nothing up: there they are the adapters' factors.
    """
    if backbone.quantized:
        return factors(adapters, scale, backbone.dtype)
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
