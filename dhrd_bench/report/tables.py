"""The leaderboard as tables of text, the same for every renderer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dhrd_bench.stats.analysis import Analysis, Line, Versus
from dhrd_bench.stats.cost import COSTS, Cost
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import Point

MINUS = "−"
NONE = "–"


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table: a figure, its interval and whether it stands out."""

    main: str
    detail: str = ""
    strong: bool = False

    @property
    def line(self) -> str:
        """Figure and interval on one line."""
        return f"{self.main} {self.detail}".strip()


@dataclass(frozen=True)
class Column:
    """A column's heading, its side, and whether it holds sentences."""

    head: str
    align: Literal["left", "right"] = "right"
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """A table and the sentences that belong under it.

    Attributes
    ----------
    detail
        Whether a terminal leaves it out.
    rule
        Row before which a line is drawn.
    points
        What a page draws below it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: tuple[str, ...] = ()
    detail: bool = False
    rule: int | None = None
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Section:
    """All that is shown of one leaderboard."""

    title: str
    about: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """All that a report shows.

    Attributes
    ----------
    command
        The command line that makes it.
    notes
        Groups of records that have no leaderboard, and why.
    problems
        Files that could not be read.
    """

    command: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


# ---------------------------------------------------------------- figures as text


def number(value: float, places: int = 1, sign: bool = False) -> str:
    """Return `value` with `places` decimals and a true minus; no minus before a zero."""
    text = f"{abs(value):.{places}f}"
    zero = not any(c in "123456789" for c in text)
    if value < 0 and not zero:
        return MINUS + text
    return f"+{text}" if sign and not zero else text


def speed(value: float) -> str:
    """Return `value` with three figures, as 415, 99.8 or 4.14."""
    if value <= 0 or not math.isfinite(value):
        return NONE
    places = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{min(places, 4)}f}"


def p_value(p: float) -> str:
    """Return p as a paper prints it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def figure(estimate: Estimate | None, places: int = 1, sign: bool = False, strong: bool = False) -> Cell:
    """Return an estimate as a cell."""
    if estimate is None:
        return Cell(NONE)
    if estimate.low is None or estimate.high is None:
        return Cell(number(estimate.value, places, sign), "", strong)
    ends = f"[{number(estimate.low, places, sign)}, {number(estimate.high, places, sign)}]"
    return Cell(number(estimate.value, places, sign), ends, strong)


def ratio(estimate: Estimate | None) -> Cell:
    """Return a ratio as a cell."""
    return pace(estimate, "×")


def pace(estimate: Estimate | None, unit: str = "") -> Cell:
    """Return a positive figure, such as a QPS or a ratio (`unit` is then a times sign), as a cell."""
    if estimate is None:
        return Cell(NONE)
    main = f"{speed(estimate.value)}{unit}"
    if estimate.low is None or estimate.high is None:
        return Cell(main)
    return Cell(main, f"[{speed(estimate.low)}, {speed(estimate.high)}]")


def verdict(versus: Versus | None) -> Cell:
    """Return a corrected p, or that the test cannot decide."""
    if versus is None or versus.test is None:
        return Cell(NONE)
    test = versus.test
    if not test.decidable:
        return Cell("undecidable")
    return Cell(p_value(test.adjusted), "", test.significant)


# ---------------------------------------------------------------- the tables


def section(analysis: Analysis, extra: Sequence[Table] = ()) -> Section:
    """Lay one analysis out as tables."""
    group = analysis.selection.group
    tasks = analysis.selection.grid.tasks
    seeds = sorted({len(task.seeds) for task in tasks})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
    rows = sum(len(task.labels) for task in tasks)
    about = (
        f"{_many(len(tasks), 'task')}, {count} {'seed' if seeds[-1] == 1 else 'seeds'} each, {rows:,} test examples; "
        f"{analysis.resamples:,} resamples, random seed {analysis.seed}"
    )
    tables = [leaderboard(analysis), scores_by_task(analysis)]
    if any(line.versus for line in analysis.lines):
        tables.append(gains_by_task(analysis))
    tables.append(accuracy_and_throughput(analysis))
    if analysis.margin is not None:
        tables.append(equivalences(analysis))
    tables += extra
    tables.append(aggregates(analysis))
    return Section(f"{group.suite} · {group.backbone} · {group.budget}", about, tuple(tables), analysis.notes)


