"""Which parameters are trained: LoRA, all, the top N blocks, or the head alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.fourbit import factors
from dhrd_bench.contracts import Budget, Lora
from dhrd_bench.errors import UserError
from dhrd_bench.training.dropout import Dropout


class Tuning:
    """Prepares a backbone for training under ``budget.tuning`` and takes the result off it again.

    Trained parameters are float32 (an AdamW step is lost in bfloat16); frozen ones stay in the compute
    dtype. `frozen_blocks` is how many of the lower blocks no gradient reaches: their output for a
    sequence never changes while training.

    Raises
    ------
    UserError
        If what is to be trained is held in four bits, or LoRA is to adapt layers that the backbone has not.
    """

    def __init__(self, backbone: Backbone, budget: Budget, seed: int) -> None:
        if backbone.quantized:
            require_frozen(backbone.card.name, budget.tuning)
        backbone.reset()
        self.backbone = backbone
        self.mode = budget.tuning
        self.frozen_blocks = 0
        self._scale = budget.lora.alpha / budget.lora.r
        self._on: bool | None = None
        self._peft: Any = None
        if self.mode == "lora":
            self._peft = _inject_lora(backbone, budget, seed)
            named = [(n, p) for n, p in self._peft.named_parameters() if p.requires_grad]
        elif self.mode == "head":
            named, self.frozen_blocks = [], backbone.depth
        else:
            named = self._select(backbone)
            backbone.keep_original([name for name, _ in named])
        for _, parameter in named:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        self._checkpointed = budget.gradient_checkpointing and bool(named)
        if self._checkpointed:
            # The random state is put back for the second pass: it drops what the first one did.
            _checkpointing(backbone.model, "enable")({"use_reentrant": False, "preserve_rng_state": True})
        self.parameters: list[nn.Parameter] = [parameter for _, parameter in named]
        self._names = [name for name, _ in named]

    def _select(self, backbone: Backbone) -> list[tuple[str, nn.Parameter]]:
        named = list(backbone.model.named_parameters())
        if self.mode == "full":
            return named
        top = min(int(self.mode.removeprefix("top:")), backbone.depth)
        self.frozen_blocks = backbone.depth - top
        tuned = {parameter for module in backbone.top(top) for parameter in module.parameters()}
        return [(name, parameter) for name, parameter in named if parameter in tuned]

    def train(self, on: bool) -> None:
        """Switch dropout on or off."""
        if self._on is not on:  # there are a thousand modules to tell
            self.backbone.model.train(on)
            self._on = on

    def result(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the backbone weights that changed, in the compute dtype, and the adapters behind them.

        LoRA is merged (W + scale * B A, formed in float32), so that inference runs at the speed of
        the plain backbone. Beside weights in four bits it stays: to merge would be to round once more.
        """
        dtype = self.backbone.dtype
        if self._peft is None:
            pairs = zip(self._names, self.parameters, strict=True)
            return {name: parameter.detach().to(dtype).clone() for name, parameter in pairs}, {}
        adapters: dict[str, Tensor] = {}
        merged: dict[str, Tensor] = {}
        for name, module in self._peft.base_model.model.named_modules():
            if not hasattr(module, "lora_A"):
                continue
            adapters[f"{name}.lora_A"] = module.lora_A["default"].weight.detach().clone()
            adapters[f"{name}.lora_B"] = module.lora_B["default"].weight.detach().clone()
            if not self.backbone.quantized:
                weight, delta = module.base_layer.weight, module.get_delta_weight("default")
                merged[f"{name}.weight"] = (weight.float() + delta.float()).to(dtype)
        return factors(adapters, self._scale, dtype) if self.backbone.quantized else merged, adapters

    def close(self) -> None:
        """Put the backbone back as it was."""
        if self._checkpointed:
            _checkpointing(self.backbone.model, "disable")()
        self.backbone.reset()


def require_frozen(backbone: str, tuning: str) -> None:
    """Refuse a `tuning` that changes the weights of a backbone of this name, which are held in four bits.

    Raises
    ------
    UserError
        If it does.
    """
    if tuning not in ("lora", "head"):
        raise UserError(
            f"Backbone {backbone!r} is held in four bits, which are not trained, and the budget's tuning is {tuning}.",
            "Take tuning=lora or tuning=head, or leave quantize=nf4 out.",
        )


def _checkpointing(model: Any, what: str) -> Any:
    """Return the model's switch, under the name that it has in the installed transformers."""
    return getattr(model, f"activation_checkpointing_{what}", None) or getattr(model, f"gradient_checkpointing_{what}")


def _inject_lora(backbone: Backbone, budget: Budget, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = _targets(backbone, budget)
    config = LoraConfig(
        r=budget.lora.r,
        lora_alpha=budget.lora.alpha,
        lora_dropout=budget.lora.dropout,
        target_modules=targets,
        bias="none",
        task_type="FEATURE_EXTRACTION" if backbone.is_encoder else "CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = backbone.adapted = get_peft_model(backbone.model, config)
    # What torch draws is put back where activations are computed anew; what our dropout draws is not.
    if backbone.device.type == "cpu" and budget.lora.dropout and not budget.gradient_checkpointing:
        for module in adapted.modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = Dropout(budget.lora.dropout)
    return adapted


def _targets(backbone: Backbone, budget: Budget) -> list[str]:
    """Return the layers to adapt, and refuse such as the backbone has not: the others alone would be a weaker adapter.

    The default is all linear layers of a block as most decoders call them. Encoders agree on no names, so there it is
    all linear layers of a block whatever they are called.
    """
    if backbone.is_encoder and budget.lora.targets == Lora().targets:
        inner = {layer for layer in backbone.blocks.modules() if isinstance(layer, nn.Linear)}
        return [name for name, layer in backbone.model.named_modules() if layer in inner]
    present = {name.rpartition(".")[2] for name, _ in backbone.model.named_modules()}
    missing = [target for target in budget.lora.targets if target.rpartition(".")[2] not in present]
    if missing:
        layers = {n.rpartition(".")[2]: m for block in backbone.blocks for n, m in block.named_modules()}
        matrices = [name for name, layer in layers.items() if getattr(layer, "weight", torch.empty(0)).ndim == 2]
        raise UserError(
            f"LoRA is to adapt {', '.join(missing)}, and backbone {backbone.card.name!r} has no such layers.",
            f"Its layers are {', '.join(matrices)}: name some as the budget's lora.targets, or take another tuning.",
        )
    return list(budget.lora.targets)
