"""One board as the data of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dhrd_bench.report.board import Board
from dhrd_bench.report.figures import untaught
from dhrd_bench.report.layout import Table
from dhrd_bench.report.verified import verified_share
from dhrd_bench.site.curves import curves
from dhrd_bench.stats.analysis import Analysis, Line, Versus
from dhrd_bench.stats.finding import finding
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import front


def board_data(board: Board) -> dict[str, Any]:
    """Return all that the pages of a board show, but for single rows."""
    analysis, selection = board.analysis, board.analysis.selection
    section = board.section()
    verified = verified_share(selection.cells, board.table.verified) if board.table else {}
    return {
        "about": section.about,
        "verdict": section.verdict,
        "baseline": selection.baseline,
        "reference": selection.reference,
        "margin": analysis.margin,
        "tasks": [
            {"name": task.name, "metrics": task.info.metrics, "seeds": task.seeds, "rows": len(task.labels)}
            for task in selection.grid.tasks
        ],
        "methods": _methods(board, verified),
        "claims": board.claims,
        "paper": board.published.paper.paper if board.published else None,
        "tables": [table_data(table) for table in section.tables[1:]],  # the first is the page's own
        "caption": section.tables[0].caption,
        "notes": section.notes,
    }


def _methods(board: Board, verified: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    analysis, names = board.analysis, [task.name for task in board.analysis.selection.grid.tasks]
    points = {point.method: point for point in analysis.points}
    bare = {method for method, _ in untaught(analysis)}
    fronts = {name: _front(analysis, name) for name in names}
    ranked = analysis.selection.grid.methods
    given = board.probabilities
    shown = {claim.method: claim.finding for claim in board.verdict.claims if claim.claim == "score"}
    found = []
    for line in analysis.lines:
        point, by_task = points.get(line.method), {task.task: task for task in line.tasks}
        whole = _figures(line.score, line.versus) | {
            "qps": line.qps,
            "ratio": line.qps_ratio,
            "front": point.on_front if point else None,
            "probability": point.probability if point else None,
            "curves": curves(given, ranked, line.method),
        }
        if line.method in shown:  # corrected as the verdict is, equivalence too
            whole["finding"] = shown[line.method]
        places: list[dict[str, Any] | None] = []
        for at, name in enumerate(names):
            task = by_task.get(name)
            if task is None:
                places.append(None)
                continue
            own = _figures(task.score, task.versus)
            qps = analysis.speed.qps(line.method, [name]) if line.qps else None
            own |= {"qps": qps, "ratio": _ratio(analysis, line, name), "front": fronts[name].get(line.method)}
            own |= {"collapsed": task.collapsed, "curves": curves(given[at : at + 1], ranked, line.method)}
            places.append(own)
        found.append(
            {
                "name": line.method, "role": line.role, "inference": line.inference, "ranked": line.ranked,
                "rank": line.rank, "tied": line.tied, "unparsable": line.unparsable, "untaught": line.method in bare,
                "verified": verified.get(line.method), "whole": whole, "tasks": places,
                "costs": {name: cost.mean for name, cost in line.costs.items() if cost.mean is not None},
            }
        )  # fmt: skip
    return found


def _figures(score: Estimate, versus: Versus | None) -> dict[str, Any]:
    if versus is None:
        return {"score": score}
    test = versus.test
    return {
        "score": score,
        "gain": versus.gain,
        "difference": versus.difference,
        "p": test.adjusted if test else None,
        "decidable": bool(test and test.decidable),
        "detectable": versus.detectable,
        "finding": finding(versus.difference.value, test.adjusted if test else None),
    }


def _ratio(analysis: Analysis, line: Line, task: str) -> Estimate | None:
    reference = analysis.selection.reference
    return None if reference in (None, line.method) else analysis.speed.ratio(line.method, str(reference), [task])


def _front(analysis: Analysis, task: str) -> dict[str, bool]:
    """Return which of the ranked methods that have a QPS on `task` are on its front."""
    placed = [
        (line.method, own.score.value, pace.value)
        for line in analysis.lines
        for own in line.tasks
        if line.ranked and own.task == task and (pace := analysis.speed.qps(line.method, [task])) is not None
    ]
    if not placed:
        return {}
    names, scores, paces = zip(*placed, strict=True)
    return dict(zip(names, front(np.array(scores), np.array(paces)).tolist(), strict=True))


def table_data(table: Table) -> dict[str, Any]:
    """Return a table of a report as the pages take it."""
    return {
        "title": table.title,
        "columns": [{"head": column.head, "left": column.align == "left"} for column in table.columns],
        "rows": [[[cell.main, cell.detail, int(cell.strong)] for cell in row] for row in table.rows],
        "caption": table.caption,
    }
