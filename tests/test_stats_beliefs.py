"""The hierarchical model."""

from __future__ import annotations

import fakes
import numpy as np
import pytest
from scipy import stats

from dhrd_bench.results.table import long_table
from dhrd_bench.stats.beliefs import Belief, evidence_of, hierarchical
from dhrd_bench.stats.hierarchy import TAU_SCALE, Evidence, sample
from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.simulate import SUPERGLUE, Skill, simulate_grid
from dhrd_bench.stats.suite import SuiteScores
from dhrd_bench.stats.validate_further import run


def suite(seeds=(0, 1, 2), tasks=fakes.SMALL):
    table = fakes.table(tasks, seeds=seeds)
    return SuiteScores.of(select(table, groups(table)[0]).grid, 400, 0)


def test_the_sampler_finds_the_posterior_that_quadrature_finds():
    # With endlessly many seeds the seed variances are known, and tau is all that has to be integrated over.
    d, v = np.array([2.0, 0.5, 1.0, 4.0, -1.0]), np.array([1.0, 4.0, 0.5, 2.0, 3.0])
    endless = np.full(5, 1e6)
    theta, mu, tau = sample(Evidence(d, v, np.full(5, 1.0), endless), 1)
    grid = np.geomspace(1e-3, 200, 20_000)
    weight = stats.halfcauchy.pdf(grid, scale=TAU_SCALE) * np.gradient(grid)
    spread = v + grid[:, None] ** 2
    precision = (1 / spread).sum(axis=1)
    centre = (d / spread).sum(axis=1) / precision
    likelihood = np.exp(-((d - centre[:, None]) ** 2 / spread).sum(axis=1) / 2) / np.sqrt(spread.prod(axis=1))
    weight = weight * likelihood / np.sqrt(precision)
    weight /= weight.sum()
    shrunk = (d * grid[:, None] ** 2 + centre[:, None] * v) / spread
    assert mu.mean() == pytest.approx(weight @ centre, abs=0.05)
    assert theta.mean(axis=0) == pytest.approx(weight @ shrunk, abs=0.06)
    assert np.median(tau) == pytest.approx(np.interp(0.5, np.cumsum(weight), grid), rel=0.06)
    below = weight @ stats.norm.cdf((1 - centre) * np.sqrt(precision))
    assert (mu < 1).mean() == pytest.approx(below, abs=0.02)


def test_one_task_without_others_has_the_t_interval_or_a_wider_one():
    theta, _, _ = sample(Evidence(np.array([3.0]), np.array([1e-6]), np.array([4.0]), np.array([10.0])), 2)
    low, high = np.quantile(theta, [0.025, 0.975])
    half = stats.t.isf(0.025, 9) * 2 / np.sqrt(10)
    assert (low, high) == pytest.approx((3 - half, 3 + half), abs=0.2)


def test_a_tasks_seed_variance_borrows_from_the_others_and_an_odd_one_keeps_its_own():
    apart, known = np.arange(8) * 20.0, np.full(8, 0.01)  # differences so unlike that they are not shrunk
    lucky = Evidence(apart, known, np.array([1e-4, *[4.0] * 7]), np.full(8, 2.0))
    among = sample(lucky, 3)[0][:, 0]
    alone = sample(Evidence(apart[:1], known[:1], np.array([1e-4]), np.array([2.0])), 3)[0][:, 0]
    assert among.std() > 4 * alone.std(), "two seeds that happen to agree"
    odd = Evidence(apart, known, np.array([400.0, *[0.04] * 7]), np.full(8, 10.0))
    spread = sample(odd, 3)[0].std(axis=0)
    assert spread[0] == pytest.approx(np.sqrt(400 / 10), rel=0.2)
    assert spread[1:] == pytest.approx(np.sqrt(0.04 / 10 + 0.01), rel=0.2)


def test_probabilities_are_shares_and_a_wider_margin_makes_more_the_same():
    measured = suite()
    base = measured.methods.index("base")
    narrow, wide = ({h.method: h for h in hierarchical(measured, base, margin, 0)} for margin in (1.0, 20.0))
    assert set(narrow) == set(measured.methods) - {"base"}
    for one, other in ((narrow[name], wide[name]) for name in narrow):
        for belief in (one.suite, *one.tasks.values(), one.new_task):
            assert belief.better + belief.same + belief.worse == pytest.approx(1)
            assert belief.difference.low < belief.difference.value < belief.difference.high
        assert other.suite.same > one.suite.same
        assert one.suite.margin == pytest.approx(measured.mean(base) / 100)
    assert narrow["better"].suite.better > narrow["slow"].suite.better
    assert narrow["slow"].suite.worse > 0.5
    assert hierarchical(measured, base, None, 0)[0].suite.same == 0


