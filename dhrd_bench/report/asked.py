"""What a reviewer asks next, as data: beliefs, calibration, agreement of seeds, slices and pooled gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dhrd_bench.report.board import Board
from dhrd_bench.stats.agreement import agreements
from dhrd_bench.stats.beliefs import hierarchical
from dhrd_bench.stats.calibration import calibrations
from dhrd_bench.stats.pooling import Over, PooledGain, pooled_gains
from dhrd_bench.stats.slices import slices


def asked(board: Board) -> dict[str, Any]:
    """Return by name what the tables of a board do not show, of its ranked methods; see docs/statistics.md."""
    analysis = board.analysis
    selection, suite, resamples, seed = analysis.selection, analysis.suite, analysis.resamples, analysis.seed
    grid, baseline = selection.grid, selection.baseline
    given = board.probabilities
    found: dict[str, Any] = {"hierarchical": [], "slices": []}
    if baseline is not None and baseline in grid.methods:
        found["hierarchical"] = hierarchical(suite, grid.methods.index(baseline), analysis.margin, seed)
        found["slices"] = slices(grid, baseline, resamples, seed)
    return found | {
        "calibration": calibrations(given, grid.methods, baseline, resamples, seed) if given else [],
        "no_calibration": {task.task.name: task.left_out for task in given if task.left_out},
        "seed_agreement": agreements(grid, resamples, seed),
    }


def pooled(boards: Sequence[Board], over: Over) -> list[PooledGain]:
    """Return the gains of boards that differ in `over` only, pooled."""
    return pooled_gains([board.analysis for board in boards], over)
