"""Put the statistics to the test on made-up grids with known truth: ``python -m dhrd_bench.stats.validate``.

Every grid has three methods: m0, m1 that is better by a known amount, and m2 that is exactly as good as
m0 without being the same. How often the 95 % intervals hold the truth is the coverage; how often m2 is
found to differ from m0 at 5 % is the type-I error. Grids of equal methods show how often anything
printed is a false alarm: a star by task, or a corrected p over the suite.

With ``--write docs/statistics.md`` the tables replace what stands between the two marks in that file.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from dhrd_bench.stats.bootstrap import resample
from dhrd_bench.stats.counts import cluster_counts, influence
from dhrd_bench.stats.design import Group, Selection
from dhrd_bench.stats.intervals import bca, percentile
from dhrd_bench.stats.significance import ALPHA, SUITE, crossed_p, pair_differences, sign_flips
from dhrd_bench.stats.simulate import SUPERGLUE, Shape, Skill, simulate_grid, truth
from dhrd_bench.stats.suite import Scored, SuiteScores
from dhrd_bench.stats.tested import TestedGrid, correct

RESAMPLES = 400
BEGIN, END = "<!-- validation: begin -->", "<!-- validation: end -->"


@dataclass(frozen=True)
class Scenario:
    """A kind of grid.

    Attributes
    ----------
    rates, better
        Probability of a right answer by class of m0 and m2, and of m1.
    seed_sd
        Standard deviation of the seed effect on the latent scale; 0.1 moves an accuracy of 80 % by
        about 1 point from seed to seed.
    seeds
        Numbers of seeds to run.
    explanation
        Why entries may lie outside the band.
    """

    name: str
    rates: tuple[float, ...]
    better: tuple[float, ...]
    seed_sd: float
    seeds: tuple[int, ...] = (2, 3, 5, 10)
    explanation: str = ""


SCENARIOS = (
    Scenario("one seed", (0.80,), (0.82,), 0.0, (1,)),
    Scenario("typical", (0.80,), (0.82,), 0.1),
    Scenario("uneven classes", (0.95, 0.85, 0.70), (0.96, 0.87, 0.73), 0.15),
    Scenario("seeds differ much", (0.80,), (0.82,), 0.3),
    Scenario("high scores", (0.95,), (0.96,), 0.15),
    Scenario("near-constant classifier", (0.03, 0.98), (0.035, 0.985), 0.1),
    Scenario("nearly perfect scores", (0.995,), (0.997,), 0.1),
)


@dataclass(frozen=True)
class Entry:
    """Hits out of trials of one figure."""

    hits: int
    trials: int

    @property
    def rate(self) -> float:
        """Share of hits in %."""
        return 100.0 * self.hits / self.trials

    def band(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval of the rate, the Monte-Carlo band, in %."""
        z, n, p = 1.96, self.trials, self.hits / self.trials
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return 100 * (centre - half) / (1 + z * z / n), 100 * (centre + half) / (1 + z * z / n)


@dataclass(frozen=True)
class Equals:
    """A kind of grid of methods that are equally good.

    Attributes
    ----------
    seed_sds
        Standard deviation of the seed effect by method, the baseline first.
    rate
        Probability of a right answer.
    """

    name: str
    seed_sds: tuple[float, ...]
    seeds: tuple[int, ...] = (2, 3, 5, 10)
    rate: float = 0.80


EQUALS = (
    Equals("two methods", (0.3,) * 2),
    Equals("equal seed variances", (0.1,) * 5),
    Equals("equal, seeds differ much", (0.3,) * 5),
    Equals("only the baseline's seeds differ much", (0.4, 0.1, 0.1, 0.1, 0.1)),
    Equals("one other's seeds differ much", (0.1, 0.1, 0.1, 0.1, 0.4)),
    Equals("all different", (0.05, 0.1, 0.2, 0.35, 0.5)),
)

STARS, SUITE_STARS = "any star by task", "any corrected p over the suite"

Key = tuple[str, int, str, str, str]  # scenario, seeds, figure, way, task


