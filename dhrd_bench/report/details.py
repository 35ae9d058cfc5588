"""What a reviewer asks next, as short tables; all of it, by task too, is in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, get_args

from dhrd_bench.report.asked import asked, pooled
from dhrd_bench.report.board import Board
from dhrd_bench.report.figures import NONE, estimate_cell, number, p_value, share
from dhrd_bench.report.layout import Column, Filled, Section, Table, TableCell, laid_out
from dhrd_bench.stats.agreement import Agreement
from dhrd_bench.stats.beliefs import Belief, Hierarchical
from dhrd_bench.stats.calibration import BINS, Calibration
from dhrd_bench.stats.pooling import Over, PooledGain
from dhrd_bench.stats.slices import Slice

SLICES = 10
"""Slices that are shown, those with the lowest p."""
_METHOD = Column("Method", "left")


def tables_asked(board: Board) -> Iterator[Table]:
    """Yield the tables of what `asked` returns, those that have a row."""
    found = asked(board)
    base, margin = board.analysis.selection.baseline, board.analysis.margin
    yield from filter(
        lambda table: table.rows,
        (
            beliefs_table(found["hierarchical"], base, margin),
            slices_table(found["slices"], base),
            calibration_table([each for each in found["calibration"] if each.task is None]),
            agreement_table([each for each in found["seed_agreement"] if each.task is None]),
        ),
    )


def pooled_sections(boards: Sequence[Board]) -> Iterator[Section]:
    """Yield the sections on gains pooled over backbones and over prompts, where boards differ in nothing else."""
    for over in get_args(Over):
        if found := pooled(boards, over):
            about = f"gains on all {over} together; the same test examples are answered with all, which is allowed for"
            yield Section(f"Pooled over {over}", about, (), (_pooled_table(found, over),), ())


def beliefs_table(found: Sequence[Hierarchical], base: str | None, margin: float | None) -> Table:
    """Return how probable it is that methods are better than the baseline, the same or worse."""
    beyond = f" by more than {margin:g} % of its score" if margin else ""
    columns: list[Filled[Hierarchical]] = [
        (_METHOD, lambda each: TableCell(each.method)),
        (Column("Difference", help="posterior mean in points, with its central 95 % interval"),
         lambda each: estimate_cell(each.suite.difference, sign=True)),
        (Column("Better", help=f"probability that it is better than {base}{beyond}"), partial(_belief, "better")),
        (Column("Worse", help="likewise"), partial(_belief, "worse")),
    ]  # fmt: skip
    if margin:
        same = Column("Same", help="probability that the difference is within the margin: practically none")
        columns.insert(3, (same, partial(_belief, "same")))
    columns += [
        (Column("New task", help="probability that it is better on a further task like these", spare=1),
         lambda each: TableCell(share(each.new_task.better) if each.new_task else NONE)),
        (Column("Between tasks", help="standard deviation of true differences, in points", spare=2),
         lambda each: TableCell(number(each.between))),
    ]  # fmt: skip
    caption = ["By a hierarchical model of all tasks (docs/statistics.md): beliefs, and no tests."]
    return laid_out("How probable", columns, found, caption, detail=True)


def _belief(what: Literal["better", "same", "worse"], each: Hierarchical) -> TableCell:
    belief: Belief = each.suite
    return TableCell(share(getattr(belief, what)))


def slices_table(found: Sequence[Slice], base: str | None) -> Table:
    """Return the slices of tasks with the lowest p."""
    shown = sorted(found, key=lambda each: (each.test.adjusted, each.test.p, each.task, each.slice, each.method))
    columns: list[Filled[Slice]] = [
        (Column("Task", "left"), lambda each: TableCell(each.task)),
        (Column("Slice", "left", help="rows of one true class"), lambda each: TableCell(each.slice)),
        (_METHOD, lambda each: TableCell(each.method)),
        (Column("Rows", spare=2), lambda each: TableCell(f"{each.rows:,}")),
        (Column("Accuracy", spare=1), lambda each: estimate_cell(each.accuracy)),
        (Column("Difference", help=f"to {base} in points"),
         lambda each: estimate_cell(each.difference, sign=True, strong=each.test.significant)),
        (Column("p", help=f"Holm-corrected over all {len(found)} comparisons"),
         lambda each: TableCell(p_value(each.test.adjusted), "", each.test.significant)),
    ]  # fmt: skip
    least = [f"The {SLICES} with the lowest p."] if len(found) > SLICES else []
    return laid_out("Slices", columns, shown[:SLICES], least, detail=True)


def calibration_table(found: Sequence[Calibration]) -> Table:
    """Return how good class probabilities are, as means over tasks."""
    meanings = {
        "NLL": "negative log-probability of the true class, in nats",
        "Brier": "squared distance of the probabilities from the truth, 0-2",
        "ECE": f"calibration error of the answer's probability in {BINS} bins, 0-1",
        "AURC": "mean error rate over all shares of answering only where the probability is highest, 0-1",
    }
    columns: list[Filled[Calibration]] = [(_METHOD, lambda each: TableCell(each.method))]
    for spare, (name, meaning) in enumerate(meanings.items()):
        columns.append((Column(name, help=meaning, spare=spare and 4 - spare), partial(_calibrated, name.lower())))
    caption = ["Means over tasks; lower is better. Methods without probabilities on a task are left out."]
    return laid_out("Calibration", columns, found, caption, detail=True)


def _calibrated(name: str, each: Calibration) -> TableCell:
    return estimate_cell(each.figures[name], 3)


def agreement_table(found: Sequence[Agreement]) -> Table:
    """Return how far the seeds of a method answer alike, as means over tasks."""
    columns: list[Filled[Agreement]] = [
        (_METHOD, lambda each: TableCell(each.method)),
        (Column("Agreement %", help="rows that two seeds answer alike"), lambda each: estimate_cell(each.agreement)),
        (Column("Kappa", help="agreement beyond that of answers drawn by how often they are given (Fleiss)"),
         lambda each: estimate_cell(each.kappa, 2)),
    ]  # fmt: skip
    return laid_out("Agreement of seeds", columns, found, ["Means over tasks with several seeds."], detail=True)


def _pooled_table(found: Sequence[PooledGain], over: Over) -> Table:
    backbone = (Column("Backbone", "left", spare=4), lambda each: TableCell(each.backbone or NONE))
    columns: list[Filled[PooledGain]] = [
        (Column("Suite", "left"), lambda each: TableCell(each.suite)),
        *([backbone] if over == "prompts" else []),
        (Column("Budget", "left", spare=3), lambda each: TableCell(each.budget)),
        (_METHOD, lambda each: TableCell(each.method)),
        (Column(over.capitalize()), lambda each: TableCell(str(len(each.gains)))),
        (Column("Gain %", help="over the baseline, random-effects mean"),
         lambda each: estimate_cell(each.pooled.figure, sign=True)),
        (Column("Between", help=f"standard deviation of true gains between {over}", spare=1),
         lambda each: TableCell(number(each.pooled.tau))),
        (Column(f"Further {over[:-1]}", help="95 % prediction interval of its gain", spare=2), _prediction),
    ]  # fmt: skip
    return laid_out(f"Gains over {over}", columns, found, detail=True)


def _prediction(each: PooledGain) -> TableCell:
    low, high = each.pooled.new_low, each.pooled.new_high
    if low is None or high is None:
        return TableCell(NONE)
    return TableCell(f"[{number(low, sign=True)}, {number(high, sign=True)}]")
