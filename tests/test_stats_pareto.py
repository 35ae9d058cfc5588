"""The Pareto front, how sure it is, and what a point costs."""

from __future__ import annotations

import dataclasses
import math

import fakes
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dhrd_bench.results.schema import TrainingCost
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.cost import COSTS, cost, mean_costs
from dhrd_bench.stats.design import Group, TaskGrid, TaskInfo
from dhrd_bench.stats.intervals import Estimate, covariance_of_differences
from dhrd_bench.stats.pareto import front, points, score_deviations
from dhrd_bench.stats.selection import select
from dhrd_bench.stats.speed import Speed
from dhrd_bench.stats.suite import Scored, SuiteScores

TASKS = (fakes.FakeTask("alpha", 40), fakes.FakeTask("beta", 60, ("f1_macro",), classes=3))


def analysed(made, resamples=200):
    return analyse_selection(select(long_table(made), Group("fake", "tiny", "smoke")), resamples=resamples)


def placed(made, **options):
    return {point.method: point for point in analysed(made, **options).points}


def brute_force(scores, qps):
    """Say it as the definition does, one pair at a time."""
    pairs = list(zip(scores, qps, strict=True))
    return [
        not any((s >= mine and q >= pace) and (s, q) != (mine, pace) for s, q in pairs) for mine, pace in pairs
    ]  # fmt: skip


figures = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=7)


# ---------------------------------------------------------------- membership


@given(figures)
def test_the_front_is_what_its_definition_says(made):
    scores, qps = np.array(made, dtype=float).T
    assert front(scores, qps).tolist() == brute_force(scores, qps)
    assert front(np.stack([scores, scores[::-1]], 1), np.stack([qps, qps[::-1]], 1)).T.tolist() == [
        brute_force(scores, qps),
        brute_force(scores[::-1], qps[::-1]),
    ]


@given(figures, st.integers(0, 6), st.floats(0.1, 50))
def test_dominated_methods_and_units_change_nothing(made, which, unit):
    scores, qps = np.array(made, dtype=float).T
    found = front(scores, qps)
    assert found.any()
    assert front(scores, qps * unit).tolist() == found.tolist()
    other = which % len(scores)
    more = front(np.append(scores, scores[other] - 0.5), np.append(qps, qps[other] / 2))
    assert more[:-1].tolist() == found.tolist()
    assert not more[-1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(1, 5), min_size=6, max_size=6),
)
def test_without_noise_probabilities_are_certain_and_the_front_itself(scores, qps):
    methods, runs = [f"m{i}" for i in range(len(scores))], 50
    still = np.zeros((len(methods),) * 2)
    many = np.array([10**9])  # so many clusters that having seen no difference is having shown it
    task = TaskGrid("t", TaskInfo(labels=["0", "1"], metrics=["accuracy"]), (0,), many, many, many, many)
    point = np.array(scores, dtype=float)[:, None]
    suite = SuiteScores(
        methods, [Scored(task, point, np.ones((1, runs)), np.zeros((len(scores), runs)), still[:, None, :, None])]
    )
    cells = pd.DataFrame(
        {"method": m, "task": "t", "seed": 0, "examples": 60.0, "seconds": 60 / q, "laps": [(60.0, 60 / q)]}
        for m, q in zip(methods, qps, strict=False)
    )
    found = points(suite, Speed(cells), 0)
    pace = [one.qps.value for one in found]
    assert [one.on_front for one in found] == brute_force(scores, pace)
    assert [one.probability for one in found] == [float(on) for on in brute_force(scores, pace)]


