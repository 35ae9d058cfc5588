"""The tables of scores: the main one with ranks and gains, and those by task."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from dhrd_bench.report.figures import (
    COLLAPSED,
    FOUND_IN_SUITE,
    FOUND_ON_TASK,
    NONE,
    UNTAUGHT_MEANS,
    estimate_cell,
    found_sentence,
    many,
    marked,
    number,
    ratio_cell,
    single_run,
    three_digits,
    untaught,
    verdict_cell,
)
from dhrd_bench.report.layout import Column, Filled, Table, TableCell, laid_out
from dhrd_bench.stats.analysis import Analysis, Line, Versus


def main_table(analysis: Analysis) -> Table:
    """Return the main table."""
    bare = {method for method, _ in untaught(analysis)}
    caption = (*_collapsed(analysis), *_meanings(bare))
    table = laid_out("Leaderboard", list(_main_columns(analysis, bare)), analysis.lines, caption)
    ranked = sum(line.ranked for line in analysis.lines)
    return dataclasses.replace(table, rule=ranked if 0 < ranked < len(table.rows) else None)


def _main_columns(analysis: Analysis, bare: Collection[str]) -> Iterator[Filled[Line]]:
    """Yield the columns that the main table has for these methods."""
    base, reference = analysis.selection.baseline, analysis.selection.reference
    tasks = len(_tasks(analysis))
    yield Column("Rank", help="those that the tests leave open"), lambda line: TableCell(_rank(line))
    yield Column("Method", "left"), lambda line: marked(TableCell(line.method), line.method in bare)
    yield Column("Score", help="mean over tasks, 0-100, with its 95 % interval"), lambda line: _score(line, tasks)
    if base:
        compared = many(sum(line.versus is not None for line in analysis.lines), "method")
        few = found_sentence(analysis, FOUND_IN_SUITE).removesuffix(".")
        yield Column("Gain %", help=f"100 × (method − {base}) / {base}"), lambda line: _gain_over(line, base)
        told = f"no difference to {base}, Holm-corrected over {compared}"
        yield Column("p", help=told), lambda line: verdict_cell(line.versus)
        told = "smallest true difference in points found with 80 % power after that correction; "
        told += f"{NONE} where no possible one is"
        yield Column("Detectable", help=told + ("." + few if few else ""), spare=4), _detectable
    told = "methods that share a letter were not shown to differ (Holm over all pairs)"
    yield Column("Tied", "left", help=told, spare=3), lambda line: TableCell(line.tied or NONE)
    told = f"examples per second.{single_run(analysis)}".removesuffix(".")
    yield Column("QPS", help=told, spare=1), lambda line: TableCell(three_digits(line.qps.value) if line.qps else NONE)
    if reference:
        yield (
            Column("QPS ratio", help=f"QPS over that of {reference}", spare=2),
            lambda line: TableCell("reference") if line.method == reference else ratio_cell(line.qps_ratio),
        )
    if any(line.unparsable is not None for line in analysis.lines):
        told = "answers that could not be parsed; they count as wrong"
        yield (
            Column("Unread %", help=told, spare=5),
            lambda line: TableCell(NONE if line.unparsable is None else number(100 * line.unparsable)),
        )


def _gain_over(line: Line, base: str) -> TableCell:
    if line.versus is None:
        return TableCell("baseline" if line.method == base else NONE)
    test = line.versus.test
    return estimate_cell(line.versus.gain, sign=True, strong=bool(test and test.significant))


def _detectable(line: Line) -> TableCell:
    points = line.versus.detectable if line.versus else None
    return TableCell(NONE if points is None else number(points))


def scores_by_task(analysis: Analysis) -> Table:
    """Return each method's score on each task."""
    names = _tasks(analysis)
    bare = untaught(analysis)
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
            marked(
                _marked(
                    estimate_cell(by_task[name].score, strong=by_task[name].score.value == best[name]),
                    bool(by_task[name].collapsed),
                ),
                (line.method, name) in bare,
            )
            if name in by_task
            else TableCell(NONE)
            for name in names
        ]
        rows.append((TableCell(line.method), *cells))
    scored: dict[str, list[str]] = {}
    for task in analysis.selection.grid.tasks:
        scored.setdefault(" and ".join(task.info.metrics), []).append(task.name)
    metrics = [what if len(scored) == 1 else f"{what} for {', '.join(names)}" for what, names in scored.items()]
    return Table(
        "Score by task",
        (Column("Method", "left"), *(Column(name) for name in names)),
        tuple(rows),
        (
            f"Scored by {'; '.join(metrics)}: mean over metrics and seeds, with its 95 % interval.",
            *_collapsed(analysis),
            *_meanings(bare),
        ),
    )


