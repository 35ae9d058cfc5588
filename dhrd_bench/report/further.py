"""The tables of equivalence tests, and of robust aggregates."""

from __future__ import annotations

from dhrd_bench.report.figures import NONE, estimate_cell, number, p_value, shown, three_digits
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.stats.analysis import Analysis, Versus


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
    asked = base is not None and analysis.margin is not None
    rows = []
    for line in analysis.lines:
        mean_rank = critical.ranks.get(line.method) if critical else None
        row = [
            TableCell(line.method),
            estimate_cell(line.iqm),
            estimate_cell(line.improvement, 2),
            TableCell(NONE if mean_rank is None else number(mean_rank, 2)),
            estimate_cell(line.versus.difference, sign=True) if line.versus else TableCell(NONE),
        ]
        if asked:
            row += _needed(line.versus)
        rows.append(tuple(row))
    caption = [
        "IQM: mean of the middle half of the (task, seed) scores. Its intervals and those of P(better) are over seeds "
        "only, and hold in some 75 % with two seeds, 85 % with three, 90 % with five.",
        f"P(better): chance that a run beats a run of {base} on the same task." if base else "",
        f"Mean rank over tasks; ranks closer than {critical.difference:.2f} are not told apart (Nemenyi, 5 %)."
        if critical
        else "",
    ]
    columns = [Column("Method", "left"), Column("IQM"), Column("P(better)"), Column("Mean rank"), Column("Difference")]
    if asked:
        columns += [Column("Seeds needed"), Column("Examples needed")]
        caption.append(
            f"Seeds needed, examples needed: to find a difference of {analysis.margin:g} % of {base}'s score after "
            "correction, or to exclude it (TOST, not corrected), with 80 % power, all else equal."
        )
    return Table(
        "Further figures",
        tuple(columns),
        tuple(rows),
        tuple(filter(None, caption)),
        detail=True,
    )


def _needed(versus: Versus | None) -> list[TableCell]:
    needed = versus.needed if versus else None
    seeds = NONE if needed is None or needed.seeds is None else f"{needed.seeds:,}"
    examples = NONE if needed is None or needed.examples is None else f"{three_digits(needed.examples)}×"
    return [TableCell(seeds), TableCell(examples)]