# ---------------------------------------------------------------- probabilities


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.6, 0.75, 0.9, 1.0]), st.sampled_from([20, 100, 105])), min_size=2, max_size=5
    ),
    st.integers(1, 3),
)
def test_probabilities_of_any_table(levels, seeds):
    methods = [fakes.FakeMethod(f"m{i}", accuracy, qps=qps) for i, (accuracy, qps) in enumerate(levels)]
    found = list(placed(fakes.records(TASKS, methods, range(seeds))).values())
    assert all(0 <= one.probability <= 1 for one in found)
    assert sum(one.probability for one in found) >= 1 - 1e-9, "some method is on the front in every draw"
    assert [one.on_front for one in found] == brute_force([p.score.value for p in found], [p.qps.value for p in found])
    best = max(found, key=lambda one: (one.score.value, one.qps.value))
    assert best.on_front
    assert best.probability > 0


def test_names_and_order_have_no_say():
    methods = [fakes.FakeMethod(name, 0.7 + 0.04 * i, qps=100 - i) for i, name in enumerate("pqrs")]
    made = fakes.records(TASKS, methods, range(3))
    names = dict(zip("pqrs", "sxap", strict=True))
    other = [r.model_copy(update={"cell": r.cell.model_copy(update={"method": names[r.cell.method]})}) for r in made]
    ours, theirs = placed(made), placed(other[::-1])
    assert 0 < min(one.probability for one in ours.values()) < 1
    for old, new in names.items():
        assert ours[old].probability == pytest.approx(theirs[new].probability, abs=0.005)
        assert ours[old].on_front == theirs[new].on_front


def test_a_method_that_reads_nothing_keeps_nobody_off_the_front_and_one_without_a_backbone_does():
    idle = fakes.FakeMethod("idle", 0.99, inference="none", qps=1e6, tokens=0)
    without = placed(fakes.records(TASKS, fakes.THREE))
    found = placed(fakes.records(TASKS, (*fakes.THREE, idle)))
    assert (found["idle"].qps, found["idle"].on_front, found["idle"].probability) == (None, None, None)
    assert found["idle"].score.value > 90
    for name, one in without.items():
        assert found[name].probability == one.probability
        assert dataclasses.astuple(found[name].score) == pytest.approx(dataclasses.astuple(one.score), rel=1e-12)
        assert found[name].qps == one.qps
    alone = placed(fakes.records(TASKS, [idle]))["idle"]
    assert (alone.on_front, alone.probability) == (None, None)
    reads = placed(fakes.records(TASKS, (*fakes.THREE, dataclasses.replace(idle, name="reads", tokens=9))))
    assert [name for name, one in reads.items() if one.on_front] == ["reads"]


def test_a_metric_that_cannot_be_resampled_gives_a_front_without_probabilities():
    odd = (fakes.FakeTask("alpha", 40, ("evaluate:odd",)),)
    found = placed(fakes.records(odd))
    assert found["better"].on_front is not None
    assert found["better"].probability is None


def test_a_twin_is_not_told_apart_by_examples_on_which_both_agree():
    made = fakes.records(TASKS, (fakes.FakeMethod("one", 0.8), fakes.FakeMethod("weak", 0.3)), range(1))
    own = [r for r in made if r.cell.method == "one"]
    copies = [r.model_copy(update={"cell": r.cell.model_copy(update={"method": "two"})}) for r in own]
    # The copy is much slower, so that it can be on the front by its score only: half of the draws.
    slower = [
        r.model_copy(
            update={
                "timing": r.timing.model_copy(
                    update={
                        "seconds": 9 * r.timing.seconds,
                        "laps": [(n, 9 * s) for n, s in r.timing.laps],
                    }
                )
            }
        )
        for r in copies
    ]
    found = placed([*made, *slower], resamples=4000)
    assert found["two"].probability == pytest.approx(0.5, abs=0.03)


# ---------------------------------------------------------------- the draws


def suite_of(made, resamples=20_000):
    chosen = select(long_table(made), Group("fake", "tiny", "smoke"))
    return SuiteScores.of(chosen.grid, resamples, 0), Speed(chosen.cells), chosen


