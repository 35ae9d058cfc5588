"""Throughput ratios, and how long the statistics themselves take."""

from __future__ import annotations

import time

import fakes
import numpy as np
import pytest
from scipy import stats

from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.speed import Speed


def timed(laps_by_cell):
    """Return the cells of a table in which (method, task, seed) has these seconds per lap of 10 rows."""
    made = []
    for (method, task, seed), laps in laps_by_cell.items():
        base = fakes.record(fakes.FakeTask(task, 10 * len(laps)), fakes.FakeMethod(method), seed)
        timing = base.timing.model_copy(
            update={
                "laps": [(10.0, s) for s in laps],
                "seconds": sum(laps),
                "examples": 10 * len(laps),
                "qps": 10 * len(laps) / sum(laps),
            }
        )
        made.append(base.model_copy(update={"timing": timing}))
    return long_table(made).cells


def test_the_ratio_is_that_of_the_seconds_on_shared_cells():
    cells = timed(
        {
            ("a", "t", 0): [1.0, 1.0], ("b", "t", 0): [2.0, 2.0], ("a", "u", 0): [3.0], ("b", "u", 0): [5.0],
            ("a", "v", 0): [9.0],
        }
    )  # fmt: skip
    speed = Speed(cells)
    assert speed.ratio("a", "b", ["t", "u", "v"]).value == pytest.approx(9 / 5)
    assert speed.ratio("b", "a", ["t", "u", "v"]).value == pytest.approx(5 / 9)
    assert speed.qps("a", ["t", "u"]).value == pytest.approx(30 / 5)
    assert speed.qps("a", ["none"]) is None
    assert speed.ratio("a", "b", ["v"]) is None


def test_one_lap_of_one_seed_has_no_interval():
    found = Speed(timed({("a", "t", 0): [1.0], ("b", "t", 0): [2.0]})).ratio("a", "b", ["t"])
    assert found.value == pytest.approx(2)
    assert found.low is None


def test_the_variance_of_a_cell_is_that_of_a_bootstrap_over_its_laps():
    rng = np.random.default_rng(0)
    laps = list(rng.gamma(20, 0.05, 15))
    found = Speed(timed({("a", "t", 0): laps, ("b", "t", 0): [1.0]})).ratio("a", "b", ["t"])
    theirs = stats.bootstrap((np.array(laps),), lambda x, axis: np.log(x.sum(axis=axis)), n_resamples=20_000, rng=rng)
    assert found.se == pytest.approx(theirs.standard_error * np.sqrt(15 / 14), rel=0.03)


def test_intervals_of_ratios_hold_the_truth():
    rng = np.random.default_rng(0)
    for spread_between, name in ((0.0, "laps only"), (0.1, "runs differ")):
        hits = 0
        for _ in range(200):
            cells = {}
            for method, pace in (("a", 0.1), ("b", 0.3)):
                for task in ("t", "u", "v"):
                    for seed in range(3):
                        run = pace * np.exp(rng.normal(0, spread_between))
                        cells[method, task, seed] = list(run * np.exp(rng.normal(0, 0.2, 12) - 0.02))
            found = Speed(timed_fast(cells)).ratio("a", "b", ["t", "u", "v"])
            hits += found.low <= 3 <= found.high
        assert 0.90 <= hits / 200 <= 0.99, name


def test_few_seeds_of_few_tasks_are_pooled():
    """Two seeds of two tasks, runs that differ by 5 %: Monte-Carlo band of 95 % in 400 is 92.5-97."""
    rng = np.random.default_rng(1)
    hits, widths = 0, []
    for _ in range(400):
        cells = {}
        for method, pace in (("a", 0.1), ("b", 0.3)):
            for task in ("t", "u"):
                for seed in range(2):
                    run = pace * np.exp(rng.normal(0, 0.05))
                    cells[method, task, seed] = list(run * np.exp(rng.normal(0, 0.01, 12)))
        found = Speed(timed_fast(cells)).ratio("a", "b", ["t", "u"])
        hits += found.low <= 3 <= found.high
        widths.append(found.high / found.low)
    assert 0.925 <= hits / 400 <= 0.97
    assert np.quantile(widths, 0.9) < 2


def test_one_run_is_as_sure_as_its_laps_and_two_as_their_difference():
    rng = np.random.default_rng(3)
    laps = {(m, "t", s): list(rng.gamma(20, 0.05, 15)) for m in "ab" for s in (0, 1)}
    one = Speed(timed_fast({key: value for key, value in laps.items() if key[2] == 0})).ratio("a", "b", ["t"])
    two = Speed(timed_fast(laps)).ratio("a", "b", ["t"])
    logs = [np.log(sum(laps["b", "t", s]) / sum(laps["a", "t", s])) for s in (0, 1)]
    assert two.se == pytest.approx(np.std(logs, ddof=1) / 2**0.5)
    assert two.df == 1
    assert one.df == pytest.approx(14)


def timed_fast(cells):
    import pandas as pd

    rows = [
        {"method": m, "task": t, "seed": s, "examples": 10.0 * len(laps), "seconds": sum(laps),
         "laps": [(10.0, lap) for lap in laps]}
        for (m, t, s), laps in cells.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_a_full_grid_takes_seconds_and_little_memory():
    import resource

    methods = [*fakes.THREE, *(fakes.FakeMethod(f"m{i}", 0.78 + 0.01 * i) for i in range(7))]
    table = fakes.table(fakes.FULL, methods, range(5))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    chosen = select(table, groups(table)[0])
    found = analyse_selection(chosen, resamples=10_000)
    seconds = time.perf_counter() - start
    assert len(found.lines) == 10
    assert seconds < 5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6 < 1.0