def leaderboard(analysis: Analysis) -> Table:
    """Return the main table."""
    base, reference = analysis.selection.baseline, analysis.selection.reference
    writes = any(line.unparsable is not None for line in analysis.lines)
    columns = [Column("Rank"), Column("Method", "left"), Column("Score")]
    if base:
        columns += [Column("Gain %"), Column("p")]
    columns += [Column("Tied", "left")]
    if base:
        columns += [Column("Detectable")]
    columns += [Column("QPS")]
    if reference:
        columns += [Column("QPS ratio")]
    if writes:
        columns += [Column("Unread %")]
    rows = []
    for line in analysis.lines:
        row = [Cell(_rank(line)), Cell(line.method), _score(line, len(_tasks(analysis)))]
        versus = line.versus
        if base:
            good = bool(versus and versus.test and versus.test.significant)
            absent = Cell("baseline" if line.method == base else NONE)
            gain = figure(versus.gain, sign=True, strong=good) if versus else absent
            if versus and versus.unstable:
                gain = Cell(gain.main + "?", gain.detail, gain.strong)
            row += [gain, verdict(versus)]
        row.append(Cell(line.tied or NONE))
        if base:
            row.append(Cell(number(versus.detectable) if versus and versus.detectable is not None else NONE))
        row.append(Cell(speed(line.qps.value) if line.qps else NONE))
        if reference:
            row.append(Cell("reference") if line.method == reference else ratio(line.qps_ratio))
        if writes:
            row.append(Cell(NONE if line.unparsable is None else number(100 * line.unparsable)))
        rows.append(tuple(row))
    ranked = sum(line.ranked for line in analysis.lines)
    return Table(
        "Leaderboard",
        tuple(columns),
        tuple(rows),
        _leaderboard_caption(analysis, base, reference, writes),
        rule=ranked if 0 < ranked < len(rows) else None,
    )


def _leaderboard_caption(analysis: Analysis, base: str | None, reference: str | None, writes: bool) -> tuple[str, ...]:
    compared = sum(line.versus is not None for line in analysis.lines)
    caption = ["Score: mean over tasks, 0-100, with its 95 % interval. Rank: the ranks that the tests leave open."]
    if base:
        caption.append(
            f"Gain: 100 × (method − {base}) / {base}. p: no difference to {base}, Holm-corrected over "
            f"{_many(compared, 'method')}. Detectable: smallest true difference in points found with 80 % power."
        )
    caption.append("Tied: methods that share a letter were not shown to differ (Holm over all pairs).")
    if reference:
        caption.append(f"QPS: examples per second; ratio to {reference}.")
    if writes:
        caption.append("Unread: answers that could not be parsed; they count as wrong.")
    return tuple(caption)


def scores_by_task(analysis: Analysis) -> Table:
    """Return each method's score on each task."""
    names = _tasks(analysis)
    rows = []
    best = {
        name: max(
            (task.score.value for line in analysis.lines for task in line.tasks if task.task == name), default=0.0
        )
        for name in names
    }
    for line in analysis.lines:
        by_task = {task.task: task for task in line.tasks}
        cells = [
            figure(by_task[name].score, strong=by_task[name].score.value == best[name])
            if name in by_task
            else Cell(NONE)
            for name in names
        ]
        rows.append((Cell(line.method), *cells))
    scored: dict[str, list[str]] = {}
    for task in analysis.selection.grid.tasks:
        scored.setdefault(" and ".join(task.info.metrics), []).append(task.name)
    metrics = [what if len(scored) == 1 else f"{what} for {', '.join(names)}" for what, names in scored.items()]
    return Table(
        "Score by task",
        (Column("Method", "left"), *(Column(name) for name in names)),
        tuple(rows),
        (f"Scored by {'; '.join(metrics)}: mean over metrics and seeds, with its 95 % interval.",),
    )


def gains_by_task(analysis: Analysis) -> Table:
    """Return each method's relative gain on each task, and the smallest detectable differences."""
    names = _tasks(analysis)
    base = analysis.selection.baseline
    rows = []
    undecided = False
    for line in analysis.lines:
        if line.versus is None:
            continue
        by_task = {task.task: task.versus for task in line.tasks}
        cells = []
        for name in names:
            versus = by_task.get(name)
            if versus is None:
                cells.append(Cell(NONE))
                continue
            test = versus.test
            cell = figure(versus.gain, sign=True, strong=bool(test and test.significant))
            mark = "*" if test and test.significant else "?" if test and not test.decidable else ""
            mark = mark if versus.gain is not None else ""
            undecided |= mark == "?"
            cells.append(Cell(cell.main + mark, cell.detail, cell.strong))
        rows.append((Cell(line.method), *cells))
    least = []
    for name in names:
        found = [
            task.versus.detectable
            for line in analysis.lines
            for task in line.tasks
            if task.task == name and task.versus and task.versus.detectable is not None
        ]
        least.append(Cell(f"{number(sorted(found)[len(found) // 2])} pt" if found else NONE))
    caption = [
        f"Relative gain over {base} in %, with its 95 % interval. * significant at 5 % after Benjamini-Hochberg over "
        "methods and tasks."
    ]
    if undecided:
        caption.append("? undecidable: too few examples on which the two differ for any outcome to be significant.")
    caption.append("Detectable: smallest true difference in points found with 80 % power (median over methods).")
    return Table(
        f"Gain over {base} by task",
        (Column("Method", "left"), *(Column(name) for name in names)),
        (*rows, (Cell("detectable"), *least)),
        tuple(caption),
        rule=len(rows),
    )


