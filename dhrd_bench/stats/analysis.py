"""All figures of one leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dhrd_bench.stats.cost import COSTS, Cost, cost
from dhrd_bench.stats.counts import known
from dhrd_bench.stats.design import Selection
from dhrd_bench.stats.equivalence import Equivalence, ratio_within, relative_gain_within
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import Point, points
from dhrd_bench.stats.power import Needed, detectable, needed
from dhrd_bench.stats.ranking import (
    CriticalDifference,
    critical_difference,
    interquartile_mean,
    probability_of_improvement,
)
from dhrd_bench.stats.significance import ALPHA, Test, mcnemar
from dhrd_bench.stats.speed import Speed
from dhrd_bench.stats.suite import SuiteScores
from dhrd_bench.stats.tested import TestedGrid, correct


@dataclass(frozen=True)
class Versus:
    """One method against the baseline, over a suite or on a task.

    Attributes
    ----------
    gain
        Relative gain in %, None where the baseline scores 0; `high` is infinite where the baseline's score
        was not shown to be above 0.
    difference
        Method less baseline, in points.
    test
        Corrected by Holm over methods (suite) or by Benjamini-Hochberg over methods and tasks (task);
        None where a metric cannot be resampled.
    flips, crossed
        The two uncorrected p-values of which `test` takes the larger; `crossed` is None for one seed.
    mcnemar
        Won, lost and exact p over examples; tasks without clusters and with one seed only.
    detectable
        Smallest true difference in points found with 80 % power after correction; None if that is more
        than there can be.
    needed
        What it takes to find, after correction, or to exclude a difference of the user's margin; None without one.
    """

    gain: Estimate | None
    difference: Estimate
    test: Test | None
    flips: float | None
    crossed: float | None
    mcnemar: tuple[int, int, float] | None
    detectable: float | None
    needed: Needed | None


@dataclass(frozen=True)
class TaskLine:
    """One method on one task.

    Attributes
    ----------
    seeds
        How many it has.
    versus
        None for the baseline itself and without one.
    collapsed
        The seeds at which it gave (nearly) one answer to every row, which it does not at others.
    """

    task: str
    seeds: int
    score: Estimate
    versus: Versus | None
    collapsed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Line:
    """One method of a leaderboard.

    Attributes
    ----------
    ranked
        Whether it has every task of the table; if not, its figures are over what it shares with the
        baseline and it has no rank.
    score
        0-100, the mean over tasks.
    versus
        The comparison with the baseline, None for the baseline itself and without one.
    rank
        Best and worst rank that the tests leave open.
    tied
        Letters; methods that share one were not shown to differ.
    iqm, improvement
        Interquartile mean of the cells' scores; probability that a run beats one of the baseline's.
    qps, qps_ratio, qps_to_baseline
        Examples per second, and over the reference's and the baseline's.
    unparsable
        Share of answers that could not be read, None where the method writes none.
    equivalence
        By name, the claims tested against the user's margin.
    costs
        By name, what training cost and what predicting drew, on the cells that its score is over.
    """

    method: str
    role: str
    inference: str
    ranked: bool
    score: Estimate
    versus: Versus | None
    rank: tuple[int, int] | None
    tied: str
    iqm: Estimate
    improvement: Estimate | None
    qps: Estimate | None
    qps_ratio: Estimate | None
    qps_to_baseline: Estimate | None
    unparsable: float | None
    equivalence: dict[str, Equivalence]
    costs: dict[str, Cost]
    tasks: tuple[TaskLine, ...]


@dataclass(frozen=True)
class Analysis:
    """All figures of one leaderboard, best method first, partial ones last.

    `suite` and `speed` give further figures of the ranked methods; `points` are their places in the picture
    of score and throughput, in the order of the lines.
    """

    selection: Selection
    suite: SuiteScores
    speed: Speed
    lines: tuple[Line, ...]
    points: tuple[Point, ...]
    critical: CriticalDifference | None
    resamples: int
    seed: int
    margin: float | None
    notes: tuple[str, ...]


def analyse_selection(
    selection: Selection, *, resamples: int = 10_000, seed: int = 0, margin: float | None = None
) -> Analysis:
    """Compute every figure of the leaderboard that `selection` describes.

    Parameters
    ----------
    resamples, seed
        Of the bootstrap and the sign flips; the same seed gives the same figures.
    margin
        Of equivalence, in %.
    """
    grids = [TestedGrid(selection, selection.grid, resamples, seed)]
    grids += [TestedGrid(selection, grid, resamples, seed, only=name) for name, grid in selection.partial.items()]
    correct(grids)
    compared = sum(len(tested.compared()) for tested in grids)
    # What reads nothing of its input answers as fast as it is asked: no throughput to compare.
    speed = Speed(selection.cells[selection.cells["tokens_in"] != 0])
    lines = [_line(tested, method, speed, compared, margin) for tested in grids for method in tested.shown]
    lines.sort(key=lambda line: (not line.ranked, -line.score.value, line.method))
    main = grids[0].suite
    notes = [*selection.notes, *_contradictions(main), *_collapses(lines), *_cautions(selection, lines, margin)]
    placed = points(main, speed, seed)
    placed = tuple(placed[main.methods.index(line.method)] for line in lines if line.ranked)
    critical = critical_difference(main)
    return Analysis(selection, main, speed, tuple(lines), placed, critical, resamples, seed, margin, tuple(notes))


def _line(tested: TestedGrid, method: int, speed: Speed, compared: int, margin: float | None) -> Line:
    suite, name = tested.suite, tested.grid.methods[method]
    selection = tested.selection
    own = (selection.cells["method"] == name) & selection.cells["task"].isin(suite.names)
    cells = selection.cells.loc[own, ["inference", "role", "unparsable"]]
    inference = str(cells["inference"].iloc[0])
    base, reference = selection.baseline, selection.reference
    against = None if tested.base == method else tested.base
    versus = None if against is None else _versus(tested, method, against, None, compared, margin)
    to_reference = speed.ratio(name, reference, suite.names) if reference not in (None, name) else None
    to_baseline = speed.ratio(name, base, suite.names) if base not in (None, name) else None
    return Line(
        method=name,
        role=str(cells["role"].iloc[0]),
        inference=inference,
        ranked=tested.ranked,
        score=suite.score(method),
        versus=versus,
        rank=tested.ranks[method] if tested.ranked else None,
        tied=tested.tied[method] if tested.ranked else "",
        iqm=interquartile_mean(suite, method),
        improvement=None if against is None else probability_of_improvement(suite, method, against),
        qps=speed.qps(name, suite.names),
        qps_ratio=to_reference,
        qps_to_baseline=to_baseline,
        unparsable=float(cells["unparsable"].mean()) if "generate" in inference else None,
        costs=_costs(tested, method, versus),
        equivalence={} if margin is None else _equivalence(tested, method, to_baseline, margin),
        tasks=tuple(
            TaskLine(
                task,
                int(tested.grid.tasks[t].present[method].sum()),
                suite.score(method, [t]),
                None if against is None else _versus(tested, method, against, t, compared, margin),
                tested.collapsed(method, t),
            )
            for t, task in enumerate(suite.names)
        ),
    )


def _contradictions(suite: SuiteScores) -> Iterator[str]:
    """Yield a sentence for every cell whose recorded metrics are not those of its rows."""
    for scored in suite.tasks:
        task = scored.task
        if not task.given or not known(task.info.metrics):
            continue
        recorded = np.mean(list(task.given.values()), axis=0)
        unlike = ~(np.abs(recorded - scored.point) < 0.05)  # a metric that is not recorded is unlike, too
        for m, s in zip(*np.nonzero(unlike & task.present), strict=True):
            yield (
                f"{suite.methods[m]} on {task.name}, seed {task.seeds[s]}: its record says {recorded[m, s]:.1f}, its "
                f"rows say {scored.point[m, s]:.1f}; the rows count."
            )


def _collapses(lines: Sequence[Line]) -> Iterator[str]:
    """Yield a sentence on the cells that gave a single answer, if there are any."""
    cells = [
        f"{line.method} on {task.task} ({'seed' if len(task.collapsed) == 1 else 'seeds'} "
        f"{', '.join(map(str, task.collapsed))})"
        for line in lines
        for task in line.tasks
        if task.collapsed
    ]
    if cells:
        yield (
            f"Collapsed to (nearly) one answer, unlike other seeds of the same method: {'; '.join(cells)}. Intervals "
            "and tests take seeds for draws about a mean; where a collapse moves the score they may not hold, nor may "
            "those of what is compared with such a method."
        )


def _costs(tested: TestedGrid, method: int, versus: Versus | None) -> dict[str, Cost]:
    means, base_means = tested.costs(method)
    return {name: cost(means[name], base_means[name], versus.difference if versus else None) for name in COSTS}


def _equivalence(
    tested: TestedGrid, method: int, to_baseline: Estimate | None, margin: float
) -> dict[str, Equivalence]:
    suite, selection = tested.suite, tested.selection
    claims: dict[str, Equivalence | None] = {}
    for name in dict.fromkeys((selection.baseline, selection.reference)):
        other = suite.methods.index(name) if name in suite.methods else method
        # That two trained models are alike says little of two methods: it takes two seeds that both have.
        if other == method or all(task.shared([method, other]).sum() < 2 for task in tested.grid.tasks):
            continue
        gain = suite.gain(method, other)
        claims[f"score as {name}"] = None if gain is None else relative_gain_within(gain, margin)
    if to_baseline is not None and f"score as {selection.baseline}" in claims:
        claims[f"QPS as {selection.baseline}"] = ratio_within(to_baseline, margin)
    return {claim: test for claim, test in claims.items() if test is not None}


def _versus(
    tested: TestedGrid, method: int, base: int, task: int | None, compared: int, margin: float | None
) -> Versus:
    suite = tested.suite
    tasks = suite.every if task is None else [task]
    difference = suite.difference(method, base, tasks)
    uncorrected = tested.test(method, task)
    # What passes Holm's or Benjamini and Hochberg's first step passes: the test of a difference that is alone.
    alpha = ALPHA / (compared * (1 if task is None else len(tested.selection.grid.tasks)))
    return Versus(
        gain=suite.gain(method, base, tasks),
        difference=difference,
        test=tested.corrected.get((method, task)),
        flips=None if uncorrected is None else uncorrected.flips.p,
        crossed=None if uncorrected is None else uncorrected.crossed,
        mcnemar=None if task is None or uncorrected is None else mcnemar(tested.grid.tasks[task], method, base),
        detectable=detectable(difference, alpha),
        needed=None if margin is None else _needed(tested, method, base, tasks, margin, alpha),
    )


def _needed(
    tested: TestedGrid, method: int, base: int, tasks: Sequence[int], margin: float, alpha: float
) -> Needed | None:
    """Return what it takes to find, at `alpha`, or exclude a difference of `margin` % of the baseline's score."""
    suite, unit = tested.suite, np.eye(len(tested.suite.methods))
    spread = suite.variance({t: (unit[method] - unit[base]) / len(tasks) for t in tasks})
    points = margin / 100 * suite.mean(base, tasks, method)
    if spread is None or points <= 0:
        return None
    seeds = min(int(tested.grid.tasks[t].shared([method, base]).sum()) for t in tasks)
    return needed(points, spread, seeds, alpha)