def varied(tasks, methods, seeds):
    """Return records of methods whose accuracy and pace change from seed to seed, in part by themselves."""
    rng, made = np.random.default_rng(3), []
    for task in tasks:
        for seed in range(seeds):
            common = rng.normal()
            for one in methods:
                own = rng.normal()
                level = fakes.FakeMethod(
                    one.name,
                    one.accuracy + 0.04 * common + 0.03 * own,
                    qps=one.qps * math.exp(0.02 * common + 0.01 * own),
                    unparsable=0.15,
                )
                made.append(fakes.record(task, level, seed))
    return made


FEW = (fakes.FakeTask("gamma", 60, per_cluster=10), fakes.FakeTask("delta", 64, per_cluster=8))
"""Six and eight clusters, where small-sample factors and Student's t matter."""


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_difference_is_drawn_as_wide_as_its_interval(seeds):
    methods = [fakes.FakeMethod("a", 0.80), fakes.FakeMethod("b", 0.78)]
    suite, _, _ = suite_of(varied(FEW, methods, seeds))
    drawn = score_deviations(suite, [0, 1], np.random.default_rng(0))
    difference = suite.difference(0, 1)
    apart = difference.value + drawn[0] - drawn[1]
    ends = np.quantile(apart, [0.025, 0.975])
    width = difference.high - difference.low
    assert (ends[1] - ends[0]) / width == pytest.approx(1, abs=0.04)
    if seeds == 1:
        ahead = stats.t.sf(-difference.value / difference.se, difference.df)
        assert (apart > 0).mean() == pytest.approx(ahead, abs=0.015)


def test_no_difference_is_drawn_with_less_spread_than_its_interval_has():
    methods = [fakes.FakeMethod(name, accuracy) for name, accuracy in (("a", 0.8), ("b", 0.7), ("c", 0.75))]
    suite, _, _ = suite_of(varied(TASKS, methods, 4))
    drawn = score_deviations(suite, [0, 1, 2], np.random.default_rng(0))
    pairs = [suite.difference(i, j) for i, j in ((0, 1), (0, 2), (1, 2))]
    df = min(pair.df for pair in pairs)
    for (i, j), pair in zip(((0, 1), (0, 2), (1, 2)), pairs, strict=True):
        spread = np.std(drawn[i] - drawn[j]) * math.sqrt((df - 2) / df)
        assert 0.97 < spread / pair.se < 1.1


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_differences_keep_their_variance_or_gain_some(count, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, 3))
    matrix = root @ root.T - np.diag(rng.random(count) * 3) + 100 * rng.random()
    found = covariance_of_differences(matrix)
    for i in range(count):
        for j in range(i):
            w = np.eye(count)[i] - np.eye(count)[j]
            least = max(float(w @ matrix @ w), 0.0)
            assert w @ found @ w >= least - 1e-9
            if count == 2:
                assert w @ found @ w == pytest.approx(least, abs=1e-9)
    assert np.linalg.eigvalsh(found).min() > -1e-9


