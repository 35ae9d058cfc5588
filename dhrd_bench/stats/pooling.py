"""A gain pooled over backbones or prompts: random-effects meta-analysis that knows they share test examples.

Every backbone, or prompt, has its own gain; they scatter about a mean by tau. The estimator of tau is DerSimonian
and Laird's (1986), the interval Hartung and Knapp's (2001), never shorter than the ordinary one (Roever, Knapp and
Friede 2015). Both take estimates to be independent. Ours are not: with all of them the same test examples are
answered, and what is lucky for a method with one may be so with all. That part does not show in how they scatter;
it is measured on the shared bootstrap draws and added to the variance of the mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import chdtrc

from dhrd_bench.cards import Reference
from dhrd_bench.stats.analysis import Analysis
from dhrd_bench.stats.design import Floats, Group
from dhrd_bench.stats.intervals import Estimate, Variance, quantile, student
from dhrd_bench.stats.suite import Scored


@dataclass(frozen=True)
class Pooled:
    """A figure pooled over k places.

    Attributes
    ----------
    figure
        Mean with its 95 % interval.
    tau
        Standard deviation of the true figures between places, in the figure's units.
    i2
        Share of the scatter that is not chance, 0-1 (Higgins and Thompson 2002).
    q, p
        Cochran's test of no heterogeneity, on k - 1 degrees of freedom.
    new_low, new_high
        95 % prediction interval of a further place's true figure; None for fewer than three.
    shared
        Share of the mean's variance that comes from the test examples which all places share.
    """

    figure: Estimate
    tau: float
    i2: float
    q: float
    p: float
    new_low: float | None
    new_high: float | None
    shared: float


@dataclass(frozen=True)
class PooledGain:
    """Relative gain of one method over the baseline, in %, pooled over boards that differ in one thing only.

    Attributes
    ----------
    suite, backbone, budget
        Of the boards. Pooled over prompts the suite is without its prompt, pooled over backbones there is no backbone.
    gains
        By backbone or prompt.
    """

    suite: str
    backbone: str | None
    budget: str
    method: str
    baseline: str
    tasks: tuple[str, ...]
    gains: dict[str, Estimate]
    pooled: Pooled


def pool(values: Sequence[float], variances: Sequence[float], shared: float = 0.0) -> Pooled:
    """Pool two or more estimates.

    `variances` include the part that is `shared`, the covariance of any two estimates.
    """
    y, count = np.array(values, dtype=float), len(values)
    total = np.array(variances, dtype=float)
    within = np.maximum(total - shared, 0.1 * total)  # variances are estimates: none is all shared
    weights = 1 / within
    mean = float(weights @ y / weights.sum())
    q = float(weights @ (y - mean) ** 2)
    tau2 = max(0.0, (q - (count - 1)) / float(weights.sum() - (weights**2).sum() / weights.sum()))
    weights = 1 / (within + tau2)
    mean = float(weights @ y / weights.sum())
    own = max(float(weights @ (y - mean) ** 2) / (count - 1), 1.0) / float(weights.sum())
    df = (own + shared) ** 2 / own**2 * (count - 1)
    spread = Variance(own + shared, 0.0, 0.0, df)
    half = quantile(count - 2) * math.sqrt(tau2 + spread.total) if count > 2 else None
    return Pooled(
        figure=student(mean, spread),
        tau=math.sqrt(tau2),
        i2=max(0.0, 1 - (count - 1) / q) if q > 0 else 0.0,
        q=q,
        p=float(chdtrc(count - 1, q)),
        new_low=None if half is None else mean - half,
        new_high=None if half is None else mean + half,
        shared=shared / spread.total,
    )


Over = Literal["backbones", "prompts"]
"""What boards may differ in."""


def pooled_gains(boards: Sequence[Analysis], over: Over) -> list[PooledGain]:
    """Pool every ranked method's gain over the boards of one baseline and set of tasks that differ in `over` only."""
    alike: dict[tuple[Group, str, tuple[str, ...]], dict[str, Analysis]] = {}
    for board in boards:
        if board.selection.baseline is not None:
            place, name = _apart(board, over)
            alike.setdefault((place, board.selection.baseline, tuple(board.suite.names)), {})[name] = board
    found = []
    for (place, baseline, tasks), there in alike.items():
        for method in sorted({line.method for board in there.values() for line in board.lines if line.ranked}):
            gains = {name: _gain(board, method) for name, board in there.items()}
            known = {name: gain for name, gain in gains.items() if gain is not None and gain.se is not None}
            if len(known) < 2:
                continue
            pulls = [_pull(there[name], method, baseline) for name in known]
            joint = float(np.mean([_covariance(*pair) for pair in itertools.combinations(pulls, 2)]))
            pooled = pool(
                [gain.value for gain in known.values()],
                [(gain.se or 0.0) ** 2 for gain in known.values()],
                max(joint, 0.0),
            )
            backbone = place.backbone or None
            found.append(PooledGain(place.suite, backbone, place.budget, method, baseline, tasks, known, pooled))
    return found


def _apart(board: Analysis, over: Over) -> tuple[Group, str]:
    """Return a board's place without its backbone or its prompt, and what that is called."""
    group = board.selection.group
    if over == "backbones":
        return replace(group, backbone=""), group.backbone
    # A suite's default prompt is not in its name, but in what the records say.
    prompts = {parts["task"]["prompt"] for parts in board.selection.cells["parts"]}
    suite = Reference.parse(group.suite)
    bare = replace(suite, options=tuple(each for each in suite.options if each[0] != "prompt"))
    return replace(group, suite=str(bare)), ", ".join(sorted(prompts))


def _gain(board: Analysis, method: str) -> Estimate | None:
    line = next((line for line in board.lines if line.ranked and line.method == method), None)
    return line.versus.gain if line is not None and line.versus is not None else None


def _pull(board: Analysis, method: str, baseline: str) -> list[tuple[Scored, Floats]]:
    """Return by task how the gain moves, in %, on the bootstrap's draws of the test examples."""
    suite = board.suite
    own, base = suite.methods.index(method), suite.methods.index(baseline)
    score, below = suite.mean(own), suite.mean(base)
    return [
        (task, 100 / below / len(suite.tasks) * (task.drawn[own] - score / below * task.drawn[base]))
        for task in suite.tasks
        if task.drawn is not None
    ]


def _covariance(one: list[tuple[Scored, Floats]], other: list[tuple[Scored, Floats]]) -> float:
    """Return what the test examples do to both gains; the draws are the same where the examples are."""
    total = 0.0
    for (task, pull), (same, like) in zip(one, other, strict=True):
        if np.array_equal(task.task.labels, same.task.labels) and np.array_equal(
            task.task.clusters, same.task.clusters
        ):
            total += float(np.mean(pull * like)) * task.task.n_clusters / (task.task.n_clusters - 1)
    return total