def simulate_once(scenario: Scenario, shapes: Sequence[Shape], seeds: int, number: int) -> dict[Key, bool]:
    """Simulate one grid and return, by figure, whether the interval held or the test rejected."""
    skills = _skills(scenario)
    rng = np.random.default_rng([number, seeds, sum(map(ord, scenario.name))])
    grid = simulate_grid(tuple(shapes), skills, seeds, rng)
    resampled = [resample(task, RESAMPLES, number) for task in grid.tasks]
    suite = SuiteScores(grid.methods, [Scored.of(replicates) for replicates in resampled])
    true = np.array([[truth(shape, skill) for shape in shapes] for skill in skills])
    hits: dict[Key, bool] = {}

    def note(figure: str, way: str, task: str, hit: bool) -> None:
        hits[scenario.name, seeds, figure, way, task] = bool(hit)

    names = [shape.name for shape in shapes]
    drawn = [level for replicates in resampled if (level := replicates.two_level()) is not None]
    influences = [influence(cluster_counts(task), task.info.metrics).mean(axis=1) for task in grid.tasks]
    parts = {task.name: pair_differences(task, [(2, 0)]) for task in grid.tasks}
    flips = sign_flips(parts, RESAMPLES, number)
    for t, name in [*enumerate(names), (-1, "suite")]:
        at = list(suite.every) if t < 0 else [t]
        if t < 0 and len(names) == 1:
            continue
        mean = true[:, at].mean(axis=1)
        for figure, value, aim in (
            ("score", suite.score(1, at), mean[1]),
            ("gain", suite.gain(1, 0, at), 100 * (mean[1] / mean[0] - 1)),
        ):
            assert value is not None
            assert value.low is not None
            assert value.high is not None
            note(figure, "t", name, value.low <= aim <= value.high)
            levels = np.mean([drawn[i] for i in at], axis=0)
            pulls = [influences[i][[0, 1]] / len(at) for i in at]
            if figure == "score":
                draws, pull = levels[1], np.concatenate([p[1] for p in pulls])
            else:
                score, base = suite.mean(1, at), suite.mean(0, at)
                draws = 100 * (levels[1] / np.maximum(levels[0], 1e-9) - 1)
                pull = np.concatenate([100 * (p[1] - score / base * p[0]) / base for p in pulls])
            for way, (low, high) in (
                ("percentile", percentile(draws)),
                ("BCa", bca(value.value, draws, value.value - pull)),
            ):
                note(figure, way, name, low <= aim <= high)
        crossed = crossed_p(suite.difference(2, 0, at)) if seeds > 1 else None
        flip = flips[SUITE if t < 0 else name][0].p
        note("type I", "p", name, max(flip, crossed or 0.0) <= ALPHA)
        note("type I", "sign flips alone", name, flip <= ALPHA)
        if seeds > 1:
            note("type I", "seed flips", name, _seed_flips(suite, at) <= ALPHA)
    return hits


def equals_once(scenario: Equals, shapes: Sequence[Shape], seeds: int, number: int) -> dict[Key, bool]:
    """Simulate one grid of equal methods; return whether anything that is printed calls two of them different."""
    rng = np.random.default_rng([number, seeds, sum(map(ord, scenario.name))])
    skills = tuple(Skill((scenario.rate,), sd) for sd in scenario.seed_sds)
    grid = simulate_grid(tuple(shapes), skills, seeds, rng)
    group, cells = Group("simulated", "", ""), pd.DataFrame({"method": [], "task": [], "seed": []})
    tested = TestedGrid(Selection(group, grid, {}, cells, "m0", None, ()), grid, RESAMPLES, number)
    correct([tested])
    found = {at: test.significant for at, test in tested.corrected.items()}
    return {
        (scenario.name, seeds, STARS, "p", "any"): any(yes for at, yes in found.items() if at[1] is not None),
        (scenario.name, seeds, SUITE_STARS, "p", "any"): any(yes for at, yes in found.items() if at[1] is None),
    }


def _skills(scenario: Scenario) -> tuple[Skill, Skill, Skill]:
    base = Skill(scenario.rates, scenario.seed_sd)
    return base, Skill(scenario.better, scenario.seed_sd), base


def _seed_flips(suite: SuiteScores, tasks: Sequence[int]) -> float:
    """Sign-flip test with (task, seed) cells as units: what is often done, shown for comparison."""
    cells = np.concatenate([suite.tasks[t].point[2] - suite.tasks[t].point[0] for t in tasks])
    signs = 2.0 * np.random.default_rng(0).integers(0, 2, (RESAMPLES, len(cells))) - 1
    return float((1 + np.sum(np.abs(signs @ cells) >= abs(cells.sum()) - 1e-9)) / (1 + RESAMPLES))


def _batch(job: tuple[Scenario | Equals, tuple[Shape, ...], int, range]) -> dict[Key, list[int]]:
    scenario, shapes, seeds, numbers = job
    total: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
    with threadpool_limits(1):  # the processes share the cores, and the matrices are small
        for number in numbers:
            if isinstance(scenario, Equals):
                hits = equals_once(scenario, shapes, seeds, number)
            else:
                hits = simulate_once(scenario, shapes, seeds, number)
            for key, hit in hits.items():
                total[key][0] += hit
                total[key][1] += 1
    return dict(total)


