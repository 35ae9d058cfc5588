"""What is shown of each method beside the baseline, and of its speed: claims by corrected tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dhrd_bench.stats.analysis import Analysis, Line
from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.finding import Finding, finding
from dhrd_bench.stats.intervals import Estimate, tail
from dhrd_bench.stats.significance import holm


@dataclass(frozen=True)
class Claim:
    """What is shown of one method beside another.

    Attributes
    ----------
    claim
        What it is about: the score over the suite, or examples answered per second.
    baseline
        The method it is beside: the baseline, for speeds also the reference.
    finding
        What the corrected tests show, at 5 %.
    difference
        Of scores in points, with its 95 % interval; of speeds a ratio.
    gain
        Of scores, the difference in % of the baseline's score; None where that is 0.
    p
        Of no difference, Holm-corrected over all claims of this kind; None where nothing can be tested.
    equivalent_p
        Of a difference beyond the margin, corrected likewise; None without a margin.
    detectable
        Of scores, the smallest true difference found with 80 % power; None where no possible one is.
    tasks, seeds
        How many it rests on; of the seeds the fewest of a task.
    collapsed
        Whether seeds of one of the two methods collapsed to one answer, so that the interval may not hold.
    """

    claim: Literal["score", "speed"]
    method: str
    baseline: str
    finding: Finding
    difference: Estimate
    gain: Estimate | None
    p: float | None
    equivalent_p: float | None
    detectable: float | None
    tasks: int
    seeds: int
    collapsed: bool


def claims_of(analysis: Analysis) -> list[Claim]:
    """Return the claims about scores, then those about speeds, each from the best score down."""
    lines = best_first(analysis)
    return [*_scores(analysis, lines), *_speeds(analysis, lines)]


def best_first(analysis: Analysis) -> list[Line]:
    """Return the lines from the best score down, however they are sorted: an analysis shows the same."""
    return sorted(analysis.lines, key=lambda line: (not line.ranked, -line.score.value, line.method))


def idle_methods(analysis: Analysis) -> set[str]:
    """Return the methods that read nothing of their input, such as one that always gives the same answer."""
    cells = analysis.selection.cells
    read = cells["tokens_in"].ne(0).groupby(cells["method"].astype(str)).any()
    return set(read.index[~read])


def _scores(analysis: Analysis, lines: Sequence[Line]) -> list[Claim]:
    """Return the claims about scores; tests of equivalence are corrected over methods as those of difference are."""
    baseline = analysis.selection.baseline
    compared = [line for line in lines if line.versus is not None]
    if baseline is None:
        return []
    within = _corrected([line.equivalence.get(f"score as {baseline}") for line in compared])
    frail = {line.method for line in analysis.lines if any(task.collapsed for task in line.tasks)}
    claims = []
    for line, equivalence in zip(compared, within, strict=True):
        assert line.versus is not None
        difference, test = line.versus.difference, line.versus.test
        p = None if test is None else test.adjusted
        claims.append(
            Claim(
                claim="score", method=line.method, baseline=baseline,
                finding=finding(difference.value, p, equivalence), difference=difference,
                gain=line.versus.gain, p=p,
                equivalent_p=None if equivalence is None else equivalence.equivalent,
                detectable=line.versus.detectable, tasks=len(line.tasks),
                seeds=min((task.seeds for task in line.tasks), default=0),
                collapsed=bool(frail & {line.method, baseline}),
            )
        )  # fmt: skip
    return claims


def _speeds(analysis: Analysis, lines: Sequence[Line]) -> list[Claim]:
    """Return the claims about speeds, beside the baseline and the reference.

    A ratio is tested by Student's t on its logarithm, as its interval is made. One run says nothing of how runs
    differ, nor do runs that shared their machine with others: there nothing is tested.
    """
    baseline, reference = analysis.selection.baseline, analysis.selection.reference
    pairs = [
        (line, other, ratio, line.equivalence.get(f"QPS as {baseline}") if other == baseline else None)
        for other in dict.fromkeys((baseline, reference))
        for line in lines
        if other is not None and (ratio := line.qps_to_baseline if other == baseline else line.qps_ratio) is not None
    ]
    testable = several_runs(analysis) and not shared_machine(analysis)
    p = _holm([_ratio_p(ratio) if testable else None for _, _, ratio, _ in pairs])
    within = _corrected([test if testable else None for *_, test in pairs])
    return [
        Claim(
            claim="speed", method=line.method, baseline=other, difference=ratio, gain=None, p=p[at],
            finding=finding(math.log(ratio.value), p[at], within[at]),
            equivalent_p=None if (test := within[at]) is None else test.equivalent,
            detectable=None, tasks=len(line.tasks), seeds=min((task.seeds for task in line.tasks), default=0),
            collapsed=False,
        )
        for at, (line, other, ratio, _) in enumerate(pairs)
    ]  # fmt: skip


def several_runs(analysis: Analysis) -> bool:
    """Return whether there is a task that was run with several seeds."""
    return any(len(task.seeds) > 1 for task in analysis.selection.grid.tasks)


def shared_machine(analysis: Analysis) -> int:
    """Return how many cells were timed while others ran beside them."""
    return sum(environment.get("workers", 1) > 1 for environment in analysis.selection.cells["environment"])


def _ratio_p(ratio: Estimate) -> float | None:
    if not ratio.se or ratio.df is None:
        return None
    return min(1.0, 2 * tail(abs(math.log(ratio.value)) / ratio.se, ratio.df))


def _holm(values: Sequence[float | None]) -> list[float | None]:
    able = [at for at, p in enumerate(values) if p is not None]
    adjusted = dict(zip(able, holm(np.array([values[at] for at in able], dtype=float)).tolist(), strict=True))
    return [adjusted.get(at) for at in range(len(values))]


def _corrected(tests: Sequence[Equivalence | None]) -> list[Equivalence | None]:
    no_worse = _holm([test.no_worse if test else None for test in tests])
    equivalent = _holm([test.equivalent if test else None for test in tests])
    return [
        None if one is None or both is None else Equivalence(one, both)
        for one, both in zip(no_worse, equivalent, strict=True)
    ]
