"""A decoder LM in memory, and back in its original state between cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dhrd_bench.backbones.packed import PACKED, packed_forward
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.contracts import BackboneCard, Context

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Holder(Protocol):
    """Something that may hold a copy of the backbone's weights: an inference engine."""

    def release(self) -> None:
        """Let go of the copy."""


class Backbone:
    """A decoder LM with its tokenizer.

    Attributes
    ----------
    card
        What was asked for.
    model
        A Hugging Face causal LM in eval mode, all weights frozen.
    tokenizer
        Its tokenizer; `pad_id` is never the end-of-text token.
    tokens
        The tokenizer as texts go through it.
    revision
        Hub commit, or a fingerprint of the local weights.
    engine
        The engine that inference runs on, made when it is first needed (`dhrd_bench.inference.engine`).
    """

    def __init__(self, card: BackboneCard, model: Any, tokenizer: Any, revision: str) -> None:
        self.card = card
        self.model = model
        self.tokenizer = tokenizer
        self.tokens = Tokens(tokenizer)
        self.revision = revision
        self.pad_id = _pad_id(tokenizer)
        self.eos_id = int(tokenizer.eos_token_id)
        self._originals: dict[str, Tensor] = {}
        self.frozen_states: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        self.loaded_weights: object | None = None
        self.engine: Holder | None = None
        model.requires_grad_(False)
        model.eval()
        model.set_attn_implementation(PACKED)

    @property
    def dtype(self) -> torch.dtype:
        """Compute dtype; parameters being trained are kept in float32."""
        return DTYPES[self.card.dtype]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return torch.device(self.card.device)

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return int(self.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return len(self.model.model.layers)

    def encode(self, text: str, prefix: str = "", suffix: str = "") -> list[int]:
        """Return the token ids of `text`; see `Tokens.encode`."""
        return self.tokens.encode(text, prefix, suffix)

    def encode_parts(self, parts: Sequence[str], prefix: str = "", suffix: str = "") -> list[list[int]]:
        """Return the token ids of each of `parts` of a text; see `Tokens.encode_parts`."""
        return self.tokens.encode_parts(parts, prefix, suffix)

    def begun(self, ids: list[int]) -> list[int]:
        """Return `ids` behind what begins a sequence; see `Tokens.begun`."""
        return self.tokens.begun(ids)

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def hidden(
        self,
        states: Tensor,
        lengths: list[int],
        start: int = 0,
        stop: int | None = None,
        branches: tuple[int, ...] = (),
        slots: Slots | None = None,
    ) -> Tensor:
        """Run blocks `start` to `stop` over packed sequences; see `packed_forward`."""
        return packed_forward(self.model.model, states, lengths, start, stop, branches, slots)

    @property
    def head_weight(self) -> Tensor:
        """The LM head's weight, ``(V, d)``."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    def load_weights(self, weights: Mapping[str, Tensor], owner: object) -> None:
        """Put `weights` of `owner` in place of the original ones, and all others back to the original.

        Nothing is copied if `owner` is in place already.
        """
        if self.loaded_weights is owner:
            return
        self.reset()
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights.items():
                self._keep(name, parameters[name])
                parameters[name].copy_(tensor)
        self.loaded_weights = owner

    def keep_original(self, names: Iterator[str] | list[str]) -> None:
        """Remember the present values of the named parameters, so that `reset` can restore them."""
        parameters = dict(self.model.named_parameters())
        for name in names:
            self._keep(name, parameters[name])

    def _keep(self, name: str, parameter: nn.Parameter) -> None:
        if name not in self._originals:
            self._originals[name] = parameter.detach().clone()

    def reset(self) -> None:
        """Restore the weights as they were loaded, frozen and in the compute dtype."""
        if self.engine is not None:
            self.engine.release()
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, original in self._originals.items():
                parameters[name].data = original.clone()
                parameters[name].grad = None
        self.model.requires_grad_(False)
        self.model.eval()
        self.loaded_weights = None


def backbone_of(context: Context) -> Backbone:
    """Return the context's backbone as the class that the harness works with.

    A method knows its backbone as a `LanguageModel`; what trains it or runs it needs the rest. This is the one
    place where the first becomes the second.

    Raises
    ------
    TypeError
        If the context holds another language model.
    """
    if not isinstance(context.backbone, Backbone):
        kind = type(context.backbone).__name__
        raise TypeError(f"the harness trains and runs a Backbone (dhrd_bench.backbones.load), and this is a {kind}")
    return context.backbone


def _pad_id(tokenizer: Any) -> int:
    """Return a padding id that is not the end of text, which a classifier would take for padding."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return int(tokenizer.pad_token_id)
    for candidate in (0, tokenizer.unk_token_id, tokenizer.bos_token_id):
        if candidate is not None and candidate != tokenizer.eos_token_id:
            return int(candidate)
    return 0