def run(
    grids: int,
    scenarios: Sequence[Scenario | Equals] = SCENARIOS + EQUALS,
    shapes: tuple[Shape, ...] = SUPERGLUE,
    workers: int = 1,
) -> dict[Key, Entry]:
    """Simulate `grids` grids for every scenario and number of seeds."""
    for scenario in scenarios:
        for skill in () if isinstance(scenario, Equals) else _skills(scenario):
            for shape in shapes:
                truth(shape, skill)  # before forking, so that it is integrated once
    step = max(1, grids // 8)
    jobs = [
        (scenario, shapes, seeds, range(start, min(start + step, grids)))
        for scenario in scenarios
        for seeds in scenario.seeds
        for start in range(0, grids, step)
    ]
    total: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            batches = list(pool.map(_batch, jobs))
    else:
        batches = [_batch(job) for job in jobs]
    for batch in batches:
        for key, (hits, trials) in batch.items():
            total[key][0] += hits
            total[key][1] += trials
    return {key: Entry(hits, trials) for key, (hits, trials) in total.items()}


# ---------------------------------------------------------------- tables


def tables(entries: dict[Key, Entry], grids: int) -> str:
    """Return the results as Markdown."""
    stars = {key: entry for key, entry in entries.items() if key[2] in (STARS, SUITE_STARS)}
    entries = {key: entry for key, entry in entries.items() if key not in stars}
    tasks = list(dict.fromkeys(key[4] for key in entries))
    trials = Entry(round(0.95 * grids), grids).band()
    lines = [
        f"{grids} grids an entry; the Monte-Carlo band of an entry of 95.0 is {trials[0]:.1f}-{trials[1]:.1f}. "
        "An entry is marked ↓ or ↑ if its band lies below or above 93-97 (coverage), or above 5 (type I).",
        "",
    ]
    for figure, way, title in (
        ("score", "t", "Coverage of the 95 % interval of a score, in %"),
        ("gain", "t", "Coverage of the 95 % interval of a relative gain, in %"),
        ("type I", "p", "Type-I error at 5 %, in %"),
    ):
        lines += [f"**{title}**", "", f"| grid | seeds | {' | '.join(tasks)} |", "|---|---:|" + "---:|" * len(tasks)]
        for scenario, seeds in dict.fromkeys((key[0], key[1]) for key in entries):
            cells = [_mark(entries[scenario, seeds, figure, way, task], figure) for task in tasks]
            lines.append(f"| {scenario} | {seeds} | {' | '.join(cells)} |")
        lines.append("")
    if stars:
        kinds = list(dict.fromkeys((key[0], key[1]) for key in stars))
        lines += ["**Any false alarm in a table of equal methods, as printed: corrected, at 5 %, in %**", ""]
        lines += [f"| grid | seeds | {STARS} | {SUITE_STARS} |", "|---|---:|---:|---:|"]
        for scenario, seeds in kinds:
            marks = [_mark(stars[scenario, seeds, figure, "p", "any"], "type I") for figure in (STARS, SUITE_STARS)]
            lines.append(f"| {scenario} | {seeds} | {' | '.join(marks)} |")
        lines.append("")
    lines += ["**What was chosen over**: lowest, mean and highest entry over the same grids, in %", ""]
    lines += ["| figure | way | lowest | mean | highest |", "|---|---|---:|---:|---:|"]
    for figure, way in dict.fromkeys((key[2], key[3]) for key in entries):
        rates = [entry.rate for key, entry in entries.items() if key[2:4] == (figure, way)]
        lines.append(f"| {figure} | {way} | {min(rates):.1f} | {np.mean(rates):.1f} | {max(rates):.1f} |")
    return "\n".join(lines) + "\n"


CHOSEN = (("score", "t"), ("gain", "t"), ("type I", "p"), (STARS, "p"), (SUITE_STARS, "p"))


def outside(entries: dict[Key, Entry]) -> Iterable[Key]:
    """Yield the entries of the chosen ways whose Monte-Carlo band lies outside what is wanted."""
    for key, entry in entries.items():
        if (key[2], key[3]) in CHOSEN and _mark(entry, key[2])[-1] in "↓↑":
            yield key


def _mark(entry: Entry, figure: str) -> str:
    low, high = entry.band()
    least, most = (93.0, 97.0) if figure in ("score", "gain") else (0.0, 5.0)
    mark = "↓" if high < least else "↑" if low > most else ""
    return f"{entry.rate:.1f}{mark}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulations, print the tables and, if asked, write them into a file."""
    parser = argparse.ArgumentParser(description="Coverage and type-I error on simulated grids.")
    parser.add_argument("--grids", type=int, default=1000, help="grids an entry")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help=f"file in which to replace what stands between {BEGIN} and {END}")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    text = tables(run(options.grids, workers=options.workers), options.grids)
    sys.stdout.write(text)
    sys.stdout.write(f"\n{time.monotonic() - start:.0f} s\n")
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        options.write.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
