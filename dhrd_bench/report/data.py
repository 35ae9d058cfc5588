"""Every figure of a report as JSON and as a tidy CSV; the JSON also has what no table shows."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dhrd_bench.report.asked import asked, pooled
from dhrd_bench.report.board import Board
from dhrd_bench.report.figures import shown, untaught
from dhrd_bench.report.leakage import Leakage
from dhrd_bench.report.paper import Comparison
from dhrd_bench.report.tuned import spent, tuned_figures
from dhrd_bench.report.verdict import Verdict
from dhrd_bench.stats.agreement import Agreement
from dhrd_bench.stats.analysis import Line, Versus
from dhrd_bench.stats.beliefs import Hierarchical
from dhrd_bench.stats.calibration import Calibration
from dhrd_bench.stats.cascade import Frontier
from dhrd_bench.stats.cost import energy_sources
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import Point
from dhrd_bench.stats.pooling import PooledGain
from dhrd_bench.stats.ranking import CriticalDifference
from dhrd_bench.stats.significance import Test
from dhrd_bench.stats.slices import Slice

FIELDS = (
    "suite", "backbone", "budget", "method", "task", "figure", "value", "low", "high", "se", "df",
    "p", "p_attainable", "p_adjusted", "decision",
)  # fmt: skip


@dataclass(frozen=True)
class TaskFigures:
    """What a task was scored by, and on how much."""

    metrics: list[str]
    seeds: list[int]
    examples: int
    clusters: int


@dataclass(frozen=True)
class Untaught:
    """A method that learns from rationales and had none on a task."""

    method: str
    task: str


@dataclass(frozen=True, kw_only=True)
class BoardFigures:
    """All figures of one board; what each is, is said where its class is, and in docs/statistics.md."""

    suite: str
    backbone: str
    budget: str
    baseline: str | None
    reference: str | None
    resamples: int
    random_seed: int
    margin: float | None
    tasks: dict[str, TaskFigures]
    energy_sources: list[str]
    without_rationales: list[Untaught]
    verdict: Verdict
    methods: tuple[Line, ...]
    points: tuple[Point, ...]
    cascades: list[Frontier]
    critical_difference: CriticalDifference | None
    timed: list[dict[str, Any]]
    leakage: tuple[Leakage, ...]
    claims: tuple[Comparison, ...]
    searches: list[dict[str, Any]]
    hierarchical: list[Hierarchical]
    slices: list[Slice]
    calibration: list[Calibration]
    no_calibration: dict[str, dict[str, str]]
    seed_agreement: list[Agreement]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportFigures:
    """A report as JSON."""

    command: str
    leaderboards: list[BoardFigures]
    pooled_over_backbones: list[PooledGain]
    pooled_over_prompts: list[PooledGain]
    notes: Sequence[str]
    problems: Sequence[str]


def as_json(boards: Sequence[Board], command: str, notes: Sequence[str], problems: Sequence[str]) -> str:
    """Return all figures as JSON; an undefined one is null."""
    figures = ReportFigures(
        command=command,
        leaderboards=[_board(board) for board in boards],
        pooled_over_backbones=pooled(boards, "backbones"),
        pooled_over_prompts=pooled(boards, "prompts"),
        notes=notes,
        problems=problems,
    )
    return json.dumps(_plain(figures), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema() -> str:
    """Return the JSON schema of what `as_json` returns."""
    from pydantic import TypeAdapter

    made = TypeAdapter(ReportFigures).json_schema(mode="serialization")
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_with_null(made)}
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _with_null(value: Any) -> Any:
    """Return a schema in which every number may be null: one that is undefined."""
    if isinstance(value, list):
        return [_with_null(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    inner = {key: _with_null(part) for key, part in value.items()}
    return inner | {"type": ["number", "null"]} if value.get("type") == "number" else inner


def _board(board: Board) -> BoardFigures:
    analysis, selection = board.analysis, board.analysis.selection
    return BoardFigures(
        **dataclasses.asdict(selection.group),
        baseline=selection.baseline,
        reference=selection.reference,
        resamples=analysis.resamples,
        random_seed=analysis.seed,
        margin=analysis.margin,
        tasks={
            task.name: TaskFigures(task.info.metrics, list(task.seeds), len(task.labels), task.n_clusters)
            for task in selection.grid.tasks
        },
        energy_sources=energy_sources(selection.cells["energy"]),
        without_rationales=[Untaught(*each) for each in sorted(untaught(analysis))],
        verdict=board.verdict,
        methods=analysis.lines,
        points=analysis.points,
        cascades=board.frontiers,
        critical_difference=analysis.critical,
        timed=[timed.figures() for timed in board.timed],
        leakage=board.leakages,
        claims=board.claims,
        searches=[tuned_figures(search) for search in board.searches],
        **asked(board),
        notes=analysis.notes,
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_csv(boards: Sequence[Board]) -> str:
    """Return all figures in long form, one a line; ``task`` is empty for the suite."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for board in boards:
        group = dataclasses.asdict(board.analysis.selection.group)
        for row in _rows(board):
            writer.writerow(group | {key: "" if value is None else value for key, value in row.items()})
    return stream.getvalue()


