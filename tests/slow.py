"""Slow, direct computations that training and inference are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import (
    Context,
    LabeledExample,
)


def beside(tensor: Tensor, values: Any) -> Tensor:
    """Return `values` where `tensor` lies."""
    return torch.tensor(values, device=tensor.device)


def slow_hidden(backbone: Backbone, ids: list[int]) -> Tensor:
    """Hugging Face's own forward pass on one sequence, with its own attention and mask."""
    backbone.model.set_attn_implementation("eager")
    try:
        output = backbone.model.model(input_ids=beside(backbone.head_weight, [ids]), use_cache=False)
        hidden: Tensor = output.last_hidden_state[0]
    finally:
        backbone.model.set_attn_implementation("dhrd_packed")
    return hidden


def log_likelihood(backbone: Backbone, prompt: list[int], answer: list[int]) -> float:
    """One option at a time, the slow way."""
    logits = slow_hidden(backbone, prompt + answer) @ backbone.head_weight.T
    log_probabilities = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return float(log_probabilities[range(len(answer)), answer].sum())


MARKER = "\nFinal Answer:"


@dataclass
class Text:
    """One sequence as the method's definition has it, written down without the method's code."""

    before: str
    target: str
    label: int | None = None  # class for L_cls, read from the end of `before`
    term: str = "lm"
    input: str | None = None  # where the pooled state is read if not at the end of `before`
    end: bool = True  # whether the end of text is a target, too
    soft: tuple[float, ...] | None = None  # class probabilities for L_cls instead of `label`


Whole = Callable[[LabeledExample], list[Text]]


def x(row: LabeledExample) -> str:
    return row.example.prompt.text


def word(row: LabeledExample) -> str:
    return [" No", " Yes"][row.label]


def y(row: LabeledExample) -> str:
    return MARKER + word(row)


def r(row: LabeledExample) -> str:
    return f"\nReasoning: {row.rationale}"


def slow_loss(
    rows: tuple[LabeledExample, ...],
    whole: Whole,
    weights: dict[str, float],
    context: Context,
    head: Any,
    pooling: str = "last",
) -> float:
    """One sequence at a time, through Hugging Face's own forward pass; a mean over each term's own targets."""
    backbone = context.backbone
    losses: dict[str, list[torch.Tensor]] = {}
    for text in (text for row in rows for text in whole(row)):
        # Bytes are the tiny backbone's tokens: texts may be joined before they are encoded.
        before = backbone.encode(text.before)
        ids = before + backbone.encode(text.target) + [backbone.eos_id] * (text.end and bool(text.target))
        states = slow_hidden(backbone, ids)
        if text.label is not None:
            at = len(backbone.encode(text.before if text.input is None else text.input)) - 1
            logits = head(states[at] if pooling == "last" else states[: at + 1].mean(0))[None]
            target = beside(logits, [text.label] if text.soft is None else [list(text.soft)])
            losses.setdefault("cls", []).append(F.cross_entropy(logits, target))
        start = max(1, len(before))
        if len(ids) > start:
            logits = states @ backbone.head_weight.T
            each = F.cross_entropy(logits[start - 1 : -1], beside(logits, ids[start:]), reduction="none")
            losses.setdefault(text.term, []).extend(each)
    return sum(weight * torch.stack(losses[term]).mean().item() for term, weight in weights.items())
