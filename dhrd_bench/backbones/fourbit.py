"""Weights in four bits: NF4 with double quantisation (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes.

The linear layers of the blocks are held so, and never change. Their products are made in the compute dtype, in which
embeddings, norms and the LM head are held, too. What training adds stays beside them, as adapters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dhrd_bench.errors import UserError

# It warns whoever imports it, as peft does, of a kernel for CPUs that is not used here: see `keep_as_loaded`.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def require_bitsandbytes(wanted: str) -> Any:
    """Return the library.

    Raises
    ------
    UserError
        If it cannot be imported; it says that it is `wanted` for, and what to install.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        message = f"{wanted} needs bitsandbytes, which cannot be imported ({error})."
        raise UserError(message, "pip install 'dhrd-bench[quant]'") from None
    return bitsandbytes


def loading_options(dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Return what ``from_pretrained`` is told to hold the weights in four bits: it quantises where they come to lie."""
    require_bitsandbytes("quantize=nf4")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_as_loaded(model: nn.Module) -> None:
    """Have every layer stay as it was loaded.

    On CPUs with bfloat16 instructions the library would lay weights out anew the first time that they are read without
    gradients; from then on it computes in bfloat16 whatever the dtype is, and lets no gradient through (0.50).
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def factors(adapters: Mapping[str, Tensor], scale: float, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the factors of adapters, their scale with ``lora_B``, as weights beside those of four bits."""
    return {name: (each * scale if name.endswith("B") else each).to(dtype) for name, each in adapters.items()}


def with_adapters(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """Put adapters of these `factors` into `model`; return what peft has put around it, whose ``unload`` undoes it."""
    from peft import LoraConfig, get_peft_model

    rank = next(each for name, each in weights.items() if name.endswith("A")).shape[0]
    names = sorted({name.rpartition(".")[0] for name in weights})
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names, inference_mode=True)
    # It draws values first; and what is made in inference mode serves nowhere else.
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
        layers = dict(adapted.base_model.model.named_modules())
        for name, tensor in weights.items():
            place, _, side = name.rpartition(".")
            getattr(layers[place], side)["default"].weight.data = tensor.clone()
    return adapted.eval()


def numbers(parameter: Tensor) -> int:
    """Return how many weights a parameter holds, of which two may be one byte."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else int(packed.shape.numel())


def plain_state(trunk: nn.Module) -> dict[str, Tensor]:
    """Return the weights of `trunk` by name as a plain model of its kind holds them.

    What is held in four bits is written out in the compute dtype, and the adapters beside it are added (in float32):
    the same function, in as much memory as it takes without quantising.
    """
    state: dict[str, Tensor] = dict(trunk.state_dict())
    for name, layer in trunk.named_modules():
        base: Any = getattr(layer, "base_layer", layer)
        packed = hasattr(getattr(base, "weight", None), "quant_state")
        if name.endswith(".base_layer") or (base is layer and not packed):
            continue
        weight = _written_out(base) if packed else base.weight
        if base is not layer:
            weight = (weight.float() + layer.get_delta_weight("default").float()).to(weight.dtype)
        if packed and issubclass(base.source_cls, Conv1D):  # GPT-2's linear layer: its weight is transposed
            weight = weight.T
        state = {key: each for key, each in state.items() if not key.startswith(f"{name}.")}
        state |= {f"{name}.weight": weight} | ({} if base.bias is None else {f"{name}.bias": base.bias})
    return state


def _written_out(layer: Any) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit

    weight: Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(layer.compute_dtype)
    return weight