def accuracy_and_throughput(analysis: Analysis) -> Table:
    """Return which ranked methods are on the Pareto front, and what their training cost."""
    base = analysis.selection.baseline
    columns = [Column("Method", "left"), Column("Score"), Column("QPS"), Column("Front", "left"), Column("P(front)")]
    for head in ("Train tokens", "Train seconds", "Teacher tokens"):
        columns += [Column(head), *([Column(f"{head} a point")] if base else [])]
    lines = {line.method: line for line in analysis.lines}
    rows = []
    for point in analysis.points:
        row = [Cell(point.method), figure(point.score), pace(point.qps)]
        row.append(Cell({True: "yes", False: "no", None: NONE}[point.on_front], strong=bool(point.on_front)))
        row.append(Cell(NONE if point.probability is None else _share(point.probability)))
        for name in COSTS:
            cost = lines[point.method].costs[name]
            row.append(Cell(NONE if cost.mean is None else "0" if cost.mean == 0 else speed(cost.mean)))
            if base:
                row.append(Cell("baseline") if point.method == base else _a_point(cost))
        rows.append(tuple(row))
    caption = [
        "Front: no other method has a score and a QPS that are both at least as high, one of them higher. P(front): "
        "share of joint draws of all scores and QPS in which that is so. QPS: of the runs that were scored, which were "
        "not timed side by side."
    ]
    idle = [point.method for point in analysis.points if point.qps is None]
    if idle:
        caption.append(f"{', '.join(idle)}: no backbone at test time, so no QPS to compare; left out of the front.")
    caption.append("Train, teacher: means per cell; teacher tokens are those of the rationales handed to the method.")
    if base:
        caption.append(
            f"A point: cost beyond that of {base} for each point gained; the interval is that of the points. No gain "
            "shown: the 95 % interval of the difference reaches 0."
        )
    return Table("Accuracy and throughput", tuple(columns), tuple(rows), tuple(caption), points=analysis.points)


def _share(probability: float) -> str:
    """Return a share of draws, which is never certain."""
    return "<0.01" if probability < 0.01 else ">0.99" if probability > 0.99 else f"{probability:.2f}"


def _a_point(cost: Cost) -> Cell:
    return Cell(cost.said) if cost.said else pace(cost.per_point)


def equivalences(analysis: Analysis) -> Table:
    """Return the claims of equivalence within the user's margin."""
    rows = []
    for line in analysis.lines:
        for claim, found in line.equivalence.items():
            said = "equivalent" if found.equivalent <= 0.05 else "no worse" if found.no_worse <= 0.05 else "not shown"
            rows.append(
                (
                    Cell(line.method),
                    Cell(claim),
                    Cell(said, "", said != "not shown"),
                    Cell(p_value(found.no_worse)),
                    Cell(p_value(found.equivalent)),
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
                Cell(line.method),
                figure(line.iqm),
                figure(line.improvement, 2),
                Cell(NONE if mean_rank is None else number(mean_rank, 2)),
                figure(line.versus.difference, sign=True) if line.versus else Cell(NONE),
                Cell(NONE if needed is None or needed.seeds is None else f"{needed.seeds:,}"),
                Cell(NONE if needed is None or needed.examples is None else f"{speed(needed.examples)}×"),
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


def _tasks(analysis: Analysis) -> list[str]:
    return [task.name for task in analysis.selection.grid.tasks]


def _rank(line: Line) -> str:
    if line.rank is None:
        return NONE
    low, high = line.rank
    return str(low) if low == high else f"{low}-{high}"


def _score(line: Line, tasks: int) -> Cell:
    """Return the score, bracketed where it is over fewer tasks or seeds and not to be compared."""
    if line.rank is None:
        return Cell(f"({number(line.score.value)})", f"{len(line.tasks)} of {_many(tasks, 'task')}")
    return figure(line.score, strong=line.rank[0] == 1)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