FEW_SEEDS = 3
"""Seeds up to which intervals of scores are too short where seeds differ much (docs/statistics.md, Validation)."""


def _cautions(selection: Selection, lines: Sequence[Line], margin: float | None) -> list[str]:
    notes = []
    counts = {task.name: len(task.seeds) for task in selection.grid.tasks}
    single = sorted(name for name, count in counts.items() if count == 1)
    few = sorted(name for name, count in counts.items() if 1 < count <= FEW_SEEDS)
    fewer = [(f"{line.method} on {task.task}", task.seeds) for line in lines for task in line.tasks
             if task.seeds < counts[task.task]]  # fmt: skip
    few += sorted(where for where, count in fewer if 1 < count <= FEW_SEEDS)
    once = sorted(where for where, count in fewer if count == 1)
    if single:
        where = "" if len(single) == len(counts) else f" on {', '.join(single)}"
        notes.append(
            f"One seed{where}: intervals and tests cover the choice of test examples only; they speak of these "
            "trained models, not of the methods."
        )
    if once:
        notes.append(f"One seed of {', '.join(once)}: there intervals and tests cover the test examples only.")
    if margin is not None and len(single) == len(counts):
        notes.append("No test of equivalence: with one seed it would speak of two trained models and two runs only.")
    if few:
        notes.append(
            f"Two or three seeds on {', '.join(few)}: where seeds differ much, the 95 % intervals of scores hold in "
            "87 to 93 %."
        )
    unknown = sorted({m for task in selection.grid.tasks for m in task.info.metrics if not known([m])})
    if unknown:
        notes.append(
            f"No interval or test for {', '.join(unknown)}: this metric is taken from the records as it stands."
        )
    alone = sorted(task.name for task in selection.grid.tasks if task.n_clusters == 1)
    if alone:
        notes.append(f"No interval for {', '.join(alone)}: all its test rows belong to one text.")
    if any(line.qps_ratio is not None and line.qps_ratio.low is None for line in lines):
        notes.append("No interval for a QPS ratio where every cell is one batch of one seed.")
    open_ended = {
        where
        for line in lines
        for where, versus in (("the suite", line.versus), *((task.task, task.versus) for task in line.tasks))
        if versus and versus.gain and versus.gain.high == math.inf
    }
    if open_ended:
        notes.append(
            f"Gains on {', '.join(sorted(open_ended))} may have no upper end (∞): the baseline's score there is too "
            "uncertain to divide by."
        )
    return notes
