"""The table of accuracy, throughput and what training cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from dhrd_bench.report.figures import NONE, estimate_cell, positive_cell, share, single_run, three_digits
from dhrd_bench.report.layout import Column, Filled, Table, TableCell, laid_out
from dhrd_bench.stats.analysis import Analysis, Line
from dhrd_bench.stats.cascade import Frontier
from dhrd_bench.stats.cost import energy_sources
from dhrd_bench.stats.pareto import Point

HEADS = {
    "tokens": ("Train tokens", "that training read, the mean of a cell", 2),
    "seconds": ("Train seconds", "that training took, the mean of a cell", 4),
    "teacher_tokens": ("Teacher tokens", "of the rationales handed to the method, the mean of a cell", 1),
    "joules": ("Train joules", "that were drawn meanwhile", 5),
    "joules_an_example": ("Joules an example", "that were drawn while test examples were predicted", 6),
}
"""By the cost: its heading, what it is, and how soon its column is left out where there is no room."""
ENERGY = ("joules", "joules_an_example")


def accuracy_and_throughput(analysis: Analysis, frontiers: Sequence[Frontier] = ()) -> Table:
    """Return which ranked methods are on the Pareto front, and what their training cost."""
    lines = {line.method: line for line in analysis.lines}
    columns: list[Filled[Point]] = [
        (Column("Method", "left"), lambda point: TableCell(point.method)),
        (Column("Score"), lambda point: estimate_cell(point.score)),
        (Column("QPS", help="of the runs that were scored, not timed side by side"), lambda p: positive_cell(p.qps)),
        (Column("Front", "left", help="whether no other method has a score and a QPS that are both at least as high, "
                "one of them higher"), _on_front),
        (Column("P(front)", help="share of joint draws of all scores and QPS in which that is so", spare=3),
         lambda point: TableCell(NONE if point.probability is None else share(point.probability))),
    ]  # fmt: skip
    for name in _told(analysis):
        head, meaning, spare = HEADS[name]
        columns.append((Column(head, help=meaning, spare=spare), partial(_mean, lines, name)))
    caption = [note] if (note := single_run(analysis).strip()) else []
    idle = [point.method for point in analysis.points if point.qps is None]
    if idle:
        caption.append(f"{', '.join(idle)}: reads nothing of its input, so no QPS to compare; left out of the front.")
    if sources := energy_sources(analysis.selection.cells["energy"]):
        caption.append(_energy(sources))
    table = laid_out("Accuracy and throughput", columns, analysis.points, caption)
    return replace(table, points=analysis.points, frontiers=tuple(frontiers))


def costs_a_point(analysis: Analysis) -> Table:
    """Return what each point gained over the baseline costs."""
    base = analysis.selection.baseline
    columns: list[Filled[Line]] = [
        (Column("Method", "left"), lambda line: TableCell(line.method)),
        *((Column(f"{HEADS[name][0]} a point"), partial(_a_point, name)) for name in _told(analysis)),
    ]
    caption = (
        f"Cost beyond that of {base} for each point gained over it; the interval is that of the points. No gain shown: "
        "the 95 % interval of the difference reaches 0.",
    )
    return laid_out("Costs a point", columns, [line for line in analysis.lines if line.versus], caption, detail=True)


def _told(analysis: Analysis) -> list[str]:
    """Return the costs that there are columns for: energy only if some record tells of it."""
    metered = any(line.costs[name].mean is not None for line in analysis.lines for name in ENERGY)
    return [name for name in HEADS if metered or name not in ENERGY]


def _on_front(point: Point) -> TableCell:
    return TableCell({True: "yes", False: "no", None: NONE}[point.on_front], strong=bool(point.on_front))


def _mean(lines: Mapping[str, Line], name: str, point: Point) -> TableCell:
    cost = lines[point.method].costs[name]
    return TableCell(NONE if cost.mean is None else "0" if cost.mean == 0 else three_digits(cost.mean))


def _energy(sources: list[str]) -> str:
    if len(sources) > 1:
        return f"No joules: the records have them from unlike sources ({', '.join(sources)})."
    told = "estimated by CodeCarbon" if sources == ["codecarbon"] else f"told by the hardware's counters ({sources[0]})"
    return f"Joules: {told}, whatever else ran there, while a method was fitted and while it predicted test examples."


def _a_point(name: str, line: Line) -> TableCell:
    cost = line.costs[name]
    return TableCell(cost.said) if cost.said else positive_cell(cost.per_point)
