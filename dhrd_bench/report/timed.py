"""Throughput runs, in which methods were timed side by side, beside a leaderboard."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dhrd_bench.report.tables import NONE, Cell, Column, Table, p_value, pace
from dhrd_bench.results.timed import Figure, ThroughputRecord
from dhrd_bench.stats.design import Selection
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.significance import ALPHA

_NAME = re.compile(r"(offline|single-stream|server)-\d+\.json")


@dataclass(frozen=True)
class Timed:
    """One method in one throughput run; the attributes are those of `ThroughputRecord` and `Measurement`.

    Attributes
    ----------
    other_version
        Whether the table has this very cell, but of another version than was timed here.
    """

    task: str
    scenario: str
    seed: int
    method: str
    baseline: str | None
    reference: str | None
    qps: Estimate
    ratio: Estimate | None
    ratio_to_baseline: Estimate | None
    equivalent_p: float | None
    margin: float
    p99_bound: float | None
    engine: str
    verdict: str
    reasons: tuple[str, ...]
    other_version: bool


def timed(
    records: Sequence[ThroughputRecord],
    selection: Selection,
    tasks: Collection[str] | None = None,
    methods: Collection[str] | None = None,
) -> list[Timed]:
    """Return what `records` say of the leaderboard of `selection`, of the `tasks` and `methods` named if any are."""
    group, cells = selection.group, selection.cells
    known = dict(zip(zip(cells["task"], cells["seed"], cells["method"], strict=True), cells["identity"], strict=True))
    found = []
    for record in records:
        cell = record.cell
        if (cell.suite, cell.backbone, cell.budget) != (group.suite, group.backbone, group.budget):
            continue
        for one in record.measurements:
            if _named(cell.task, tasks) and _named(one.method, methods):
                scored = known.get((cell.task, cell.seed, one.method), one.identity)
                found.append(
                    Timed(
                        cell.task, record.scenario, cell.seed, one.method, record.baseline, record.reference,
                        Estimate(one.qps.value, one.qps.low, one.qps.high), _estimate(one.ratio),
                        _estimate(one.ratio_to_baseline), one.equivalent_p, record.margin, record.p99_bound,
                        one.engine, one.verdict, tuple(one.reasons), scored != one.identity,
                    )
                )  # fmt: skip
    return sorted(found, key=lambda one: (one.task, one.scenario, one.seed, -one.qps.value, one.method))


def timed_table(found: Sequence[Timed]) -> Table:
    """Lay it out, one method of one run a row."""
    rows = []
    for one in found:
        bound = "" if one.p99_bound is None else f"p99 ≤ {one.p99_bound:g} s"
        p = Cell(NONE)
        if one.equivalent_p is not None:
            p = Cell(p_value(one.equivalent_p), f"±{one.margin:g} %", one.equivalent_p <= ALPHA)
        rows.append(
            (
                Cell(one.method), Cell(one.task), Cell(one.scenario, bound), Cell(str(one.seed)), pace(one.qps),
                Cell("reference") if one.method == one.reference else pace(one.ratio, "×"),
                Cell("baseline") if one.method == one.baseline else pace(one.ratio_to_baseline, "×"),
                p, Cell(one.engine), Cell(one.verdict, "; ".join(one.reasons)),
            )
        )  # fmt: skip
    heads = (
        Column("Method", "left"), Column("Task", "left"), Column("Scenario", "left"), Column("Seed"), Column("QPS"),
        Column("To reference"), Column("To baseline"), Column("p equal"), Column("Engine", "left"),
        Column("Verdict", "left", wraps=True),
    )  # fmt: skip
    sides = {(one.reference, one.baseline) for one in found}
    caption = [
        "Methods of one run answered the same blocks of examples in turns; see dhrd-bench throughput. Intervals are "
        "over rounds."
    ]
    if any(one.p99_bound is not None for one in found):
        caption.append(
            "server: the highest rate of arrivals that held the bound, and the rates that its trials leave open."
        )
    if len(sides) == 1:
        (reference, baseline), *_ = sides
        caption.append(f"Reference: {reference or NONE}. Baseline: {baseline or NONE}.")
    caption.append("p equal: QPS is the baseline's within the margin (TOST); not corrected. INVALID: not to be quoted.")
    other = sorted({f"{one.method} on {one.task}, seed {one.seed}" for one in found if one.other_version})
    if other:
        caption.append(f"Timed with another version than was scored: {'; '.join(other)}.")
    return Table("Timed side by side", heads, tuple(rows), tuple(caption))


def timed_rows(found: Sequence[Timed]) -> Iterator[dict[str, Any]]:
    """Return the figures for a CSV, one a row."""
    for one in found:
        at, run = {"method": one.method, "task": one.task}, f"{one.scenario}, seed {one.seed}"
        run += "" if one.p99_bound is None else f", p99 within {one.p99_bound:g} s"
        for name, figure in (("qps", one.qps), ("ratio", one.ratio), ("ratio_to_baseline", one.ratio_to_baseline)):
            if figure is not None:
                row = {"value": figure.value, "low": figure.low, "high": figure.high}
                p = {"p": one.equivalent_p} if name == "ratio_to_baseline" else {}
                yield at | {"figure": f"timed {name}: {run}", "decision": one.verdict} | row | p


def _named(name: str, wanted: Collection[str] | None) -> bool:
    return not wanted or name.lower() in {one.lower() for one in wanted}


def _estimate(figure: Figure | None) -> Estimate | None:
    return None if figure is None else Estimate(figure.value, figure.low, figure.high)
