"""How long a plan will take, from a calibration of some seconds on this machine, which is kept for a while."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from dhrd_bench.backbones import Backbone, load
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.backbones.device import synchronise
from dhrd_bench.contracts import Budget, Context, Example, LabeledExample, MethodCard, Prompt, TaskCard, TaskData
from dhrd_bench.data.suite import LoadedTask
from dhrd_bench.errors import UserError
from dhrd_bench.grid.environment import cpu_name, package_version
from dhrd_bench.grid.identity import digest
from dhrd_bench.grid.plan import Plan, PlannedCell
from dhrd_bench.inference.decode import decode
from dhrd_bench.inference.engine import Stop
from dhrd_bench.methods import MethodSpec
from dhrd_bench.modeling.encode import Row
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.training.frozen import input_states
from dhrd_bench.training.trainer import Trainer
from dhrd_bench.untrusted import parse_json

SAMPLE = 32
"""Rows per task whose tokens are counted."""

_CARD = TaskCard(
    name="calibration",
    labels=("a", "b"),
    answers=("a", "b"),
    metrics=("accuracy",),
    prompt="",
    prompt_version="",
    version="",
)


@dataclass(frozen=True)
class Rates:
    """Seconds per token on this machine, by kind of work.

    Attributes
    ----------
    forward
        Reading an input.
    frozen
        Running the frozen blocks on a training sequence, whose states are kept from then on.
    train
        The rest of an optimiser step with a classification loss.
    lm
        What an LM loss on every token adds to that.
    decode
        A generated token.
    """

    forward: float
    frozen: float
    train: float
    lm: float
    decode: float


@dataclass(frozen=True)
class Sizes:
    """The rows of a cell, and the mean tokens of an input and of a rationale with its answer.

    `test_input` is that of a test row.
    """

    train: int
    dev: int
    test: int
    input: float
    rationale: float
    test_input: float


def cell_seconds(card: MethodCard, sizes: Sizes, budget: Budget, rates: Rates) -> float:
    """Return the expected seconds of a cell, without what it takes to run frozen blocks once.

    A forward pass over a dev row is taken for a third of a training step's work on it.
    """
    if not card.kinds:
        return 0.0
    seconds = 0.0
    if card.trains:
        length = sizes.input + sizes.rationale if card.uses_rationales else sizes.input
        seconds += budget.epochs * length * (sizes.train + sizes.dev / 3) * rates.train
        if card.uses_rationales:
            seconds += budget.epochs * length * sizes.train * rates.lm
    seconds += sizes.test * sizes.test_input * rates.forward
    if "generate" in card.kinds:
        most = budget.decoding.max_new_tokens
        seconds += sizes.test * min(most, sizes.rationale or most) * rates.decode
    return seconds


def estimate_seconds(plan: Plan) -> list[float]:
    """Return the expected seconds of each cell of `plan`; 0 where it has a record."""
    if not plan.missing:
        return [0.0] * len(plan.cells)
    backbone = load(plan.backbone)
    rates = kept_rates(backbone, plan.budget)
    tasks = {planned.cell.task: planned.loaded for planned in plan.missing}
    tokens = {task: _lengths(loaded, backbone, plan.budget) for task, loaded in tasks.items()}
    seen: set[tuple[str, str, bool]] = set()
    return [
        0.0
        if planned.record
        else sum(
            _cell(planned, spec, *tokens[planned.cell.task], planned.budget, rates, seen)
            for spec in planned.method.whole
            if not spec.parts  # what is composed costs what its parts do, if all of them answer
        )
        for planned in plan.cells
    ]


def _cell(
    planned: PlannedCell,
    spec: MethodSpec,
    x: float,
    r: float,
    budget: Budget,
    rates: Rates,
    seen: set[tuple[str, str, bool]],
) -> float:
    """Return the expected seconds of `spec` in a cell with inputs of `x` tokens and `r` of rationale and answer.

    `seen` holds the sequences whose frozen states are kept by then: task, row, whether with its rationale.
    """
    card = spec.card
    x += getattr(spec.params, "pause", 0)
    sizes = Sizes(len(planned.data.train), len(planned.data.dev), len(planned.test.examples), x, r, x)
    seconds = cell_seconds(card, sizes, budget, rates)
    if card.trains and card.kinds:
        length = x + r if card.uses_rationales else x
        for row in (*planned.data.train, *planned.data.dev):
            sequence = (planned.cell.task, row.example.id, card.uses_rationales)
            seconds += 0.0 if sequence in seen else length * rates.frozen
            seen.add(sequence)
    return seconds


def _lengths(loaded: LoadedTask, backbone: Backbone, budget: Budget) -> tuple[float, float]:
    """Return the mean tokens of the input, and of rationale and answer."""
    rows = loaded.train[:: max(1, len(loaded.train) // SAMPLE)]
    inputs = [min(budget.max_length, len(backbone.encode(row.examples[0].example.prompt.text))) for row in rows]
    reasons = [len(backbone.encode(row.rationale)) for row in loaded.train if row.rationale][:SAMPLE]
    extra = len(backbone.encode(loaded.card.reason + loaded.card.answer)) + 3
    mean_reason = min(budget.max_rationale, sum(reasons) / len(reasons)) + extra if reasons else float(extra)
    return sum(inputs) / len(inputs), mean_reason


KEPT = timedelta(days=7)
"""A calibration is done again after this: drivers, cooling and what else runs on a machine change."""


def kept_rates(backbone: Backbone, budget: Budget) -> Rates:
    """Return the rates for `backbone` under `budget` on this machine: measured within `KEPT`, or now, and then kept.

    They lie below the cache folder by what they depend on, with the time of the measurement. A file that cannot be
    read or written costs time and nothing else.
    """
    conditions = _conditions(backbone, budget)
    store = cache_folder() / "calibrations" / f"{digest(conditions)}.json"
    if (rates := _read_rates(store)) is not None:
        return rates
    rates = calibrate(backbone, budget)
    kept = {"measured": datetime.now(UTC).isoformat(), "rates": asdict(rates), "conditions": conditions}
    with suppress(UserError):
        write_text_atomically(store, with_checksum(json.dumps(kept, indent=1)))
    return rates


def _conditions(backbone: Backbone, budget: Budget) -> dict[str, Any]:
    """Return what rates depend on: the machine, the libraries, the backbone and the budget."""
    device = str(backbone.device)
    return {
        "machine": torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name(),
        "threads": torch.get_num_threads(),
        "packages": {name: package_version(name) for name in ("dhrd-bench", "torch", "transformers")},
        "backbone": {"revision": backbone.revision, "card": backbone.card.model_dump(mode="json")},
        "budget": budget.model_dump(mode="json"),
    }


def _read_rates(store: Path) -> Rates | None:
    """Return the rates that were kept, unless they are too old or no rates."""
    try:
        kept = parse_json(without_checksum(store.read_bytes()))
        age = datetime.now(UTC) - datetime.fromisoformat(kept["measured"])
        rates = Rates(**{name: float(rate) for name, rate in kept["rates"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return rates if timedelta(0) <= age < KEPT else None


LENGTH, COUNT, STEPS = 128, 8, 2
"""Tokens of a sequence, sequences of an optimiser step, and steps, that are timed."""


def calibrate(backbone: Backbone, budget: Budget) -> Rates:
    """Measure this machine: some forward passes, optimiser steps and decoding steps."""
    rows = [Row([*range(5, 4 + LENGTH), 200 + number], LENGTH, number % 2) for number in range(COUNT)]
    forward = _forward_rate(backbone, rows)
    frozen, train = _train_rates(backbone, budget, rows, weights={"cls": 1.0})
    if backbone.is_encoder:
        return Rates(forward, frozen, train, lm=0.0, decode=0.0)
    targets = [replace(row, lm=(0, LENGTH - 1)) for row in rows]
    _, with_lm = _train_rates(backbone, budget, targets, weights={"cls": 1.0, "lm": 1.0})
    return Rates(forward, frozen, train, max(0.0, with_lm - train), _decode_rate(backbone, budget, forward))


@torch.inference_mode()
def _forward_rate(backbone: Backbone, rows: Sequence[Row]) -> float:
    """Return seconds a token that is read."""
    pack = torch.tensor([token for row in rows for token in row.ids], device=backbone.device)
    lengths = [len(row.ids) for row in rows]
    backbone.hidden(pack, lengths)
    return _seconds(lambda: backbone.hidden(pack, lengths), backbone) / len(pack)


def _train_rates(
    backbone: Backbone, budget: Budget, rows: Sequence[Row], weights: Mapping[str, float]
) -> tuple[float, float]:
    """Return seconds a token of the frozen blocks, whose states are kept, and of what every optimiser step does."""
    tokens = sum(len(row.ids) for row in rows)
    examples = tuple(LabeledExample(Example(str(i), Prompt("", "", "")), i % 2) for i in range(len(rows)))
    context = Context(backbone, budget, _CARD.name, 0)
    backbone.frozen_states.clear()
    task = TaskData(_CARD, examples, ())
    trainer = Trainer(context, task, lambda example, _: [rows[int(example.example.id)]], weights, "mlp")
    try:
        blocks = trainer.tuning.frozen_blocks
        frozen = _seconds(lambda: input_states(backbone, rows, blocks), backbone) if blocks else 0.0
        trainer.step(rows)  # the first one makes the optimiser's state
        # The least of them: `lm` is a difference, in which what others took from the machine would show most.
        train = min(_seconds(lambda: trainer.step(rows), backbone) for _ in range(STEPS))
    finally:
        trainer.close()
        backbone.frozen_states.clear()
    return frozen / tokens if blocks else 0.0, train / tokens


def _decode_rate(backbone: Backbone, budget: Budget, forward: float) -> float:
    """Return seconds a generated token, at the budget's batch size; `forward` is what reading a token takes."""
    batch = min(budget.decoding.batch_size, 32)
    few = budget.decoding.model_copy(update={"max_new_tokens": 12, "batch_size": batch})
    prompts = [list(range(5, 5 + LENGTH))] * batch
    seconds = _seconds(lambda: decode(backbone, prompts, few, Stop((), 99), [0] * batch), backbone)
    return max(1e-6, (seconds - batch * LENGTH * forward) / (few.max_new_tokens * batch))


def _seconds(work: Callable[[], object], backbone: Backbone) -> float:
    """Return how long `work` takes, on the device, too."""
    synchronise(str(backbone.device))
    started = time.perf_counter()
    work()
    synchronise(str(backbone.device))
    return time.perf_counter() - started