CsvRow = dict[str, Any]
"""What stands in some of the `FIELDS` of one line; None and absent are alike."""


def _rows(board: Board) -> Iterator[CsvRow]:
    for line in board.analysis.lines:
        yield from _method_rows(line, board.analysis.critical)
    for point in board.analysis.points:
        if point.on_front is not None:
            said = "on the front" if point.on_front else "dominated"
            yield {"method": point.method, "figure": "front_probability", "value": point.probability, "decision": said}
    for frontier in board.frontiers:
        for step in frontier.steps:
            for name, estimate in (("score", step.score), ("qps", step.qps)):
                figure = f"cascade {name}: {step.share:.0%} handed on"
                yield {"method": frontier.name, "figure": figure} | _estimate(estimate)
    for claim in board.claims:
        yield {"method": claim.method, "figure": f"claim: {claim.id}", "decision": claim.verdict} | _estimate(
            claim.ours
        )
    for leakage in board.leakages:
        for figure in ("taught", "label_read", "largest_class"):
            yield {
                "method": leakage.method, "task": leakage.task, "figure": figure, "value": getattr(leakage, figure)
            }  # fmt: skip
    for search in board.searches:
        for name in search.methods:
            for n, best in enumerate(spent(search, name), 1):
                yield {"method": name, "figure": f"dev score of the best of {n}", "value": best}
    for timed in board.timed:
        yield from timed.rows()


def _method_rows(line: Line, critical: CriticalDifference | None) -> Iterator[CsvRow]:
    method = {"method": line.method}
    yield method | {"figure": "score"} | _estimate(line.score)
    yield from _versus(method, line.versus)
    if line.rank is not None:
        yield method | {"figure": "rank", "low": line.rank[0], "high": line.rank[1], "decision": f"tied {line.tied}"}
    yield method | {"figure": "iqm"} | _estimate(line.iqm)
    if line.improvement is not None:
        yield method | {"figure": "probability_of_improvement"} | _estimate(line.improvement)
    if critical is not None and line.method in critical.ranks:
        yield method | {"figure": "mean_rank", "value": critical.ranks[line.method]}
    yield method | {"figure": "qps"} | _estimate(line.qps)
    for name, ratio in (("qps_ratio", line.qps_ratio), ("qps_to_baseline", line.qps_to_baseline)):
        if ratio is not None:
            yield method | {"figure": name} | _estimate(ratio)
    if line.unparsable is not None:
        yield method | {"figure": "unparsable", "value": line.unparsable}
    for name, cost in line.costs.items():
        if cost.mean is not None:
            yield method | {"figure": f"cost: {name}", "value": cost.mean}
        if cost.per_point is not None or cost.said:
            yield method | {"figure": f"cost a point: {name}", "decision": cost.said} | _estimate(cost.per_point)
    for claim, test in line.equivalence.items():
        yield method | {"figure": f"equivalence: {claim}", "p": test.equivalent, "decision": shown(test)}
    for task in line.tasks:
        at = method | {"task": task.task}
        yield at | {"figure": "score"} | _estimate(task.score)
        if task.collapsed:
            yield at | {"figure": "collapsed_seeds", "value": len(task.collapsed)}
        yield from _versus(at, task.versus)


def _versus(at: CsvRow, versus: Versus | None) -> Iterator[CsvRow]:
    if versus is None:
        return
    if versus.gain is not None:
        open_ended = {"decision": "no upper end"} if versus.gain.high == math.inf else {}
        yield at | {"figure": "gain"} | _estimate(versus.gain) | open_ended
    yield at | {"figure": "difference"} | _estimate(versus.difference) | _test(versus.test)
    if versus.detectable is not None:
        yield at | {"figure": "detectable", "value": versus.detectable}


def _estimate(estimate: Estimate | None) -> CsvRow:
    if estimate is None:
        return {}
    row = dataclasses.asdict(estimate)
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _test(test: Test | None) -> CsvRow:
    if test is None:
        return {}
    decision = "significant" if test.significant else "not significant" if test.decidable else "undecidable"
    return {"p": test.p, "p_attainable": test.attainable, "p_adjusted": test.adjusted, "decision": decision}
