"""Timing the methods of a plan, task by task and seed by seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from dhrd_bench.backbones import load
from dhrd_bench.grid.plan import Plan
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.progress import Display
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.results.timed import ThroughputRecord, timed_path
from dhrd_bench.throughput.fitted import obtain_fitted
from dhrd_bench.throughput.measure import measure
from dhrd_bench.throughput.timing import TimingSettings


def time_plan(plan: Plan, settings: TimingSettings, display: Display) -> Iterator[ThroughputRecord]:
    """Fit what has not been kept, then time; records are written into the plan's results folder as they come."""
    if not plan.cells:
        return
    backbone = load(plan.backbone)
    engine_of(backbone)  # before the first fit: this machine may not have it
    for (task, seed), group in groupby(plan.cells, key=lambda planned: (planned.cell.task, planned.cell.seed)):
        fitted = {}
        for planned in group:
            display.begin(planned.name)
            method, loaded = obtain_fitted(planned, backbone, display.step)
            display.say(f"{planned.name}: {'loaded' if loaded else 'fitted and kept'}")
            fitted[planned.cell.method] = (planned, method)
        backbone.frozen_states.clear()
        for scenario in plan.request.throughput:
            display.begin(f"{task} seed {seed} {scenario}")
            record = measure(scenario, fitted, backbone, settings, lambda done, of: display.step("", done, of, {}))
            path, text = timed_path(plan.results, record), record.model_dump_json(indent=1) + "\n"
            write_text_atomically(path, text, below=plan.results)
            display.end()
            yield record
