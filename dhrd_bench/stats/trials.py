"""Kinds of made-up grids with known truth, and what each is to show of the statistics.

A kind is drawn for several numbers of seeds. Every draw says of each figure whether its interval held the
truth, or whether a test rejected; `dhrd_bench.stats.validate` counts.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from dhrd_bench.stats.bootstrap import Replicates, resample
from dhrd_bench.stats.counts import cluster_counts, influence
from dhrd_bench.stats.design import Floats, Grid, Group, Selection
from dhrd_bench.stats.intervals import Estimate, bca, percentile
from dhrd_bench.stats.power import detectable
from dhrd_bench.stats.ranking import interquartile_mean, probability_of_improvement
from dhrd_bench.stats.significance import ALPHA, SUITE, crossed_p, pair_differences, sign_flips
from dhrd_bench.stats.simulate import Shape, Skill, simulate_grid, truth
from dhrd_bench.stats.speed import Speed
from dhrd_bench.stats.suite import Scored, SuiteScores
from dhrd_bench.stats.tested import TestedGrid, correct

RESAMPLES = 400
STARS, SUITE_STARS = "any star by task", "any corrected p over the suite"
SEEDS = (2, 3, 5, 10)

Key = tuple[str, int, str, str, str]  # kind, seeds, figure, way, task
Hits = dict[Key, bool]


class Kind(Protocol):
    """A kind of grid."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The numbers of seeds to draw it for."""

    def prepare(self, shapes: tuple[Shape, ...]) -> None:
        """Compute once what all draws need, before the processes part."""

    def once(self, shapes: tuple[Shape, ...], seeds: int, number: int) -> Hits:
        """Draw one grid and return, by figure, whether the interval held or the test rejected."""


def _rng(kind: Kind, seeds: int, number: int) -> np.random.Generator:
    return np.random.default_rng([number, seeds, sum(map(ord, kind.name))])


def _holds(estimate: Estimate | None, aim: float) -> bool:
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= aim <= estimate.high


@dataclass(frozen=True)
class Scenario:
    """Three methods: m1 that is better than m0, and m2 that is exactly as good as m0 without being the same.

    Attributes
    ----------
    rates, better
        Probability of a right answer by class of m0 and m2, and of m1.
    seed_sd
        Standard deviation of the seed effect on the latent scale; 0.1 moves an accuracy of 80 % by
        about 1 point from seed to seed.
    """

    name: str
    rates: tuple[float, ...]
    better: tuple[float, ...]
    seed_sd: float
    seeds: tuple[int, ...] = SEEDS

    @property
    def skills(self) -> tuple[Skill, Skill, Skill]:
        """What m0, m1 and m2 can do."""
        base = Skill(self.rates, self.seed_sd)
        return base, Skill(self.better, self.seed_sd), base

    def prepare(self, shapes: tuple[Shape, ...]) -> None:
        """Integrate the true scores."""
        for skill in self.skills:
            for shape in shapes:
                truth(shape, skill)

    def once(self, shapes: tuple[Shape, ...], seeds: int, number: int) -> Hits:
        """Return coverage of scores and gains of m1, and rejections of m2's equality, beside other ways."""
        grid = simulate_grid(shapes, self.skills, seeds, _rng(self, seeds, number))
        drawn = Drawn.of(grid, number)
        true = np.array([[truth(shape, skill) for shape in shapes] for skill in self.skills])
        flips = sign_flips({task.name: pair_differences(task, [(2, 0)]) for task in grid.tasks}, RESAMPLES, number)
        hits: Hits = {}
        for t, name in [*enumerate(drawn.suite.names), (-1, "suite")]:
            if t < 0 and len(shapes) == 1:
                continue
            at = list(drawn.suite.every) if t < 0 else [t]
            base, better, _ = true[:, at].mean(axis=1)
            found = {
                **{("score", way): low <= better <= high for way, (low, high) in drawn.score(1, at).items()},
                **{
                    ("gain", way): low <= 100 * (better / base - 1) <= high
                    for way, (low, high) in drawn.gain(1, 0, at).items()
                },
            }
            crossed = crossed_p(drawn.suite.difference(2, 0, at)) if seeds > 1 else None
            flip = flips[SUITE if t < 0 else name][0].p
            found["type I", "p"] = max(flip, crossed or 0.0) <= ALPHA
            found["type I", "sign flips alone"] = flip <= ALPHA
            if seeds > 1:
                found["type I", "seed flips"] = _seed_flips(drawn.suite, at) <= ALPHA
            hits |= {(self.name, seeds, *figure, name): bool(hit) for figure, hit in found.items()}
        return hits


