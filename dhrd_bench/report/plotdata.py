"""The data of figures: what each draws, as a table that is also written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dhrd_bench.errors import UserError
from dhrd_bench.report.board import Board
from dhrd_bench.stats.design import Flags, Floats
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.power import detectable, grown
from dhrd_bench.stats.reliability import reliability
from dhrd_bench.stats.significance import ALPHA

SEEDS = 20
"""Seeds up to which power is told."""
GROWTH = (0.5, 1, 2, 4, 8, 16)
COVERAGES = np.arange(5, 101, 5) / 100

Row = dict[str, Any]


def _ends(estimate: Estimate) -> tuple[float, float]:
    if estimate.low is None or estimate.high is None:
        return math.nan, math.nan
    return estimate.low, estimate.high


def one(boards: Sequence[Board]) -> Board:
    """Return the only board.

    Raises
    ------
    UserError
        If there are several.
    """
    if len(boards) > 1:
        names = "; ".join(" · ".join(_group(board)) for board in boards)
        raise UserError(
            f"There are {len(boards)} leaderboards: {names}.", "Name one by --suite, --backbone and --budget."
        )
    return boards[0]


def _group(board: Board) -> tuple[str, str, str]:
    group = board.analysis.selection.group
    return group.suite, group.backbone, group.budget


def pareto(boards: Sequence[Board]) -> list[Row]:
    """Return score and QPS of every method that has both."""
    rows = []
    for point in one(boards).analysis.points:
        if point.qps is None or point.qps.value <= 0:
            continue
        (low, high), (slow, fast) = _ends(point.score), _ends(point.qps)
        rows.append(
            {
                "method": point.method, "score": point.score.value, "score_low": low, "score_high": high,
                "qps": point.qps.value, "qps_low": slow, "qps_high": fast, "on_front": point.on_front,
                "probability": point.probability,
            }
        )  # fmt: skip
    return rows


def gains(boards: Sequence[Board]) -> list[Row]:
    """Return the gain of every method over the baseline in %, what could have been found, and what is of interest."""
    board = one(boards)
    findings = {claim.method: claim for claim in board.verdict.claims if claim.claim == "score"}
    rows = []
    for line in board.analysis.lines:
        versus = line.versus
        if versus is None or versus.gain is None:
            continue
        low, high = _ends(versus.gain)
        base = line.score.value - versus.difference.value
        points = versus.detectable
        rows.append(
            {
                "method": line.method, "gain": versus.gain.value, "low": low, "high": high,
                "p": findings[line.method].p, "finding": findings[line.method].finding,
                "detectable": math.nan if points is None or base <= 0 else 100 * points / base,
                "margin": board.analysis.margin or math.nan,
            }
        )  # fmt: skip
    return rows


def curves(boards: Sequence[Board]) -> list[Row]:
    """Return scores by training rows, where budgets differ in these; else dev accuracy by epoch."""
    places = {_group(board)[:2] for board in boards}
    if len(places) > 1:
        raise UserError("Curves are of one suite and backbone.", "Name them by --suite and --backbone.")
    sizes = {board: _train_rows(board) for board in boards}
    if len(set(sizes.values())) > 1:
        ordered = sorted(boards, key=sizes.__getitem__)
        return [
            {
                "axis": "training rows", "method": line.method, "x": sizes[board], "value": line.score.value,
                "low": _ends(line.score)[0], "high": _ends(line.score)[1], "budget": _group(board)[2],
            }
            for board in ordered
            for line in board.analysis.lines
            if line.ranked
        ]  # fmt: skip
    return list(_epochs(one(boards)))


def _train_rows(board: Board) -> float:
    return float(np.mean([data["train_rows"] for data in board.analysis.selection.cells["data"]]))


def _epochs(board: Board) -> Iterator[Row]:
    cells = board.analysis.selection.cells
    for method in (line.method for line in board.analysis.lines if line.ranked):
        own = cells[cells["method"] == method]
        kept = {
            (task, seed): [epoch["dev_accuracy"] for epoch in train.get("epochs", ())]
            for task, seed, train in zip(own["task"], own["seed"], own["train"], strict=True)
            if train.get("epochs") and all("dev_accuracy" in epoch for epoch in train["epochs"])
        }
        for epoch in range(min(map(len, kept.values()), default=0)):
            seeds = sorted({seed for _, seed in kept})
            means = [np.mean([kept[at][epoch] for at in kept if at[1] == seed]) for seed in seeds]
            yield {
                "axis": "epoch", "method": method, "x": epoch + 1, "value": float(np.mean(means)),
                "low": float(min(means)), "high": float(max(means)), "budget": _group(board)[2],
            }  # fmt: skip


def power(boards: Sequence[Board]) -> list[Row]:
    """Return the detectable difference of every method by the number of seeds, and by the size of the test sets."""
    analysis = one(boards).analysis
    suite, grid, base = analysis.suite, analysis.selection.grid, analysis.selection.baseline
    compared = sum(line.versus is not None for line in analysis.lines)
    if base not in suite.methods:
        return []
    unit, at = np.eye(len(suite.methods)), suite.methods.index(base)
    rows: list[Row] = []
    for line in analysis.lines:
        if not line.ranked or line.versus is None:
            continue
        method = suite.methods.index(line.method)
        spread = suite.variance({t: (unit[method] - unit[at]) / len(suite.tasks) for t in suite.every})
        if spread is None:
            continue
        seeds = min(int(task.shared([method, at]).sum()) for task in grid.tasks)
        counts = range(2, max(SEEDS, seeds) + 1) if seeds > 1 else ()
        for axis, values in (("seeds", counts), ("test examples", GROWTH)):
            for value in values:
                to, growth = (int(value), 1.0) if axis == "seeds" else (seeds, float(value))
                then = grown(spread, seeds, to, growth)
                points = detectable(Estimate(0.0, se=math.sqrt(then.total), df=then.df), ALPHA / compared)
                if points is not None:
                    now = value == (seeds if axis == "seeds" else 1)
                    rows.append({"axis": axis, "method": line.method, "x": value, "detectable": points, "now": now})
    return rows


def calibration(boards: Sequence[Board]) -> list[Row]:
    """Return, as means over tasks, accuracy by stated probability and the error rate by share of rows answered."""
    board = one(boards)
    given, rows = board.probabilities, list[Row]()
    for method, name in enumerate(board.analysis.suite.methods):
        if not given or any(name in task.left_out for task in given):
            continue
        for each in reliability(given, method):
            low, high = _ends(each.right)
            rows.append(
                {
                    "axis": "probability", "method": name, "x": each.sure, "value": each.right.value, "low": low,
                    "high": high, "share": each.share,
                }
            )  # fmt: skip
        risks = np.mean([_risk(*task.answers(method)) for task in given], axis=0)
        rows += [
            {"axis": "coverage", "method": name, "x": float(at), "value": float(risk), "share": float(at)}
            for at, risk in zip(COVERAGES, risks, strict=True)
        ]
    return rows


def _risk(sure: Floats, right: Flags) -> Floats:
    """Return the error rate among the surest answers, for each share of them."""
    wrong = ~right.ravel()[np.argsort(-sure.ravel(), kind="stable")]
    kept = np.maximum(1, np.round(COVERAGES * sure.size).astype(int))
    return np.asarray(np.cumsum(wrong)[kept - 1] / kept)


def seeds(boards: Sequence[Board]) -> list[Row]:
    """Return the score of every method at every seed that all tasks have, and whether some task collapsed there."""
    analysis = one(boards).analysis
    suite, rows = analysis.suite, list[Row]()
    for line in analysis.lines:
        if not line.ranked:
            continue
        method = suite.methods.index(line.method)
        by_task = [dict(zip(each.task.seeds, each.point[method].tolist(), strict=True)) for each in suite.tasks]
        frail = {seed for task in line.tasks for seed in task.collapsed}
        low, high = _ends(line.score)
        for seed in sorted(set.intersection(*(set(scores) for scores in by_task))):
            score = float(np.mean([scores[seed] for scores in by_task]))
            if not math.isnan(score):
                rows.append(
                    {
                        "method": line.method, "seed": seed, "score": score, "collapsed": seed in frail,
                        "mean": line.score.value, "low": low, "high": high,
                    }
                )  # fmt: skip
    return rows


DATA: dict[str, tuple[Callable[[Sequence[Board]], list[Row]], str]] = {
    "pareto": (pareto, "No method has a score and a QPS."),
    "gains": (gains, "No method has a gain over a baseline."),
    "curves": (curves, "The records hold neither several sizes of training sets nor dev accuracies by epoch."),
    "power": (power, "No method was compared with a baseline by metrics that can be resampled."),
    "calibration": (calibration, "No method has class probabilities on all tasks."),
    "seeds": (seeds, "No method has a seed that all tasks have."),
}
"""By the figure's name: what gives its data, and what is said where there are none."""


def data_of(kind: str, boards: Sequence[Board]) -> pd.DataFrame:
    """Return the data of a figure.

    Raises
    ------
    UserError
        If these boards have none.
    """
    rows, none = DATA[kind]
    found = rows(boards)
    if not found:
        raise UserError(f"There is nothing to draw: {none[0].lower()}{none[1:]}", "See dhrd-bench report.")
    return pd.DataFrame(found)