def gains_by_task(analysis: Analysis) -> Table:
    """Return each method's relative gain on each task, and the smallest detectable differences."""
    names = _tasks(analysis)
    base = analysis.selection.baseline
    bare = untaught(analysis)
    rows = []
    for line in analysis.lines:
        if line.versus is None:
            continue
        by_task = {task.task: task.versus for task in line.tasks}
        rows.append(
            (TableCell(line.method), *(marked(_gain(by_task.get(name)), (line.method, name) in bare) for name in names))
        )
    caption = [
        f"Relative gain over {base} in %, with its 95 % interval. * significant at 5 % after Benjamini-Hochberg over "
        "methods and tasks."
    ]
    if any(cell.main.endswith("?") for row in rows for cell in row[1:]):
        caption.append("? undecidable: too few examples on which the two differ for any outcome to be significant.")
    caption.append(
        "Detectable: smallest true difference in points found with 80 % power if it is the only one (median over "
        f"methods); {NONE} where no possible one is.{found_sentence(analysis, FOUND_ON_TASK)}"
    )
    return Table(
        f"Gain over {base} by task",
        (Column("Method", "left"), *(Column(name) for name in names)),
        (*rows, (TableCell("detectable"), *(_least_detectable(analysis, name) for name in names))),
        (*caption, *_meanings(bare)),
        rule=len(rows),
    )


def _meanings(bare: Collection[object]) -> list[str]:
    """Return what the mark of `bare` methods means, if there are such."""
    return [UNTAUGHT_MEANS] if bare else []


def _gain(versus: Versus | None) -> TableCell:
    """Return a gain on a task, marked where it is significant or could not have been."""
    if versus is None:
        return TableCell(NONE)
    test = versus.test
    cell = estimate_cell(versus.gain, sign=True, strong=bool(test and test.significant))
    if versus.gain is None or test is None:
        return cell
    mark = "*" if test.significant else "" if test.decidable else "?"
    return TableCell(cell.main + mark, cell.detail, cell.strong)


def _least_detectable(analysis: Analysis, name: str) -> TableCell:
    """Return the smallest detectable difference on a task, the median over methods."""
    points = sorted(
        task.versus.detectable
        for line in analysis.lines
        for task in line.tasks
        if task.task == name and task.versus and task.versus.detectable is not None
    )
    return TableCell(f"{number(points[len(points) // 2])} pt" if points else NONE)


def _tasks(analysis: Analysis) -> list[str]:
    return [task.name for task in analysis.selection.grid.tasks]


def _rank(line: Line) -> str:
    if line.rank is None:
        return NONE
    low, high = line.rank
    return str(low) if low == high else f"{low}-{high}"


def _score(line: Line, tasks: int) -> TableCell:
    """Return the score, bracketed where it is over fewer tasks or seeds and not to be compared."""
    if line.rank is None:
        cell = TableCell(f"({number(line.score.value)})", f"{len(line.tasks)} of {many(tasks, 'task')}")
    else:
        cell = estimate_cell(line.score, strong=line.rank[0] == 1)
    return _marked(cell, any(task.collapsed for task in line.tasks))


def _marked(cell: TableCell, collapsed: bool) -> TableCell:
    """Return a score with the mark of one to which seeds have gone that collapsed."""
    return dataclasses.replace(cell, main=cell.main + COLLAPSED) if collapsed else cell


def _collapsed(analysis: Analysis) -> list[str]:
    """Return what the mark means, if there is one."""
    if not any(task.collapsed for line in analysis.lines for task in line.tasks):
        return []
    return [f"{COLLAPSED} some of its seeds collapsed to one answer; the notes name them. Its intervals may not hold."]
