"""Every figure of a report as JSON and as a tidy CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from dhrd_bench.report.paper import Comparison
from dhrd_bench.report.timed import Timed, timed_rows
from dhrd_bench.stats.analysis import Analysis, Versus
from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.significance import Test

FIELDS = (
    "suite", "backbone", "budget", "method", "task", "figure", "value", "low", "high", "se", "df",
    "p", "p_attainable", "p_adjusted", "decision",
)  # fmt: skip


def as_json(
    analyses: Sequence[Analysis],
    comparisons: Sequence[Sequence[Comparison]],
    timed: Sequence[Sequence[Timed]],
    command: str,
    notes: Sequence[str],
    problems: Sequence[str],
) -> str:
    """Return all figures as JSON; an undefined one is null."""
    boards = []
    for analysis, compared, runs in zip(analyses, comparisons, timed, strict=True):
        selection = analysis.selection
        boards.append(
            {
                **dataclasses.asdict(selection.group),
                "baseline": selection.baseline,
                "reference": selection.reference,
                "resamples": analysis.resamples,
                "random_seed": analysis.seed,
                "margin": analysis.margin,
                "tasks": {
                    task.name: {
                        "metrics": task.info.metrics,
                        "seeds": list(task.seeds),
                        "examples": len(task.labels),
                        "clusters": task.n_clusters,
                    }
                    for task in selection.grid.tasks
                },
                "methods": [_plain(line) for line in analysis.lines],
                "points": [_plain(point) for point in analysis.points],
                "critical_difference": _plain(analysis.critical),
                "timed": [_plain(one) for one in runs],
                "claims": [_plain(one) for one in compared],
                "notes": list(analysis.notes),
            }
        )
    document = {"command": command, "leaderboards": boards, "notes": list(notes), "problems": list(problems)}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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


def as_csv(
    analyses: Sequence[Analysis], comparisons: Sequence[Sequence[Comparison]], timed: Sequence[Sequence[Timed]]
) -> str:
    """Return all figures in long form, one a line; ``task`` is empty for the suite."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for analysis, compared, runs in zip(analyses, comparisons, timed, strict=True):
        group = dataclasses.asdict(analysis.selection.group)
        for row in itertools.chain(_rows(analysis, compared), timed_rows(runs)):
            writer.writerow(group | {key: "" if value is None else value for key, value in row.items()})
    return stream.getvalue()


def _rows(analysis: Analysis, compared: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    for line in analysis.lines:
        own = {"method": line.method}
        yield own | {"figure": "score"} | _estimate(line.score)
        yield from _versus(own, line.versus)
        if line.rank is not None:
            yield own | {"figure": "rank", "low": line.rank[0], "high": line.rank[1], "decision": f"tied {line.tied}"}
        yield own | {"figure": "iqm"} | _estimate(line.iqm)
        if line.improvement is not None:
            yield own | {"figure": "probability_of_improvement"} | _estimate(line.improvement)
        if analysis.critical is not None and line.method in analysis.critical.ranks:
            yield own | {"figure": "mean_rank", "value": analysis.critical.ranks[line.method]}
        yield own | {"figure": "qps"} | _estimate(line.qps)
        for name, found in (("qps_ratio", line.qps_ratio), ("qps_to_baseline", line.qps_to_baseline)):
            if found is not None:
                yield own | {"figure": name} | _estimate(found)
        if line.unparsable is not None:
            yield own | {"figure": "unparsable", "value": line.unparsable}
        for name, cost in line.costs.items():
            if cost.mean is not None:
                yield own | {"figure": f"cost: {name}", "value": cost.mean}
            if cost.per_point is not None or cost.said:
                yield own | {"figure": f"cost a point: {name}", "decision": cost.said} | _estimate(cost.per_point)
        for claim, test in line.equivalence.items():
            yield own | {"figure": f"equivalence: {claim}"} | _equivalence(test)
        for task in line.tasks:
            at = own | {"task": task.task}
            yield at | {"figure": "score"} | _estimate(task.score)
            yield from _versus(at, task.versus)
    for point in analysis.points:
        if point.on_front is not None:
            said = "on the front" if point.on_front else "dominated"
            yield {"method": point.method, "figure": "front_probability", "value": point.probability, "decision": said}
    for one in compared:
        yield {"method": one.method, "figure": f"claim: {one.id}", "decision": one.verdict} | _estimate(one.ours)


def _versus(at: dict[str, Any], versus: Versus | None) -> Iterator[dict[str, Any]]:
    if versus is None:
        return
    if versus.gain is not None:
        yield at | {"figure": "gain"} | _estimate(versus.gain) | ({"decision": "unstable"} if versus.unstable else {})
    yield at | {"figure": "difference"} | _estimate(versus.difference) | _test(versus.test)
    if versus.detectable is not None:
        yield at | {"figure": "detectable", "value": versus.detectable}


def _estimate(found: Estimate | None) -> dict[str, Any]:
    if found is None:
        return {}
    row = dataclasses.asdict(found)
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _test(test: Test | None) -> dict[str, Any]:
    if test is None:
        return {}
    decision = "significant" if test.significant else "not significant" if test.decidable else "undecidable"
    return {"p": test.p, "p_attainable": test.attainable, "p_adjusted": test.adjusted, "decision": decision}


def _equivalence(test: Equivalence) -> dict[str, Any]:
    said = "equivalent" if test.equivalent <= 0.05 else "no worse" if test.no_worse <= 0.05 else "not shown"
    return {"p": test.equivalent, "decision": said}