@dataclass(frozen=True)
class Drawn:
    """One grid, resampled, with its intervals by every way that was tried.

    Attributes
    ----------
    levels, influences
        By task, replicates ``(M, R)`` of the two-level bootstrap, and the clusters' influence ``(M, C)``.
    """

    suite: SuiteScores
    levels: list[Floats]
    influences: list[Floats]

    @classmethod
    def of(cls, grid: Grid, number: int) -> Drawn:
        """Resample `grid`."""
        resampled = [resample(task, RESAMPLES, number) for task in grid.tasks]
        return cls(
            SuiteScores(grid.methods, [Scored.of(replicates) for replicates in resampled]),
            [level for replicates in resampled if (level := replicates.two_level()) is not None],
            [influence(cluster_counts(task), task.info.metrics).mean(axis=1) for task in grid.tasks],
        )

    def score(self, method: int, tasks: Sequence[int]) -> dict[str, tuple[float, float]]:
        """Return the intervals of a score, by way."""
        draws = np.mean([self.levels[t][method] for t in tasks], axis=0)
        pull = np.concatenate([self.influences[t][method] / len(tasks) for t in tasks])
        return self._ways(self.suite.score(method, tasks), draws, pull)

    def gain(self, method: int, other: int, tasks: Sequence[int]) -> dict[str, tuple[float, float]]:
        """Return the intervals of a relative gain, by way."""
        levels = np.mean([self.levels[t] for t in tasks], axis=0)
        draws = 100 * (levels[method] / np.maximum(levels[other], 1e-9) - 1)
        score, base = self.suite.mean(method, tasks), self.suite.mean(other, tasks)
        pulls = [self.influences[t] / len(tasks) for t in tasks]
        pull = np.concatenate([100 * (p[method] - score / base * p[other]) / base for p in pulls])
        return self._ways(self.suite.gain(method, other, tasks), draws, pull)

    @staticmethod
    def _ways(found: Estimate | None, draws: Floats, pull: Floats) -> dict[str, tuple[float, float]]:
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        return {
            "t": (found.low, found.high),
            "percentile": percentile(draws),
            "BCa": bca(found.value, draws, found.value - pull),
        }


def _seed_flips(suite: SuiteScores, tasks: Sequence[int]) -> float:
    """Sign-flip test with (task, seed) cells as units: what is often done, shown for comparison."""
    cells = np.concatenate([suite.tasks[t].point[2] - suite.tasks[t].point[0] for t in tasks])
    signs = 2.0 * np.random.default_rng(0).integers(0, 2, (RESAMPLES, len(cells))) - 1
    return float((1 + np.sum(np.abs(signs @ cells) >= abs(cells.sum()) - 1e-9)) / (1 + RESAMPLES))


@dataclass(frozen=True)
class Equals:
    """Methods that are equally good, of which nothing that is printed should call two different.

    Attributes
    ----------
    seed_sds
        Standard deviation of the seed effect by method, the baseline first.
    rate
        Probability of a right answer.
    """

    name: str
    seed_sds: tuple[float, ...]
    seeds: tuple[int, ...] = SEEDS
    rate: float = 0.80

    def prepare(self, shapes: tuple[Shape, ...]) -> None:
        """Need nothing."""

    def once(self, shapes: tuple[Shape, ...], seeds: int, number: int) -> Hits:
        """Return whether there is a star by task, and one over the suite."""
        skills = tuple(Skill((self.rate,), sd) for sd in self.seed_sds)
        tested = _tested(simulate_grid(shapes, skills, seeds, _rng(self, seeds, number)), number)
        found = {at: test.significant for at, test in tested.corrected.items()}
        return {
            (self.name, seeds, STARS, "p", "any"): any(yes for (_, t), yes in found.items() if t is not None),
            (self.name, seeds, SUITE_STARS, "p", "any"): any(yes for (_, t), yes in found.items() if t is None),
        }


