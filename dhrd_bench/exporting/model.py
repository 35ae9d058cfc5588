"""The classifier that the library has no class for: another head than one unbiased layer, or another pooling."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from dhrd_bench.modeling.heads import HeadKind, classification_head

Read = Literal["last", "first", "mean", "attention"]
"""How the states of an input become one: ``last`` and ``first`` are that of one token, padding aside."""


class PooledConfig(PretrainedConfig):  # type: ignore[misc]
    """What `PooledClassifier` is built from.

    Parameters
    ----------
    text_config
        Configuration of the backbone, or the dictionary of one.
    head
        Kind of the head, see `classification_head`.
    pooling
        How the states of an input become one.
    """

    model_type = "dhrd-pooled"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 - the library's own way to say it

    def __init__(self, text_config: Any = None, head: HeadKind = "mlp", pooling: Read = "last", **others: Any) -> None:
        self.text_config = AutoConfig.for_model(**text_config) if isinstance(text_config, dict) else text_config
        self.head, self.pooling = head, pooling
        super().__init__(**others)


class PooledClassifier(PreTrainedModel):  # type: ignore[misc]
    """A backbone, a pool and a head, as a method of this project has them.

    ``import dhrd_bench.exporting`` registers it, so that ``AutoModelForSequenceClassification`` and pipelines load
    it without running code from the folder.
    """

    config_class = PooledConfig
    base_model_prefix = "backbone"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = ("head", "pool")

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        width, classes = int(config.text_config.hidden_size), int(config.num_labels)
        self.backbone = AutoModel.from_config(config.text_config)
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None  # it is none of ours, and has no weights
        self.head = classification_head(config.head, width, classes, seed=0)
        self.pool = nn.Linear(width, 1, bias=False) if config.pooling == "attention" else None
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        """Return float32 logits ``(n, K)`` of token ids ``(n, L)``, padded on either side where the mask is 0."""
        output = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **others
        )
        states: Tensor = output.last_hidden_state
        if attention_mask is None:
            attention_mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
        with torch.autocast(states.device.type, enabled=False):
            logits = self.head(self._pooled(states.float(), attention_mask))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return one state an input ``(n, d)``."""
        if self.pool is not None:
            fits = self.pool(states)[..., 0] / states.shape[-1] ** 0.5
            weights = torch.softmax(fits.masked_fill(mask == 0, -torch.inf), -1)
        elif self.config.pooling == "mean":
            weights = mask / mask.sum(-1, keepdim=True)
        else:
            places = torch.arange(mask.shape[1], device=mask.device)
            real = torch.where(mask != 0, places, -1 if self.config.pooling == "last" else mask.shape[1])
            place = real.amax(-1) if self.config.pooling == "last" else real.amin(-1)
            weights = (places == place[:, None]).to(states.dtype)
        return (weights.to(states.dtype)[:, None, :] @ states)[:, 0]


def register() -> None:
    """Make the library's automatic classes know `PooledClassifier`."""
    AutoConfig.register(PooledConfig.model_type, PooledConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(PooledConfig, PooledClassifier, exist_ok=True)


register()