def naive(made, names, draws, rng):
    """Compute the probabilities anew from the records: closed forms, library distributions, plain loops.

    Accuracies only. Covariances are pieced together by pairs of methods; no draw is shared with ours.
    """
    tasks, count = sorted({r.cell.task for r in made}), len(names)

    def of(method, task):
        own = sorted((r for r in made if (r.cell.method, r.cell.task) == (method, task)), key=lambda r: r.cell.seed)
        return own, 100.0 * np.array([np.equal(r.rows.label, r.rows.prediction) for r in own])

    def clipped(between):
        centre = np.eye(count) - 1 / count
        values, vectors = np.linalg.eigh(centre @ between @ centre)
        return sum(max(v, 0) * np.outer(u, u) for v, u in zip(values, vectors.T, strict=True))

    scores, qps = np.zeros(count), np.zeros(count)
    score_cov = np.zeros((count, count))
    runs, weights = (np.zeros((count, count)) for _ in range(2))
    parts = {(i, j): [0.0, 0.0] for i in range(count) for j in range(i)}
    seconds = [sum(r.timing.seconds for t in tasks for r in of(m, t)[0]) for m in names]
    for i, m in enumerate(names):
        scores[i] = np.mean([of(m, t)[1].mean() for t in tasks])
        qps[i] = sum(r.timing.examples for t in tasks for r in of(m, t)[0]) / seconds[i]
    for t in tasks:
        outcome = [of(m, t)[1] for m in names]
        seeds, n = outcome[0].shape
        logs, shares = [], []
        examples, mixed, square = (np.zeros((count, count)) for _ in range(3))
        for i in range(count):
            for j in range(count):
                one, two = outcome[i], outcome[j]
                examples[i, j] = np.cov(one.mean(axis=0), two.mean(axis=0))[0, 1] / n
                for s in range(seeds):
                    apart = (one[s] - one.mean(axis=0), two[s] - two.mean(axis=0))
                    mixed[i, j] += np.cov(*apart, ddof=0)[0, 1] / n / (seeds - 1)
                square[i, j] = np.cov(one.mean(axis=1), two.mean(axis=1))[0, 1]
            runs_of = of(names[i], t)[0]
            logs.append(np.log([r.timing.seconds for r in runs_of]))
            shares.append(sum(r.timing.seconds for r in runs_of) / seconds[i])
        runs += np.cov(logs) / len(tasks)  # as many seeds everywhere, so the pooled covariance is the mean
        weights += np.outer(shares, shares) / seeds
        score_cov += (examples + clipped(square - mixed) / seeds) / len(tasks) ** 2
        for i, j in parts:
            w = np.zeros(count)
            w[i], w[j] = 1, -1
            sample = (w @ examples @ w) / len(tasks) ** 2
            whole = max(w @ square @ w / seeds / len(tasks) ** 2, min(w @ mixed @ w / seeds / len(tasks) ** 2, sample))
            parts[i, j][0] += sample + max(w @ (square - mixed) @ w, 0) / seeds / len(tasks) ** 2
            parts[i, j][1] += sample**2 / (n - 1) + whole**2 / (seeds - 1)
    pace_cov = clipped(runs * weights)
    score_df = min(total**2 / spread for total, spread in parts.values())
    speed = Speed(long_table(made).cells)
    pace_df = min(speed.qps(m, tasks).df for m in names)
    score = stats.multivariate_t(scores, score_cov, score_df, allow_singular=True).rvs(draws, random_state=rng)
    pace = stats.multivariate_t(np.log(qps), pace_cov, pace_df, allow_singular=True).rvs(draws, random_state=rng)
    return np.mean([brute_force(s, p) for s, p in zip(score, pace, strict=True)], axis=0)


def test_probabilities_are_those_of_an_independent_computation():
    methods = [fakes.FakeMethod(n, a, qps=q) for n, a, q in (("p", 0.80, 100), ("q", 0.83, 98), ("r", 0.78, 103))]
    tasks = (fakes.FakeTask("alpha", 90), fakes.FakeTask("beta", 128))
    made = varied(tasks, methods, 4)
    expected = naive(made, ["p", "q", "r"], 20_000, np.random.default_rng(1))
    found = placed(made, resamples=20_000)
    assert [found[name].probability for name in "pqr"] == pytest.approx(expected.tolist(), abs=0.02)
    assert 0.05 < min(expected) < max(expected) < 1


