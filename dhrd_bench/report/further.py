"""The tables of equivalence tests, and of robust aggregates."""

from __future__ import annotations

from dhrd_bench.report.figures import NONE, estimate_cell, number, p_value, shown, three_digits
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.stats.analysis import Analysis


def equivalences(analysis: Analysis) -> Table:
    """Return the claims of equivalence within the user's margin."""
    rows = []
    for line in analysis.lines:
        for claim, test in line.equivalence.items():
            said = shown(test)
            rows.append(
                (
                    TableCell(line.method),
                    TableCell(claim),
                    TableCell(said, "", said != "not shown"),
                    TableCell(p_value(test.no_worse)),
                    TableCell(p_value(test.equivalent)),
                )
            )
    heads = (
        Column("Method", "left"), Column("Claim", "left"), Column("Shown", "left"), Column("p no worse"),
        Column("p equivalent"),
    )  # fmt: skip
    return Table(
        f"Equivalence within {analysis.margin:g} %",
        heads,
        tuple(rows),
        ("One-sided tests against the margin (no worse), both sides (equivalent: TOST); not corrected.",),
    )


def aggregates(analysis: Analysis) -> Table:
    """Return robust aggregates and what further evidence would take."""
    base = analysis.selection.baseline
    critical = analysis.critical
    rows = []
    for line in analysis.lines:
        needed = line.versus.needed if line.versus else None
        mean_rank = critical.ranks.get(line.method) if critical else None
        rows.append(
            (
                TableCell(line.method),
                estimate_cell(line.iqm),
                estimate_cell(line.improvement, 2),
                TableCell(NONE if mean_rank is None else number(mean_rank, 2)),
                estimate_cell(line.versus.difference, sign=True) if line.versus else TableCell(NONE),
                TableCell(NONE if needed is None or needed.seeds is None else f"{needed.seeds:,}"),
                TableCell(NONE if needed is None or needed.examples is None else f"{three_digits(needed.examples)}×"),
            )
        )
    caption = [
        "IQM: mean of the middle half of the (task, seed) scores; intervals over seeds only.",
        f"P(better): chance that a run beats a run of {base} on the same task." if base else "",
        f"Mean rank over tasks; ranks closer than {critical.difference:.2f} are not told apart (Nemenyi, 5 %)."
        if critical
        else "",
        "Seeds needed, examples needed: to find the difference seen with 80 % power, all else equal." if base else "",
    ]
    return Table(
        "Further figures",
        (
            Column("Method", "left"), Column("IQM"), Column("P(better)"), Column("Mean rank"), Column("Difference"),
            Column("Seeds needed"), Column("Examples needed"),
        ),
        tuple(rows),
        tuple(filter(None, caption)),
        detail=True,
    )  # fmt: skip
