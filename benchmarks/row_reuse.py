"""Five seeds of three methods on one task: what is computed once a process against a process a cell.

Run as a program this module is a worker: it reads ``method seed`` lines and answers each with the seconds
of training.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from measuring import Row

    from dhrd_bench.backbones import Backbone
    from dhrd_bench.contracts import Budget
    from dhrd_bench.data.suite import LoadedTask

METHODS = ("pooled", "dhrd", "cot")


def reuse(quick: bool) -> Row:
    """`top:6` tuning under the laptop budget, shortened, with and without reuse."""
    from material import BACKBONE, load_task
    from measuring import Row, Work, claim, profile

    from dhrd_bench.backbones import load, resolve
    from dhrd_bench.backbones.loading import settle

    seeds = range(2 if quick else 5)
    methods = METHODS[1:2] if quick else METHODS
    inside: dict[str, list[float]] = {"reused": [], "apart": []}
    size = "quick" if quick else "full"

    def together(seed: int) -> Work:
        started = time.perf_counter()
        if not workers:
            workers.append(Worker(size, "reuse"))
        inside["reused"].append(sum(workers[0].cell(method, seed) for method in methods))
        return Work(len(methods), time.perf_counter() - started)

    def apart(seed: int) -> Work:
        started = time.perf_counter()
        trained = 0.0
        for method in methods:
            worker = Worker(size, "apart")
            trained += worker.cell(method, seed)
            worker.close()
        inside["apart"].append(trained)
        return Work(len(methods), time.perf_counter() - started)

    budget, loaded = course(size)
    workers: list[Worker] = []
    row = Row(
        f"{len(seeds)} seeds of top:6 tuning of {', '.join(methods)}",
        "the same without reuse: a process a cell, frozen lower blocks recomputed in every step",
        f"{load_task()[1]}, {BACKBONE}, {settle(resolve(BACKBONE)).dtype}; laptop budget with {budget.train_rows} "
        f"training rows drawn from a pool of {len(loaded.train)}, {budget.epochs} epochs; a round is a seed; our first "
        "one includes starting the process",
        "cells/s",
    )
    row.compare(together, apart, len(seeds))
    workers[0].close()
    total = sum(1 / rate for rate in row.theirs) / sum(1 / rate for rate in row.ours)
    alone = [theirs / ours for theirs, ours in zip(inside["apart"], inside["reused"], strict=True)]
    row.claims += [
        replace(claim("ratio of the totals", row.ratios, 3.0), value=total),
        replace(claim("training alone", alone, 3.0), value=sum(inside["apart"]) / sum(inside["reused"])),
    ]
    overhead = sum(len(methods) / rate for rate in row.theirs) - sum(inside["apart"])
    row.checks.append(
        f"starting, loading and reading data: {overhead / len(seeds) / len(methods):.1f} s a cell without reuse"
    )
    backbone = load(resolve(BACKBONE))
    row.profile = profile(lambda: train(backbone, budget, loaded, "dhrd", 0))
    row.profiled = "training of a dhrd cell whose states are kept; " + row.profiled
    row.limit = (
        "The trained upper blocks, forward and backward, and the LM head's loss are the same on both sides and cannot "
        "be reused; what is saved is one forward pass of the lower blocks an epoch (all but the first of a sequence) "
        "and the start of a process a cell. By operation counts training alone can gain "
        f"{bound(backbone, budget, loaded, methods):.2f}x on these rows if the lower blocks cost nothing at all. The "
        "longer a cell trains, the nearer the ratio comes to that of training alone."
    )
    return row


def bound(backbone: Backbone, budget: Budget, loaded: LoadedTask, methods: Sequence[str]) -> float:
    """Return how much less an epoch takes in multiplications if the frozen blocks take none.

    A trained block costs a forward pass and twice as much backward, the LM head's loss one product forward and
    one back to the states for each target; dev rows cost a forward pass, and their few targets are not counted.
    """
    from material import method

    from dhrd_bench import Encoder, FineTuned
    from dhrd_bench.data.splits import split

    data, _ = split(loaded, budget, 0)
    blocks = sum(parameter.numel() for parameter in backbone.model.model.layers.parameters()) / backbone.depth
    tuned = int(budget.tuning.partition(":")[2])
    kept = saved = 0.0
    encoder = Encoder(backbone, budget, loaded.card)
    for name in methods:
        fine_tuned = method(name)
        assert isinstance(fine_tuned, FineTuned)
        for examples, passes, products in ((data.train, 3, 2), (data.dev, 1, 0)):
            rows = [row for example in examples for row in fine_tuned.rows(example, encoder)]
            tokens, targets = sum(len(row.ids) for row in rows), sum(len(row.targets) for row in rows)
            kept += passes * tuned * blocks * tokens + products * backbone.head_weight.numel() * targets
            saved += (backbone.depth - tuned) * blocks * tokens
    return (kept + saved) / kept


SIZES = {"quick": (8, 2), "full": (8, 3)}
"""Training rows and epochs."""


class Worker:
    """A process that trains cells one after the other."""

    def __init__(self, size: str, mode: str) -> None:
        command = [sys.executable, __file__, size, mode]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def cell(self, method: str, seed: int) -> float:
        """Train one cell; return the seconds it says training took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{method} {seed}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("trained "):
                return float(line.split()[1])
        raise RuntimeError("a worker died")

    def close(self) -> None:
        """End the process and wait for it."""
        self.process.communicate()


def course(size: str) -> tuple[Budget, LoadedTask]:
    """Return the shortened laptop budget and the task with its pool of training rows.

    The pool is shortened, too, so that seeds share as many of their rows as under the budget itself.
    """
    from material import load_task

    from dhrd_bench import registry

    rows, epochs = SIZES[size]
    laptop = registry.budgets.get("laptop")
    budget = laptop.model_copy(
        update={"train_rows": rows, "dev_rows": max(2, rows // 5), "epochs": epochs, "test_rows": 1}
    )
    loaded, _ = load_task()
    with_rationale = [row for row in loaded.train if row.rationale is not None]
    pool = max(rows + budget.dev_rows, len(with_rationale) * rows // (laptop.train_rows or rows))
    return budget, replace(loaded, train=tuple(with_rationale[:pool]))


def train(backbone: Backbone, budget: Budget, loaded: LoadedTask, name: str, seed: int, reused: bool = True) -> None:
    """Train one cell."""
    from material import method

    from dhrd_bench.contracts import Context
    from dhrd_bench.data.splits import split

    data, _ = split(loaded, budget, seed)
    context = Context(backbone, budget, loaded.card.name, seed)
    if not reused:
        context.progress = lambda phase, done, total, figures: backbone.frozen_states.clear()
    method(name).fit(data, context)


def work(size: str, reused: bool) -> None:
    """Train the cells that are asked for on standard input."""
    from material import BACKBONE

    from dhrd_bench.backbones import load, resolve

    backbone = load(resolve(BACKBONE))
    budget, loaded = course(size)

    for line in sys.stdin:
        name, seed = line.split()
        started = time.perf_counter()
        train(backbone, budget, loaded, name, int(seed), reused)
        sys.stdout.write(f"trained {time.perf_counter() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    work(sys.argv[1], sys.argv[2] == "reuse")