def test_no_margin_is_below_nothing():
    """A Matthews correlation can be below 0, and a share of it then is no margin."""
    tasks = [fakes.FakeTask(name, 80, ("matthews_correlation",)) for name in ("one", "another")]
    worse = [fakes.FakeMethod("base", 0.2, role="baseline"), fakes.FakeMethod("other", 0.3)]
    table = fakes.table(tasks, worse)
    measured = SuiteScores.of(select(table, groups(table)[0]).grid, 400, 0)
    assert measured.mean(0) < 0
    (found,) = hierarchical(measured, 0, 5.0, 0)
    for belief in (found.suite, *found.tasks.values()):
        assert (belief.margin, belief.same) == (0, 0)
        assert belief.better + belief.worse == pytest.approx(1)


def test_methods_that_share_no_seed_of_a_task_have_no_beliefs_of_each_other():
    made = [r for r in fakes.records(seeds=range(4))
            if r.cell.method == "base" or (r.cell.seed < 2) == (r.cell.method == "better")]  # fmt: skip
    table = long_table(made)
    measured = SuiteScores.of(select(table, groups(table)[0]).grid, 200, 0)
    assert measured.methods == ("base", "better", "slow")
    assert evidence_of(measured, 1, 2) is None
    assert [found.method for found in hierarchical(measured, 0, 1.0, 0)] == ["better", "slow"]


def test_beliefs_depend_on_the_random_seed_alone_and_not_on_the_other_methods():
    measured = suite()
    base = measured.methods.index("base")
    assert hierarchical(measured, base, 1.0, 0) == hierarchical(measured, base, 1.0, 0)
    assert hierarchical(measured, base, 1.0, 0) != hierarchical(measured, base, 1.0, 1)
    table = fakes.table(methods=fakes.THREE[:2])
    alone = SuiteScores.of(select(table, groups(table)[0]).grid, 400, 0)
    found = {h.method: h for h in hierarchical(measured, base, 1.0, 0)}
    assert hierarchical(alone, 0, 1.0, 0)[0].suite.better == pytest.approx(found["better"].suite.better, abs=1e-6)


def test_one_seed_has_no_beliefs_and_two_tasks_no_new_one():
    single = suite(seeds=(0,))
    assert hierarchical(single, single.methods.index("base"), 1.0, 0) == []
    two = suite(tasks=fakes.SMALL[:2])
    assert all(h.new_task is None for h in hierarchical(two, two.methods.index("base"), 1.0, 0))


def test_the_evidence_has_the_variance_of_the_tests():
    measured = suite(seeds=(0, 1, 2, 3, 4))
    evidence = evidence_of(measured, 1, 0)
    unit = np.eye(3)
    for t in measured.every:
        total = measured.variance({t: unit[1] - unit[0]}).total
        part = measured.tasks[t].part(unit[1] - unit[0])
        # That of the tests, but that seeds that agree beyond a row's luck are not taken at their word.
        more = max(0.0, part.floor - max(part.square, part.interaction)) / 5
        assert evidence.examples[t] + evidence.square[t] / 5 == pytest.approx(total + more, rel=0.01)
        assert evidence.value[t] == pytest.approx(measured.difference(1, 0, [t]).value)


@pytest.mark.slow
def test_beliefs_are_calibrated_under_the_model():
    entries = run(400, ["beliefs"])
    for (what, wanted), entry in entries.items():
        low, high = entry.band()
        least, most = [float(end) for end in (wanted.split("-") if "-" in wanted else (wanted, wanted))]
        assert low <= most, (what, entry)
        assert high >= least, (what, entry)
    assert sum("P(better)" in what for what, _ in entries) >= 6


def test_without_a_difference_few_are_believed_in_and_with_one_many():
    rng, trials = np.random.default_rng(4), 30
    believed = {0.0: 0, 4.0: 0}
    for true in believed:
        for number in range(trials):
            examples, seeds = rng.uniform(0.5, 9, 7), 3
            value = true + rng.normal(size=7) * np.sqrt(examples + 2 / seeds)
            square = 2 * rng.chisquare(seeds - 1, 7) / (seeds - 1)
            draws = sample(Evidence(value, examples, square, np.full(7, 3.0)), number)[0].mean(axis=1)
            belief = Belief.of(draws, 0.0)
            believed[true] += max(belief.better, belief.worse) >= 0.975
    assert stats.binomtest(believed[0.0], trials, 0.05, alternative="greater").pvalue > 0.01
    assert believed[4.0] > 0.9 * trials


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3])
def test_equals_are_hardly_ever_believed_to_differ(seeds):
    shapes = tuple(shape for shape in SUPERGLUE if shape.rows < 1000)
    skill, wrong = Skill((0.8,), 0.3), 0
    for number in range(60):
        grid = simulate_grid(shapes, (skill, skill), seeds, np.random.default_rng(number))
        belief = hierarchical(SuiteScores.of(grid, 200, number), 0, None, 0)[0].suite
        wrong += max(belief.better, belief.worse) >= 0.975
    assert stats.binomtest(wrong, 60, 0.05, alternative="greater").pvalue > 0.01
