"""The tables of equivalence tests, and of robust aggregates."""

from __future__ import annotations

from functools import partial

from dhrd_bench.report.figures import NONE, estimate_cell, number, p_value, shown, three_digits
from dhrd_bench.report.layout import Column, Filled, Table, TableCell, laid_out
from dhrd_bench.stats.analysis import Analysis, Line
from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.ranking import CriticalDifference

_Tested = tuple[str, str, Equivalence]
"""A method, a claim about it and its test."""


def equivalences(analysis: Analysis) -> Table:
    """Return the claims of equivalence within the user's margin."""
    tested = [(line.method, claim, test) for line in analysis.lines for claim, test in line.equivalence.items()]
    columns: list[Filled[_Tested]] = [
        (Column("Method", "left"), lambda each: TableCell(each[0])),
        (Column("Claim", "left"), lambda each: TableCell(each[1])),
        (Column("Shown", "left"), lambda each: TableCell(said := shown(each[2]), "", said != "not shown")),
        (Column("p no worse", help="one-sided test against the margin"),
         lambda each: TableCell(p_value(each[2].no_worse))),
        (Column("p equivalent", help="both sides of it (TOST)"), lambda each: TableCell(p_value(each[2].equivalent))),
    ]  # fmt: skip
    caption = ["Not corrected for the number of claims; the verdict above is."]
    return laid_out(f"Equivalence within {analysis.margin:g} %", columns, tested, caption)


def aggregates(analysis: Analysis) -> Table:
    """Return robust aggregates and what further evidence would take."""
    base, critical = analysis.selection.baseline, analysis.critical
    over = "mean of the middle half of the (task, seed) scores"
    columns: list[Filled[Line]] = [
        (Column("Method", "left"), lambda line: TableCell(line.method)),
        (Column("IQM", help=over), lambda line: estimate_cell(line.iqm)),
        (Column("P(better)", help=f"chance that a run beats a run of {base} on the same task" if base else "", spare=1),
         lambda line: estimate_cell(line.improvement, 2)),
        (Column("Mean rank", help=_told_apart(critical), spare=2), partial(_mean_rank, critical)),
        (Column("Difference", help=f"to {base} in points" if base else ""),
         lambda line: estimate_cell(line.versus.difference, sign=True) if line.versus else TableCell(NONE)),
    ]  # fmt: skip
    if base is not None and analysis.margin is not None:
        aim = (
            f"to find a difference of {analysis.margin:g} % of {base}'s score after correction, or to exclude it "
            "(TOST, not corrected), with 80 % power, all else equal"
        )
        columns += [
            (Column("Seeds needed", help=aim, spare=3), _seeds_needed),
            (Column("Examples needed", help="likewise, times those there are", spare=4), _examples_needed),
        ]
    caption = [
        "Intervals of IQM and P(better) are over seeds only, and hold in some 75 % with two seeds, 85 % with three, "
        "90 % with five."
    ]
    return laid_out("Further figures", columns, analysis.lines, caption, detail=True)


def _told_apart(critical: CriticalDifference | None) -> str:
    apart = f"; ranks closer than {critical.difference:.2f} are not told apart (Nemenyi, 5 %)" if critical else ""
    return f"over tasks{apart}"


def _mean_rank(critical: CriticalDifference | None, line: Line) -> TableCell:
    rank = critical.ranks.get(line.method) if critical else None
    return TableCell(NONE if rank is None else number(rank, 2))


def _seeds_needed(line: Line) -> TableCell:
    needed = line.versus.needed if line.versus else None
    return TableCell(NONE if needed is None or needed.seeds is None else f"{needed.seeds:,}")


def _examples_needed(line: Line) -> TableCell:
    needed = line.versus.needed if line.versus else None
    return TableCell(NONE if needed is None or needed.examples is None else f"{three_digits(needed.examples)}×")
