"""How long a plan will take, from a calibration of some seconds on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from dhrd_bench.backbones import Backbone, load
from dhrd_bench.contracts import Budget, Context, Example, LabeledExample, Prompt, TaskCard, TaskData
from dhrd_bench.data.suite import LoadedTask
from dhrd_bench.grid.plan import Plan, PlannedCell
from dhrd_bench.inference.decode import decode
from dhrd_bench.inference.engine import Stop
from dhrd_bench.modeling.encode import Encoder, Row
from dhrd_bench.training.loop import fine_tune

SAMPLE = 32
"""Rows per task whose tokens are counted."""


@dataclass(frozen=True)
class Rates:
    """Seconds per token on this machine, by kind of work."""

    forward: float
    frozen: float
    train: float
    lm: float
    decode: float


def estimate_seconds(plan: Plan) -> list[float]:
    """Return the expected seconds of each cell of `plan`; 0 where it has a record."""
    if not plan.missing:
        return [0.0] * len(plan.cells)
    backbone = load(plan.backbone)
    rates = calibrate(backbone, plan.budget)
    tasks = {planned.cell.task: planned.loaded for planned in plan.missing}
    tokens = {task: _lengths(loaded, backbone, plan.budget) for task, loaded in tasks.items()}
    seen: set[tuple[str, str, bool]] = set()
    return [
        0.0 if planned.record else _cell(planned, *tokens[planned.cell.task], plan.budget, rates, seen)
        for planned in plan.cells
    ]


def _cell(
    planned: PlannedCell, x: float, r: float, budget: Budget, rates: Rates, seen: set[tuple[str, str, bool]]
) -> float:
    """Return the expected seconds of a cell with inputs of `x` tokens and `r` of rationale and answer.

    `seen` holds the sequences whose frozen states are kept by then: task, row, whether with its rationale.
    """
    card = planned.method.card
    if card.inference == "none":
        return 0.0
    train, dev, test = len(planned.data.train), len(planned.data.dev), len(planned.test.examples)
    length = x + r if card.uses_rationales else x
    seconds = 0.0
    if card.trains:
        rows = train * budget.epochs
        seconds += rows * length * rates.train + dev * budget.epochs * length * rates.train / 3
        if card.uses_rationales:
            seconds += rows * length * rates.lm
        for row in (*planned.data.train, *planned.data.dev):
            sequence = (planned.cell.task, row.example.id, card.uses_rationales)
            seconds += 0.0 if sequence in seen else length * rates.frozen
            seen.add(sequence)
    seconds += test * x * rates.forward
    if card.inference == "generate":
        seconds += test * min(budget.decoding.max_new_tokens, r if r else budget.decoding.max_new_tokens) * rates.decode
    return seconds


def _lengths(loaded: LoadedTask, backbone: Backbone, budget: Budget) -> tuple[float, float]:
    """Return the mean tokens of the input, and of rationale and answer."""
    rows = loaded.train[:: max(1, len(loaded.train) // SAMPLE)]
    inputs = [min(budget.max_length, len(backbone.encode(row.examples[0].example.prompt.text))) for row in rows]
    reasons = [len(backbone.encode(row.rationale)) for row in loaded.train if row.rationale][:SAMPLE]
    extra = len(backbone.encode(loaded.card.reason + loaded.card.answer)) + 3
    mean_reason = min(budget.max_rationale, sum(reasons) / len(reasons)) + extra if reasons else float(extra)
    return sum(inputs) / len(inputs), mean_reason


def calibrate(backbone: Backbone, budget: Budget) -> Rates:
    """Measure this machine: some forward passes, optimiser steps and decoding steps."""
    ids = list(range(5, 133))
    card = TaskCard(
        name="calibration",
        labels=("a", "b"),
        answers=("a", "b"),
        metrics=("accuracy",),
        prompt="",
        prompt_version="",
        version="",
    )
    rows = tuple(LabeledExample(Example(str(i), Prompt("", "", "")), i % 2) for i in range(16))
    short = budget.model_copy(update={"epochs": 2, "batch_size": 8, "dev_rows": 0})

    def tune(lm: bool) -> tuple[float, float]:
        backbone.frozen_states.clear()
        context = Context(backbone, short, "calibration", 0)
        stamps = [time.perf_counter()]
        context.progress = lambda *_: stamps.append(time.perf_counter())
        scope = (0, len(ids)) if lm else None

        def build(row: LabeledExample, _: Encoder) -> list[Row]:
            return [Row([*ids, 200 + int(row.example.id)], len(ids), row.label, scope)]

        fine_tune(TaskData(card, rows, ()), context, build, weights={"cls": 1.0, "lm": 1.0 if lm else 0.0})
        tokens = 8 * 129
        return (stamps[1] - stamps[0]) / tokens, (stamps[-1] - stamps[-3]) / (2 * tokens)

    with torch.inference_mode():
        pack = torch.tensor(ids * 8, device=backbone.device)
        backbone.hidden(pack, [128] * 8)
        started = time.perf_counter()
        backbone.hidden(pack, [128] * 8)
        forward = (time.perf_counter() - started) / len(pack)
    first, train = tune(lm=False)
    _, with_lm = tune(lm=True)
    batch = min(budget.decoding.batch_size, 32)
    few = budget.decoding.model_copy(update={"max_new_tokens": 12, "batch_size": batch})
    started = time.perf_counter()
    decode(backbone, [ids] * batch, few, Stop((), 99), [0] * batch)
    generating = max(1e-6, (time.perf_counter() - started - batch * 128 * forward) / (12 * batch))
    backbone.frozen_states.clear()
    frozen = max(0.0, first - train) if budget.tuning.startswith(("top", "head")) else 0.0
    return Rates(forward, frozen, train, max(0.0, with_lm - train), generating)
