"""The ``power`` command."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.report.figures import NONE, many, number, three_digits
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.report.terminal import print_table
from dhrd_bench.request import RunRequest
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.power import Assumed, Size, detectable, foreseen, needed
from dhrd_bench.stats.significance import ALPHA

SEEDS = (1, 2, 3, 5, 10)
"""Numbers of seeds that are shown beside the request's own."""


def power_command(request: RunRequest, margin: float, assumed: Assumed, console: Console) -> int:
    """Print what a request could find, before anything of it is run.

    Parameters
    ----------
    request
        What would be run; its data are read, no backbone is.
    margin
        Difference of two methods, in points, that matters.
    assumed
        What is not known yet.

    Returns
    -------
    int
        0.

    Raises
    ------
    UserError
        If `margin` or what is assumed is none that can be, or the request cannot be planned.
    """
    _check(margin, assumed)
    plan = make_plan(request.model_copy(update={"allow_missing_rationales": True}))  # nothing is trained
    tests = {planned.cell.task: planned.test for planned in plan.cells}
    sizes = [Size(task, len(test), len(set(test.clusters or test.ids))) for task, test in tests.items()]
    methods = len({planned.cell.method for planned in plan.cells})
    seeds = len({planned.cell.seed for planned in plan.cells})
    print_table(power_table(sizes, seeds, max(methods - 1, 1), margin, assumed), console)
    return 0


def power_table(sizes: Sequence[Size], seeds: int, compared: int, margin: float, assumed: Assumed) -> Table:
    """Lay out, for each task and the suite, what can be found and what finds or excludes `margin` points."""
    counts = sorted({*SEEDS, seeds})
    groups = [(size.name, [size], compared * len(sizes)) for size in sizes] + [("suite", list(sizes), compared)]
    rows = []
    for name, of, tests in groups:
        spreads = {count: foreseen(of, count, assumed) for count in counts}
        found = [detectable(_no_difference(spreads[count].total, spreads[count].df), ALPHA / tests) for count in counts]
        decide = needed(margin, spreads[seeds], seeds, ALPHA / tests)
        rows.append(
            (
                TableCell(name),
                TableCell(f"{sum(size.rows for size in of):,}"),
                *(
                    TableCell(NONE if points is None else number(points), strong=count == seeds)
                    for count, points in zip(counts, found, strict=True)
                ),
                TableCell(NONE if decide.seeds is None else f"{decide.seeds:,}"),
                TableCell(NONE if decide.examples is None else f"{three_digits(decide.examples)}×"),
            )
        )
    columns = (
        Column("Task", "left"), Column("Examples"), *(Column(many(count, "seed")) for count in counts),
        Column(f"Seeds for {margin:g} pt"), Column(f"Examples for {margin:g} pt"),
    )  # fmt: skip
    caption = (
        "By seeds: smallest true difference of two methods in points that is found with 80 % power, after correction "
        f"for {many(compared, 'comparison')} (suite) and all tasks (by task). With one seed: of two trained models.",
        f"For {margin:g} pt: to find such a difference, or exclude it, with {many(seeds, 'seed')} or these examples.",
        f"Assumed, and to be changed by what you know: two methods differ on {100 * assumed.discordance:g} % of the "
        f"examples, {100 * assumed.lasting:g} % of these at every seed; a method's seeds differ by {assumed.seed_sd:g} "
        f"points (standard deviation); rows of one text correlate by {assumed.alike:g}; accuracy.",
    )
    return Table("What can be found", columns, tuple(rows), caption, rule=len(sizes))


def _no_difference(variance: float, df: float) -> Estimate:
    return Estimate(0.0, se=variance**0.5, df=df)


def _check(margin: float, assumed: Assumed) -> None:
    if not 0 < margin <= 100:
        raise UserError(f"A margin of {margin:g} points is none.", "Give one above 0 and up to 100.")
    for name in ("discordance", "lasting", "alike"):
        share = getattr(assumed, name)
        if not 0 <= share <= 1:
            raise UserError(f"A {name} of {share:g} is none.", "Give a share from 0 to 1.")
    if not 0 <= assumed.seed_sd <= 100:
        raise UserError(f"Seeds cannot differ by {assumed.seed_sd:g} points.", "Give a number from 0 to 100.")
