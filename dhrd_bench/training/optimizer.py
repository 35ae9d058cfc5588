"""The optimiser of a budget."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dhrd_bench.backbones.fourbit import require_bitsandbytes
from dhrd_bench.contracts import Budget
from dhrd_bench.errors import UserError


def require_optimizer(budget: Budget, device: str) -> None:
    """Refuse, before anything is loaded, an optimiser that this machine does not have for `device`.

    Raises
    ------
    UserError
        If it has not.
    """
    if budget.optimizer == "adamw":
        return
    wanted = f"optimizer={budget.optimizer}"
    if budget.optimizer.startswith("paged") and not device.startswith("cuda"):
        raise UserError(
            f"{wanted} moves its moments between a card and the host, and the device is {device}.",
            "Take optimizer=adamw_8bit, or leave it out.",
        )
    require_bitsandbytes(wanted)


def make_optimizer(parameters: list[nn.Parameter], budget: Budget, device: torch.device) -> torch.optim.Optimizer:
    """Return AdamW with no decay on norms and biases, as Hugging Face's trainer has it.

    Its moments are float32, or blocks of 8 bits for parameters of at least 4096 numbers.

    Raises
    ------
    UserError
        If there is nothing to train, or this machine has no such optimiser.
    """
    if not parameters:
        raise UserError(
            f"tuning={budget.tuning} leaves nothing to train: the method learns through the backbone, without a head.",
            "Take another tuning for it, such as tuning=lora.",
        )
    require_optimizer(budget, str(device))
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": budget.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if budget.optimizer != "adamw":
        from bitsandbytes.optim import AdamW8bit

        paged = budget.optimizer.startswith("paged")
        optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=budget.learning_rate, is_paged=paged)
        return optimizer
    rate: Any = budget.learning_rate
    options: dict[str, Any] = {}
    if device.type == "cuda":
        # A recorded step reads its rate from the device.
        rate, options = torch.tensor(rate, device=device), {"fused": True, "capturable": True}
    return torch.optim.AdamW(groups, lr=rate, **options)
