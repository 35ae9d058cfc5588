"""Simulations of the further statistics on made-up data with known truth; `validate_further` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from dhrd_bench.stats.agreement import agreements
from dhrd_bench.stats.beliefs import Belief, hierarchical
from dhrd_bench.stats.bootstrap import resample
from dhrd_bench.stats.calibration import calibrations
from dhrd_bench.stats.design import Grid
from dhrd_bench.stats.hierarchy import Evidence, sample
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pooling import pool
from dhrd_bench.stats.sequential import decide
from dhrd_bench.stats.significance import ALPHA, crossed_p
from dhrd_bench.stats.simulate import SUPERGLUE, Skill, simulate_grid
from dhrd_bench.stats.simulate_further import AGREED, AGREEING, agreement_truth, calibration_truth, scored
from dhrd_bench.stats.slices import slices
from dhrd_bench.stats.suite import Scored, SuiteScores

LOOKS = tuple(range(2, 11))

Happened = Iterator[tuple[str, str, bool | None]]
"""What was looked at, how often it is wanted, and whether it happened; None if there was no occasion."""


def beliefs(rng: np.random.Generator) -> Happened:
    """Draw seven tasks from the model, whose intervals and probabilities should be what they say."""
    tasks, seeds, margin = 7, int(rng.choice([2, 3, 5])), 1.0
    tau, mu = 5 * abs(rng.standard_cauchy()), rng.normal(0, 2)
    theta = mu + min(tau, 20) * rng.normal(size=tasks)
    examples, sigma2 = rng.uniform(0.5, 16, tasks), 4 / rng.gamma(4, 1 / 4, tasks)
    value = theta + rng.normal(size=tasks) * np.sqrt(examples + sigma2 / seeds)
    square = sigma2 * rng.chisquare(seeds - 1, tasks) / (seeds - 1)
    draws, *_ = sample(Evidence(value, examples, square, np.full(tasks, float(seeds))), int(rng.integers(1 << 30)))
    for what, of, true in (("suite", draws.mean(axis=1), theta.mean()), ("a task", draws[:, 0], theta[0])):
        belief = Belief.of(of, margin)
        yield f"95 % interval of {what} holds the truth", "95", _holds(belief.difference, true)
        for name, p, is_so in (
            ("better", belief.better, true > margin),
            ("the same", belief.same, abs(true) <= margin),
        ):
            for low, high in ((0.05, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.95)):
                so = bool(is_so) if low <= p < high else None
                yield f"{what} is {name}, P({name}) {low:g}-{high:g}", f"{100 * low:g}-{100 * high:g}", so


def equals(rng: np.random.Generator) -> Happened:
    """Draw equal methods on the seven tasks, none of which should be believed better, no slice to differ."""
    for seeds in (2, 3, 5):
        grid = simulate_grid(SUPERGLUE, (Skill((0.8,), 0.2), Skill((0.8,), 0.2)), seeds, rng)
        suite = SuiteScores.of(grid, 200, int(rng.integers(1 << 30)))
        belief = hierarchical(suite, 0, 2.0, 0)[0].suite
        yield f"P(> 0) or P(< 0) of equals above 0.975, {seeds} seeds", "≤ 5", _one_sided(belief)
        yield f"P(better by 2 %) of equals above 0.95, {seeds} seeds", "≤ 5", max(belief.better, belief.worse) > 0.95
        small = Grid(grid.methods, tuple(task for task in grid.tasks if len(task.labels) < 1000))
        any_slice = any(found.test.significant for found in slices(small, "m0", 200, int(rng.integers(1 << 30))))
        yield f"any slice of equals found to differ, {seeds} seeds", "≤ 5", any_slice


def peeking(rng: np.random.Generator) -> Happened:
    """Look at equal methods after every seed from 2 to 10."""
    for sd in (0.0, 0.3, 1.0):
        skill = Skill((0.8,), sd)
        task = simulate_grid((SUPERGLUE[4],), (skill, skill), LOOKS[-1], rng).tasks[0]
        drawn = resample(task, 200, int(rng.integers(1 << 30)))
        found = []
        for look in LOOKS:
            assert drawn.draws is not None
            part = replace(drawn, point=drawn.point[:, :look], draws=drawn.draws[:, :look], seeds=drawn.seeds[:look])
            found.append(crossed_p(SuiteScores(("m0", "m1"), [Scored.of(part)]).difference(1, 0)) or 0.0)
        stopped = any(decide(p, look, LOOKS).action == "stop" for p, look in zip(found, LOOKS, strict=True))
        yield f"equals told apart at any look, seeds' sd {sd:g}", "≤ 5", stopped
        yield f"the same with p ≤ 0.05 at every look, seeds' sd {sd:g}", "(for comparison)", min(found) <= ALPHA


def calibration(truth: dict[str, float]) -> Callable[[np.random.Generator], Happened]:
    """Return the simulation of differences of calibration, whose `truth` is known."""

    def once(rng: np.random.Generator) -> Happened:
        for seeds in (3, 5):
            given = scored(rng, 500, seeds)
            versus = calibrations([given], ("m0", "m1"), "m0", 200, int(rng.integers(1 << 30)))[1].versus
            for figure, estimate in versus.items():
                yield f"interval of a difference in {figure}, {seeds} seeds", "95", _holds(estimate, truth[figure])

    return once


def agreement(truth: tuple[float, float]) -> Callable[[np.random.Generator], Happened]:
    """Return the simulation of the agreement of seeds, whose `truth` is known."""

    def once(rng: np.random.Generator) -> Happened:
        for seeds in (2, 3, 5):
            grid = simulate_grid((AGREED,), (AGREEING,), seeds, rng)
            found = agreements(grid, 300, int(rng.integers(1 << 30)))[1]
            assert found.kappa is not None
            yield f"interval of agreement, {seeds} seeds", "95", _holds(found.agreement, truth[0])
            yield f"interval of kappa, {seeds} seeds", "95", _holds(found.kappa, truth[1])

    return once


def pooling(rng: np.random.Generator) -> Happened:
    """Draw the gains of k backbones whose test examples are the same."""
    for count in (2, 4, 10):
        for tau in (0.0, 2.0):
            shared, own = 1.0, rng.uniform(0.5, 4, count)
            true = 1 + tau * rng.normal(size=count)
            seen = list(true + rng.normal() * np.sqrt(shared) + rng.normal(size=count) * np.sqrt(own))
            noisy = [float(v) for v in shared + own * rng.chisquare(8, count) / 8]  # variances are estimates, too
            where = f"{count} backbones, tau {tau:g}"
            yield f"interval of a pooled gain, {where}", "95", _holds(pool(seen, noisy, shared).figure, 1.0)
            plain = pool(seen, noisy).figure
            yield f"the same, examples taken to be others, {where}", "(for comparison)", _holds(plain, 1.0)


def _holds(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return bool(estimate.low <= truth <= estimate.high)


def _one_sided(belief: Belief) -> bool:
    low, high = belief.difference.low, belief.difference.high
    return bool(low is not None and high is not None and (low > 0 or high < 0))


SIMULATIONS: dict[str, Callable[[], Callable[[np.random.Generator], Happened]]] = {
    "beliefs": lambda: beliefs,
    "equals": lambda: equals,
    "peeking": lambda: peeking,
    "calibration": lambda: calibration(calibration_truth()),
    "agreement": lambda: agreement(agreement_truth()),
    "pooling": lambda: pooling,
}
"""By name; called once, each gives what is then run again and again."""