def test_ratios_read_off_the_covariance_are_those_of_their_intervals():
    _, speed, chosen = suite_of(varied(fakes.FULL[5:], fakes.THREE, 4), 100)
    tasks = [task.name for task in chosen.grid.tasks]
    covariance = speed.covariance(["base", "better"], tasks)
    weights = np.array([1.0, -1.0])
    ratio = speed.ratio("better", "base", tasks)
    assert weights @ covariance @ weights == pytest.approx(ratio.se**2)
    three = speed.covariance(["base", "better", "slow"], tasks)[:2, :2]
    assert weights @ three @ weights >= ratio.se**2 * (1 - 1e-9)
    one = speed.qps("base", tasks)
    assert one.low < one.value < one.high
    _, speed, _ = suite_of(fakes.records(fakes.FULL[5:], fakes.THREE, (0,)), 100)
    found = weights @ speed.covariance(["base", "better"], tasks) @ weights
    assert found == pytest.approx(speed.ratio("better", "base", tasks).se ** 2, rel=1e-6)


def test_intervals_of_qps_hold_the_truth():
    rng = np.random.default_rng(0)
    for spread_between in (0.0, 0.1):
        hits = 0
        for _ in range(200):
            rows = []
            for task in ("t", "u", "v"):
                for seed in range(5):
                    run = 0.1 * np.exp(rng.normal(0, spread_between))
                    laps = list(run * np.exp(rng.normal(0, 0.2, 12) - 0.02))
                    rows.append({"method": "a", "task": task, "seed": seed, "examples": 120.0, "seconds": sum(laps),
                                 "laps": [(10.0, lap) for lap in laps]})  # fmt: skip
            found = Speed(pd.DataFrame(rows)).qps("a", ["t", "u", "v"])
            truth = 10 / 0.1 / np.exp(spread_between**2 / 2)
            hits += found.low <= truth <= found.high
        assert 0.90 <= hits / 200 <= 0.99


# ---------------------------------------------------------------- costs


def test_a_point_costs_the_extra_over_the_points():
    found = cost(3000.0, 1000.0, Estimate(4.0, 1.0, 8.0))
    assert (found.mean, found.said) == (3000.0, "")
    assert (found.per_point.value, found.per_point.low, found.per_point.high) == (500.0, 250.0, 2000.0)


@pytest.mark.parametrize("gained", [Estimate(1, -1, 3), Estimate(-2, -3, -1), Estimate(2), Estimate(1, 0, 2)])
def test_without_a_gain_there_are_words(gained):
    found = cost(3000.0, 1000.0, gained)
    assert (found.per_point, found.said) == (None, "no gain shown")


def test_what_is_not_known_is_blank():
    gained = Estimate(4.0, 1.0, 8.0)
    assert cost(None, 1.0, gained).said == cost(1.0, None, gained).said == cost(1.0, 1.0, None).said == ""
    assert cost(1.0, 1.0, gained).said == "no extra cost"
    known = mean_costs([{"tokens": 1, "seconds": 2.0}, {"tokens": 3}])
    assert known == dict.fromkeys(COSTS) | {"tokens": 2.0}
    assert mean_costs([{}]) == mean_costs([]) == dict.fromkeys(COSTS)


@settings(max_examples=50)
@given(st.floats(1, 1e6), st.floats(0, 1e6), st.floats(0.1, 50), st.floats(0.01, 0.99), st.floats(0.1, 50))
def test_bounds_of_a_cost_hold_it(extra, base, gain, below, above):
    found = cost(base + extra, base, Estimate(gain, gain * below, gain + above))
    assert found.per_point.low <= found.per_point.value <= found.per_point.high
    assert math.isfinite(found.per_point.high)


def test_lines_carry_costs_of_the_cells_they_are_over():
    made = [
        r.model_copy(update={"train": TrainingCost(tokens=100 * (1 + r.cell.seed), seconds=1.0)})
        for r in fakes.records(TASKS)
    ]
    # A cell that is not in the table, as the others lack its seed, does not count.
    made.append(fakes.record(TASKS[0], fakes.THREE[1], 9, train={"tokens": 10**6, "seconds": 1.0}))
    lines = {line.method: line for line in analysed(made).lines}
    assert lines["better"].costs["tokens"].mean == 200
    assert lines["better"].costs["teacher_tokens"].mean is None
    assert lines["base"].costs["tokens"].said == ""
