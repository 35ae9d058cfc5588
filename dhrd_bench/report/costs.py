"""The table of accuracy, throughput and what training cost."""

from __future__ import annotations

from dhrd_bench.report.figures import NONE, estimate_cell, positive_cell, share, single_run, three_digits
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.stats.analysis import Analysis
from dhrd_bench.stats.cost import Cost, energy_sources

HEADS = {
    "tokens": "Train tokens",
    "seconds": "Train seconds",
    "teacher_tokens": "Teacher tokens",
    "joules": "Train joules",
    "joules_an_example": "Joules an example",
}
ENERGY = ("joules", "joules_an_example")


def accuracy_and_throughput(analysis: Analysis) -> Table:
    """Return which ranked methods are on the Pareto front, and what their training cost."""
    base = analysis.selection.baseline
    columns = [Column("Method", "left"), Column("Score"), Column("QPS"), Column("Front", "left"), Column("P(front)")]
    lines = {line.method: line for line in analysis.lines}
    metered = any(line.costs[name].mean is not None for line in lines.values() for name in ENERGY)
    heads = {name: head for name, head in HEADS.items() if metered or name not in ENERGY}
    for head in heads.values():
        columns += [Column(head), *([Column(f"{head} a point")] if base else [])]
    rows = []
    for point in analysis.points:
        row = [TableCell(point.method), estimate_cell(point.score), positive_cell(point.qps)]
        row.append(TableCell({True: "yes", False: "no", None: NONE}[point.on_front], strong=bool(point.on_front)))
        row.append(TableCell(NONE if point.probability is None else share(point.probability)))
        for name in heads:
            cost = lines[point.method].costs[name]
            row.append(TableCell(NONE if cost.mean is None else "0" if cost.mean == 0 else three_digits(cost.mean)))
            if base:
                row.append(TableCell("baseline") if point.method == base else _a_point(cost))
        rows.append(tuple(row))
    caption = [
        "Front: no other method has a score and a QPS that are both at least as high, one of them higher. P(front): "
        "share of joint draws of all scores and QPS in which that is so. QPS: of the runs that were scored, which were "
        f"not timed side by side.{single_run(analysis)}"
    ]
    idle = [point.method for point in analysis.points if point.qps is None]
    if idle:
        caption.append(f"{', '.join(idle)}: reads nothing of its input, so no QPS to compare; left out of the front.")
    caption.append("Train, teacher: means per cell; teacher tokens are those of the rationales handed to the method.")
    if sources := energy_sources(analysis.selection.cells["energy"]):
        caption.append(_energy(sources))
    if base:
        caption.append(
            f"A point: cost beyond that of {base} for each point gained; the interval is that of the points. No gain "
            "shown: the 95 % interval of the difference reaches 0."
        )
    return Table("Accuracy and throughput", tuple(columns), tuple(rows), tuple(caption), points=analysis.points)


def _energy(sources: list[str]) -> str:
    if len(sources) > 1:
        return f"No joules: the records have them from unlike sources ({', '.join(sources)})."
    told = "estimated by CodeCarbon" if sources == ["codecarbon"] else f"told by the hardware's counters ({sources[0]})"
    return f"Joules: {told}, whatever else ran there, while a method was fitted and while it predicted test examples."


def _a_point(cost: Cost) -> TableCell:
    return TableCell(cost.said) if cost.said else positive_cell(cost.per_point)
