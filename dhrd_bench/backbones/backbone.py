"""A backbone in memory, and back in its original state between cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from dhrd_bench.backbones.blocks import find_blocks, logits_of
from dhrd_bench.backbones.device import synchronise
from dhrd_bench.backbones.fourbit import keep_as_loaded, with_adapters
from dhrd_bench.backbones.fused import fuse
from dhrd_bench.backbones.graphs import Graphs
from dhrd_bench.backbones.layout import Layout, has_varlen, varlen_options
from dhrd_bench.backbones.packed import PACKED, packed_forward, step_forward
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.backbones.workclock import standing_still
from dhrd_bench.contracts import BackboneCard, Context
from dhrd_bench.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


ATTENTION_DROPOUT = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
"""What configurations call the dropout of attention weights."""


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
    adapted
        What peft has put around the model for adapters that are trained, or stand beside weights in four bits; `reset`
        takes it off.
    engine
        The engine that inference runs on, made when it is first needed (`dhrd_bench.inference.engine`).

    Raises
    ------
    UserError
        If `model` is not built as the decoders are that can be run here.
    """

    is_encoder: ClassVar[bool] = False

    def __init__(self, card: BackboneCard, model: Any, tokenizer: Any, revision: str) -> None:
        self.card = card
        self.model = model
        self.tokenizer = tokenizer
        self.tokens = Tokens(tokenizer, ends=self.is_encoder)
        self.revision = revision
        self.pad_id = _pad_id(tokenizer)
        self.eos_id = _eos_id(tokenizer)
        self._originals: dict[str, Tensor] = {}
        self.frozen_states: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        self.loaded_weights: object | None = None
        self.engine: Holder | None = None
        self.adapted: Any = None
        model.requires_grad_(False)
        model.eval()
        if self.quantized:
            keep_as_loaded(model)
        try:
            self.trunk = self._prepare()
        except (LookupError, ValueError) as error:
            raise unfit(card, model, str(error)) from error
        self._attention: str = self.trunk.config._attn_implementation

    def _prepare(self) -> Any:
        """Get the model ready for `run`, and return what of it makes hidden states."""
        trunk = self.model.get_decoder()
        if isinstance(trunk, nn.Linear):  # ModernBERT's decoder calls its LM head so
            trunk = self.model.base_model
        find_blocks(trunk)
        self.model.set_attn_implementation(PACKED)
        if trunk.config._attn_implementation != PACKED:
            raise LookupError("it does not let its attention be replaced")
        if self.device.type == "cuda":
            fuse(self.model)
        return trunk

    @property
    def quantized(self) -> bool:
        """Whether weights are held in four bits; these are never changed, see `load_weights`."""
        return bool(getattr(self.model, "is_loaded_in_4bit", False))

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
        return int(self.trunk.config.hidden_size)

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return len(self.blocks)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return find_blocks(self.trunk)[1]

    @property
    def one_call(self) -> bool:
        """Whether attention takes sequences of all lengths at once: on a recent CUDA card, in half precision.

        The kernel knows no soft-capping and no dropout.
        """
        config = self.model.config
        others = any(getattr(config, name, None) for name in ("attn_logit_softcapping", *ATTENTION_DROPOUT))
        return has_varlen(self.device) and self.dtype != torch.float32 and not others

    def graphs(self) -> Graphs[Tensor]:
        """Return what records computations on this backbone; those on weights in four bits run plainly."""
        return Graphs(self.device, on=not self.quantized)

    def whole_place(self, length: int) -> int:
        """Return the place of the token that has read the whole of a text of `length` tokens: causally, the last."""
        return length - 1

    def slots(self, count: int, capacity: int) -> Slots:
        """Return slots for `count` sequences of up to `capacity` tokens.

        Attention takes them in one call where `varlen_attn` can be told what each holds, which it cannot in torch 2.11.
        """
        one_call = self.one_call and "seqused_k" in varlen_options()
        return Slots(count, capacity, self.depth, self.device, one_call=one_call)

    def layout(self, lengths: Sequence[int], branches: tuple[int, ...] = ()) -> Layout:
        """Return how sequences of these lengths lie end to end, for `run`."""
        return Layout.of(lengths, self.device, branches, one_call=self.one_call)

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
        """Run blocks `start` to `stop` over packed sequences; see `packed_forward`.

        Parameters
        ----------
        branches
            Lengths of alternative continuations at the end of every sequence, one after the other. Each
            continues the stem before them as if the others were not there.
        """
        return self.run(states.to(self.device), self.layout(lengths, branches), start, stop, slots)

    def run(
        self, states: Tensor, layout: Layout, start: int = 0, stop: int | None = None, slots: Slots | None = None
    ) -> Tensor:
        """Run blocks `start` to `stop` over sequences that lie as `layout` says; see `packed_forward`."""
        self._keep_attention()
        return packed_forward(self.trunk, states, layout, start, stop, slots)

    def step(self, tokens: Tensor, slots: Slots, width: int) -> Tensor:
        """Continue the first sequences in `slots` by one token each; see `step_forward`."""
        self._keep_attention()
        return step_forward(self.trunk, tokens, slots, width)

    def _keep_attention(self) -> None:
        """Attend as ever, should somebody have built another model from this one's configuration.

        The library notes in that configuration what the other one attends by, and goes by it here, too.
        """
        if self.trunk.config._attn_implementation != self._attention:
            self.model.set_attn_implementation(self._attention)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the next-token logits ``(..., V)`` of states ``(..., d)`` after the final norm.

        The model's own code makes them: some models scale them, cap them or add a bias.
        """
        with self.autocast():
            logits = logits_of(self.model, hidden.reshape(-1, hidden.shape[-1]))
        return logits.reshape(*hidden.shape[:-1], -1)

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the compute dtype, though parameters being trained are float32."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, dtype=self.dtype)

    @property
    def head_weight(self) -> Tensor:
        """The LM head's weight, ``(V, d)``; it does not make logits by itself, see `logits`."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @property
    def head_frozen(self) -> bool:
        """Whether nothing of the LM head is being trained."""
        return not any(parameter.requires_grad for parameter in self.model.get_output_embeddings().parameters())

    def top(self, count: int) -> list[nn.Module]:
        """Return the last `count` blocks and the final norm: what else has vectors only, whatever it is called."""
        norms = [each for each in self.trunk.children() if all(values.ndim == 1 for values in each.parameters())]
        return [*list(self.blocks)[self.depth - count :], *norms]

    def load_weights(self, weights: Mapping[str, Tensor], owner: object) -> None:
        """Put `weights` of `owner` in place of the original ones, and all others back to the original.

        Nothing is copied if `owner` is in place already. On a `quantized` backbone they are the `factors` of adapters.
        """
        if self.loaded_weights is owner:
            return
        synchronise(str(self.device))  # what was asked of the weights before is work
        with standing_still(), torch.no_grad():
            self.reset()
            if self.quantized and weights:
                self.adapted = with_adapters(self.model, weights)
            else:
                self._replace(weights)
            synchronise(str(self.device))
        self.loaded_weights = owner

    def _replace(self, weights: Mapping[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        for name, tensor in weights.items():
            self._keep(name, parameters[name])
            parameters[name].copy_(tensor)

    def keep_original(self, names: Iterator[str] | list[str]) -> None:
        """Remember the present values of the named parameters, so that `reset` can restore them."""
        parameters = dict(self.model.named_parameters())
        for name in names:
            self._keep(name, parameters[name])

    def _keep(self, name: str, parameter: nn.Parameter) -> None:
        if name not in self._originals:
            with torch.inference_mode(False):  # a copy that is made in it can never be trained
                self._originals[name] = parameter.detach().clone()

    def reset(self) -> None:
        """Restore the weights as they were loaded, frozen and in the compute dtype."""
        if self.engine is not None:
            self.engine.release()
        if self.adapted is not None:
            self.adapted.unload()
            self.adapted = None
        parameters = dict(self.model.named_parameters())
        with torch.inference_mode(False), torch.no_grad():
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


def unfit(card: BackboneCard, model: Any, reason: str) -> UserError:
    """Return what to tell about a model that cannot be run here, and why."""
    return UserError(
        f"Backbone {card.name!r} ({type(model).__name__}) cannot be used: {reason}.",
        "Take a model like those of `dhrd-bench list backbones`.",
    )


def _eos_id(tokenizer: Any) -> int:
    """Return the token that ends a text; an encoder's tokenizer may have a separator for it."""
    return int(tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id)


def _pad_id(tokenizer: Any) -> int:
    """Return a padding id that is not the end of text, which a classifier would take for padding."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return int(tokenizer.pad_token_id)
    for candidate in (0, tokenizer.unk_token_id, tokenizer.bos_token_id):
        if candidate is not None and candidate != tokenizer.eos_token_id:
            return int(candidate)
    return 0
