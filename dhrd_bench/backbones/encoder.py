"""An encoder in memory: every token sees the whole text, and there is no LM head."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from dhrd_bench.backbones.backbone import Backbone
from dhrd_bench.backbones.layout import Layout, sent
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.errors import UserError


class EncoderBackbone(Backbone):
    """A bidirectional encoder with its tokenizer.

    Sequences lie end to end for whoever calls, as those of a decoder do; the model's own forward pass reads them as
    padded rows.
    """

    is_encoder: ClassVar[bool] = True

    def _prepare(self) -> Any:
        if self.card.engine != "transformers":
            raise ValueError(f"an encoder runs on transformers, and engine {self.card.engine!r} was asked for")
        self._path = _path_to_blocks(self.model)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # it reads the states that are asked for, and is in nobody's way to them
        self._longest = _longest(self.model)
        return self.model

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        blocks: nn.ModuleList = self.model.get_submodule(".".join(self._path))
        return blocks

    @property
    def one_call(self) -> bool:
        """Attention is the library's, and no recording can be made of it."""
        return False

    def whole_place(self, length: int) -> int:
        """Return the first place: the tokenizer's own token there is the one that encoders are trained to sum up in."""
        return 0

    def run(
        self, states: Tensor, layout: Layout, start: int = 0, stop: int | None = None, slots: Slots | None = None
    ) -> Tensor:
        """Run blocks `start` to `stop` over sequences that lie as `layout` says.

        Raises
        ------
        UserError
            If a sequence has more tokens than the encoder has positions for, or is to be continued.
        """
        if slots is not None or layout.runs.branches:
            self._no_lm()
        self._keep_attention()
        lengths = [length for count, length in layout.runs.segments for _ in range(count)]
        if self._longest is not None and max(lengths, default=0) > self._longest:
            raise UserError(
                f"A sequence has {max(lengths)} tokens, and backbone {self.card.name!r} reads {self._longest} at most.",
                "Lower the budget's max_length; a question is not cut.",
            )
        groups = list(alike(lengths))
        parts = torch.split(states, [sum(group) for group in groups])
        return torch.cat([self._read(part, group, start, stop) for part, group in zip(parts, groups, strict=True)])

    def _read(self, states: Tensor, lengths: Sequence[int], start: int, stop: int | None) -> Tensor:
        """Run the blocks over sequences of about one length, padded at their ends."""
        count, longest = len(lengths), max(lengths)
        mask = np.arange(longest) < np.asarray(lengths)[:, None]
        places = sent(np.flatnonzero(mask), self.device)
        given = torch.zeros(count * longest, *states.shape[1:], dtype=states.dtype, device=self.device)
        if start == 0:
            given += self.pad_id
        given = given.index_copy(0, places, states).view(count, longest, *states.shape[1:])
        # Blocks that take in states need no tokens, but what comes before the blocks does.
        ids = given if start == 0 else given.new_zeros(count, longest, dtype=torch.long)
        out = self._forward(ids, sent(mask.astype(np.int64), self.device), given, start, stop)
        return out.flatten(0, 1)[places]

    def _forward(self, ids: Tensor, mask: Tensor, states: Tensor, start: int, stop: int | None) -> Tensor:
        blocks = list(self.blocks)
        last = None
        if start > 0:
            blocks[start] = _TakesIn(blocks[start], states)
        if stop is not None:
            last = blocks[stop - 1] = _Noted(blocks[stop - 1])
        # The final norm still follows the last block that runs, and goes unused.
        model = _with_blocks(self.model, self._path, blocks[start:stop])
        output: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return output if last is None or last.states is None else last.states

    def step(self, tokens: Tensor, slots: Slots, width: int) -> Tensor:
        """Raise a `UserError`: an encoder continues nothing."""
        self._no_lm()

    def logits(self, hidden: Tensor) -> Tensor:
        """Raise a `UserError`: there is no LM head."""
        self._no_lm()

    def _no_lm(self) -> NoReturn:
        raise UserError(
            f"Backbone {self.card.name!r} is an encoder, which is no language model.",
            "Take a decoder, or a method that trains a classification head and nothing else.",
        )


class _TakesIn(nn.Module):
    """The first block that runs, with its input in place of what came out so far."""

    def __init__(self, block: nn.Module, states: Tensor) -> None:
        super().__init__()
        self.block, self.given = block, states

    def forward(self, _: Tensor, *args: Any, **options: Any) -> Any:
        return self.block(self.given, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return _of_block(self, name)


class _Noted(nn.Module):
    """The last block that runs; the states that it returns, perhaps beside attention weights, are kept."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.states: Tensor | None = None

    def forward(self, *args: Any, **options: Any) -> Any:
        output = self.block(*args, **options)
        self.states = output[0] if isinstance(output, tuple) else output
        return output

    def __getattr__(self, name: str) -> Any:
        return _of_block(self, name)


def _of_block(stand_in: nn.Module, name: str) -> Any:
    """Return a module's attribute, or its block's: some models ask a block which kind of attention it has."""
    own = stand_in.__dict__["_modules"]
    return own[name] if name in own else getattr(own["block"], name)


def alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield `lengths` in groups of neighbours, none of which is less than half of another: so little is padded."""
    group: list[int] = []
    for length in lengths:
        if group and (2 * min(*group, length) < max(*group, length)):
            yield group
            group = []
        group.append(length)
    if group:
        yield group


def _path_to_blocks(model: Any) -> list[str]:
    """Return the names that lead to the list of blocks.

    Raises
    ------
    LookupError
        If there is no list of as many modules as the configuration has layers, or more than one.
    """
    depth = getattr(model.config, "num_hidden_layers", None)
    found = [name for name, each in model.named_modules() if isinstance(each, nn.ModuleList) and len(each) == depth]
    if len(found) != 1:
        raise LookupError("it has no list of blocks")
    return str(found[0]).split(".")


def _with_blocks(module: nn.Module, path: Sequence[str], blocks: Sequence[nn.Module]) -> nn.Module:
    """Return a view of `module` with other blocks; parameters are shared, nothing is copied."""
    name, *rest = path
    inner = module._modules[name]
    assert inner is not None
    view = copy.copy(module)
    changed = _with_blocks(inner, rest, blocks) if rest else nn.ModuleList(blocks)
    view._modules = module._modules | {name: changed}
    return view


def _longest(model: nn.Module) -> int | None:
    """Return the most tokens that learned positions allow; None where positions are relative or computed."""
    for name, table in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(table, nn.Embedding):
            # Where a position stands for padding, those of a text are counted from behind it.
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return None