def _tested(grid: Grid, number: int) -> TestedGrid:
    """Test a grid as a report does, m0 being the baseline."""
    cells = pd.DataFrame({"method": [], "task": [], "seed": []})
    tested = TestedGrid(Selection(Group("simulated", "", ""), grid, {}, cells, "m0", None, ()), grid, RESAMPLES, number)
    correct([tested])
    return tested


@dataclass(frozen=True)
class Runs:
    """Two methods of which many more seeds are drawn, so that it is known what all seeds would give.

    The test examples stay as they are, as those intervals take them. What all seeds would give is taken
    from 100 more, whose own error widens what is missed by about 0.3 points.

    Attributes
    ----------
    rates
        Probability of a right answer of m0 and m1.
    seed_sd
        As in `Scenario`.
    """

    name: str
    rates: tuple[float, float]
    seed_sd: float
    seeds: tuple[int, ...] = SEEDS
    more: int = 100

    def prepare(self, shapes: tuple[Shape, ...]) -> None:
        """Need nothing."""

    def once(self, shapes: tuple[Shape, ...], seeds: int, number: int) -> Hits:
        """Return coverage of the interquartile mean of m1, and of the probability that it beats m0."""
        skills = tuple(Skill((rate,), self.seed_sd) for rate in self.rates)
        whole = simulate_grid(shapes, skills, seeds + self.more, _rng(self, seeds, number))
        few, many = (self._runs(whole, some, number) for some in (slice(seeds), slice(seeds, None)))
        return {
            (self.name, seeds, "IQM", "percentile", "suite"): _holds(
                interquartile_mean(few, 1), interquartile_mean(many, 1).value
            ),
            (self.name, seeds, "P(better)", "percentile", "suite"): _holds(
                probability_of_improvement(few, 1, 0), probability_of_improvement(many, 1, 0).value
            ),
        }

    @staticmethod
    def _runs(grid: Grid, some: slice, number: int) -> SuiteScores:
        """Score some of the seeds; these intervals resample no example, so one draw of them will do."""
        tasks = []
        for task in grid.tasks:
            part = dataclasses.replace(task, seeds=task.seeds[some], predictions=task.predictions[:, some])
            found = resample(part, 1, number)
            count = len(part.seeds)
            draws = np.random.default_rng([number, count, sum(map(ord, task.name))]).multinomial(
                count, np.full(count, 1 / count), size=RESAMPLES
            )
            tasks.append(Scored.of(Replicates(part, found.point, None, draws.T.astype(float), number)))
        return SuiteScores(grid.methods, tasks)


@dataclass(frozen=True)
class Timed:
    """Two methods that are timed, m1 a tenth faster; seconds vary by seed, half of it for both alike.

    Attributes
    ----------
    spreads
        Standard deviation of the log seconds of a run by task, the last one repeating.
    """

    name: str
    spreads: tuple[float, ...]
    seeds: tuple[int, ...] = SEEDS

    def prepare(self, shapes: tuple[Shape, ...]) -> None:
        """Need nothing."""

    def once(self, shapes: tuple[Shape, ...], seeds: int, number: int) -> Hits:
        """Return coverage of m1's QPS and of its ratio to m0's."""
        rng = _rng(self, seeds, number)
        rows, examples, expected = [], 0.0, 0.0
        for t, shape in enumerate(shapes):
            spread = self.spreads[min(t, len(self.spreads) - 1)]
            common, own = (
                rng.normal(0, spread * math.sqrt(0.5), seeds),
                rng.normal(0, spread * math.sqrt(0.5), (2, seeds)),
            )
            examples += shape.rows
            expected += shape.rows / 110 * math.exp(spread**2 / 2)
            for m, pace in enumerate((100.0, 110.0)):
                for s, deviation in enumerate(common + own[m]):
                    seconds = shape.rows / pace * math.exp(deviation)
                    rows.append((f"m{m}", shape.name, s, float(shape.rows), seconds, ()))
        cells = pd.DataFrame(rows, columns=["method", "task", "seed", "examples", "seconds", "laps"])
        speed, names = Speed(cells), [shape.name for shape in shapes]
        return {
            (self.name, seeds, "QPS", "t", "suite"): _holds(speed.qps("m1", names), examples / expected),
            (self.name, seeds, "QPS ratio", "t", "suite"): _holds(speed.ratio("m1", "m0", names), 1.1),
        }


