"""The parts of a decoder: some of its blocks, and its way from hidden states to logits.

Both run the model's own forward pass with stand-ins for what is not to run. So what an architecture does before its
blocks (scaled embeddings, learned positions), from block to block (windows, rotary angles by layer) and behind them
(biased heads, scaled or capped logits) is done by its own code and need not be known here.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast


class _Pass(nn.Module):
    """In place of a block that is not to run."""

    def forward(self, states: Tensor, *_: Any, **__: Any) -> Tensor:
        return states


class _Given(nn.Module):
    """In place of the last block before those that run: it puts their input there, whatever came out so far."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self.states


class _Noted(nn.Module):
    """The last block that runs; what it returns is kept, as the final norm still follows."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.states: Tensor | None = None

    def forward(self, *args: Any, **options: Any) -> Any:
        self.states = self.block(*args, **options)
        return self.states


class _Output(BaseModelOutputWithPast):  # type: ignore[misc]
    """A decoder's states; what else some model asks of its decoder (router logits, cross-attentions) is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class _Decoded(nn.Module):
    """In place of a decoder whose states are known."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, *_: Any, **__: Any) -> _Output:
        return _Output(last_hidden_state=self.states)


def find_blocks(trunk: Any) -> tuple[str, nn.ModuleList]:
    """Return the list of blocks in `trunk` and what it is called there.

    Raises
    ------
    LookupError
        If there is no list of as many modules as the configuration has layers, or more than one.
    """
    depth = getattr(trunk.config, "num_hidden_layers", None)
    lists = {name: each for name, each in trunk.named_children() if isinstance(each, nn.ModuleList)}
    found = [(name, each) for name, each in lists.items() if len(each) == depth]
    if len(found) != 1:
        raise LookupError("it has no list of blocks")
    return found[0]


def run_blocks(trunk: Any, states: Tensor, start: int, stop: int | None, **options: Any) -> Tensor:
    """Run blocks `start` to `stop` of the decoder `trunk`.

    Parameters
    ----------
    states
        ``(1, T)`` token ids if `start` is 0, else ``(1, T, d)`` states after block ``start - 1``.
    options
        What the decoder's forward pass takes besides.

    Returns
    -------
    Tensor
        ``(1, T, d)``; after the final norm if `stop` is None.
    """
    if start == 0 and stop is None:
        whole: Tensor = trunk(input_ids=states, **options).last_hidden_state
        return whole
    name, all_blocks = find_blocks(trunk)
    blocks = list(all_blocks)
    last: _Noted | None = None
    if stop is not None:
        last = _Noted(blocks[stop - 1])
        blocks[stop - 1 :] = [last, *(_Pass() for _ in blocks[stop:])]
    if start > 0:
        # Each block keeps its place in the list: some models look up by it what kind of block it is.
        blocks[:start] = [*(_Pass() for _ in range(start - 1)), _Given(states)]
    # Parameters are shared, nothing is copied.
    view = copy.copy(trunk)
    view._modules = dict(trunk._modules)
    setattr(view, name, nn.ModuleList(blocks))
    output = view(**{"inputs_embeds" if start > 0 else "input_ids": states}, **options)
    found: Tensor | None = output.last_hidden_state if last is None else last.states
    assert found is not None
    return found


def logits_of(model: Any, states: Tensor) -> Tensor:
    """Return the logits ``(n, V)`` that the causal LM `model` makes of states ``(n, d)`` after its final norm."""
    view = copy.copy(model)
    view._modules = dict(model._modules) | {model.base_model_prefix: _Decoded(states[None])}
    logits: Tensor = view(inputs_embeds=states[None], use_cache=False).logits
    return logits[0]
