"""The table of what a cascade of two methods would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dhrd_bench.report.figures import estimate_cell, positive_cell
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.stats.cascade import Frontier, composed
from dhrd_bench.stats.design import Selection


def cascades_table(selection: Selection, frontiers: Sequence[Frontier]) -> Table:
    """Return score and QPS by the share of examples that the slow method is asked.

    Terminals leave it out where no method of the table is such a cascade.
    """
    rows = tuple(
        (
            TableCell(frontier.name),
            TableCell(f"{step.share:.0%}"),
            estimate_cell(step.score),
            positive_cell(step.qps),
        )
        for frontier in frontiers
        for step in frontier.steps
    )
    columns = (Column("Fast → slow", "left"), Column("Handed on"), Column("Score"), Column("QPS"))
    caption = (
        "Had the slow method been asked the examples of which the fast one is least sure (its largest class "
        "probability, or the margin to the next), so many of each task and seed. Answers and seconds are those of the "
        "two methods' own records: each example handed on is taken to cost the slow method's mean; few may take "
        "longer each.",
    )
    return Table("Cascades", columns, rows, caption, detail=not composed(selection))


def without_frontier(selection: Selection, found: Sequence[Frontier]) -> Iterator[str]:
    """Yield a sentence for each method composed of a fast and a slow one of which there is no frontier."""
    drawn = {frontier.pair for frontier in found}
    for pair in composed(selection):
        if pair not in drawn:
            yield (
                f"No frontier from {pair.fast} to {pair.slow}: it takes both in this table, with a QPS and class "
                f"scores of {pair.fast}."
            )