@dataclass(frozen=True)
class Power:
    """A method that is better by the detectable difference that reports print, to be found in four of five.

    The difference printed varies from grid to grid; its median over some is what m1 is made better by.
    Tasks scored by accuracy only, where the true score is the rate itself. A report of one task for each
    of them, and one of them all.

    Attributes
    ----------
    rate, seed_sd
        As in `Equals`.
    pilots
        How many grids the median is over; twice, as how much two methods differ depends on the difference.
    """

    name: str
    rate: float
    seed_sd: float
    seeds: tuple[int, ...] = SEEDS
    pilots: int = 40

    def prepare(self, shapes: tuple[Shape, ...]) -> None:
        """Leave it to the processes, of which each one does it once for each number of seeds."""

    def once(self, shapes: tuple[Shape, ...], seeds: int, number: int) -> Hits:
        """Return whether the difference was found, where there can be one that large."""
        hits: Hits = {}
        for name, part in self._reports(shapes).items():
            points = self.points(part, seeds)
            if points is not None:
                tested = _tested(self._grid(part, points, seeds, _rng(self, seeds, number)), number)
                test = tested.test(1)
                hits[self.name, seeds, "power", "p", name] = test is not None and test.p <= ALPHA
        return hits

    @staticmethod
    def _reports(shapes: tuple[Shape, ...]) -> dict[str, tuple[Shape, ...]]:
        able = tuple(shape for shape in shapes if shape.metrics == ("accuracy",))
        return {shape.name: (shape,) for shape in able} | {"suite": able}

    @functools.cache  # noqa: B019 - a kind of grid lives as long as its process
    def points(self, shapes: tuple[Shape, ...], seeds: int) -> float | None:
        """Return the median detectable difference; None if it is more than can be."""
        points: float | None = 0.0
        for _ in range(2):
            if points is None:
                break
            printed = []
            for number in range(self.pilots):
                rng = np.random.default_rng([number, seeds, len(shapes), 1])
                suite = SuiteScores.of(self._grid(shapes, points, seeds, rng), RESAMPLES, number)
                printed.append(detectable(suite.difference(1, 0)) or math.inf)
            median = float(np.median(printed))
            points = median if median < 100 * (0.98 - self.rate) else None
        return points

    def _grid(self, shapes: tuple[Shape, ...], points: float, seeds: int, rng: np.random.Generator) -> Grid:
        skills = (Skill((self.rate,), self.seed_sd), Skill((self.rate + points / 100,), self.seed_sd))
        return simulate_grid(shapes, skills, seeds, rng)


SCENARIOS = (
    Scenario("one seed", (0.80,), (0.82,), 0.0, (1,)),
    Scenario("typical", (0.80,), (0.82,), 0.1),
    Scenario("uneven classes", (0.95, 0.85, 0.70), (0.96, 0.87, 0.73), 0.15),
    Scenario("seeds differ much", (0.80,), (0.82,), 0.3),
    Scenario("high scores", (0.95,), (0.96,), 0.15),
    Scenario("near-constant classifier", (0.03, 0.98), (0.035, 0.985), 0.1),
    Scenario("nearly perfect scores", (0.995,), (0.997,), 0.1),
)
EQUALS = (
    Equals("two methods", (0.3,) * 2),
    Equals("equal seed variances", (0.1,) * 5),
    Equals("equal, seeds differ much", (0.3,) * 5),
    Equals("only the baseline's seeds differ much", (0.4, 0.1, 0.1, 0.1, 0.1)),
    Equals("one other's seeds differ much", (0.1, 0.1, 0.1, 0.1, 0.4)),
    Equals("all different", (0.05, 0.1, 0.2, 0.35, 0.5)),
)
RUNS = (Runs("typical", (0.80, 0.82), 0.1), Runs("seeds differ much", (0.80, 0.82), 0.3))
TIMED = (Timed("runs differ by 5 %", (0.05,)), Timed("tasks unlike", (0.02, 0.2, 0.02, 0.05, 0.1, 0.1, 0.2)))
POWER = (Power("typical", 0.70, 0.1), Power("seeds differ much", 0.70, 0.3))
KINDS: tuple[Kind, ...] = (*SCENARIOS, *EQUALS, *RUNS, *TIMED, *POWER)
