"""Records that something else wrote, or that say what cannot be: a sentence each, and no traceback."""

from __future__ import annotations

import math
import warnings

import fakes
import numpy as np
import pytest

from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.selection import groups, select


def changed(update, method="better", task="alpha", seed=0, seeds=(0, 1), **more):
    """Return records of which one cell is changed."""
    made = fakes.records(seeds=seeds, **more)
    here = (method, task, seed)
    return [update(r) if (r.cell.method, r.cell.task, r.cell.seed) == here else r for r in made]


def analysed(made, **options):
    table = long_table(made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = analyse_selection(select(table, groups(table)[0]), resamples=100, **options)
        analyse(table, resamples=100).render("markdown")
    return found


def rows_with(**columns):
    return lambda r: r.model_copy(update={"rows": r.rows.model_copy(update=columns)})


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (rows_with(id=[], label=[], prediction=[], cluster=None, group=None), "no test row"),
        (lambda r: r.model_copy(update={"rows": None}), "no test row"),
        (lambda r: rows_with(prediction=[9, *r.rows.prediction[1:]])(r), "none of the task's classes"),
        (lambda r: rows_with(label=[-3, *r.rows.label[1:]])(r), "none of the task's classes"),
    ],
)
def test_a_cell_that_cannot_be_used_is_left_out_and_named(update, said):
    found = analysed(changed(update))
    assert any(note.startswith("better on alpha, seed 0, left out") and said in note for note in found.notes)
    alpha = next(task for task in found.selection.grid.tasks if task.name == "alpha")
    assert alpha.present.tolist() == [[True, True], [False, True], [True, True]]
    better = next(line for line in found.lines if line.method == "better")
    assert better.tasks[0].seeds == 1
    assert any(note.startswith("One seed of better on alpha: ") for note in found.notes)


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_metric_that_is_no_number_is_not_ranked_first(value):
    info = {"metrics": ["evaluate:odd"]}
    made = [
        r.model_copy(update={"task": r.task.model_copy(update=info), "metrics": {"evaluate:odd": 50.0}})
        for r in fakes.records(seeds=(0,))
    ]
    metrics = {} if value is None else {"evaluate:odd": value}
    made = [r.model_copy(update={"metrics": metrics}) if r.cell.method == "slow" else r for r in made]
    found = analysed(made)
    assert [line.method for line in found.lines if line.ranked] == ["base", "better"]
    assert any("evaluate:odd is no number" in note for note in found.notes)


def test_a_record_that_contradicts_its_rows_is_named():
    found = analysed(changed(lambda r: r.model_copy(update={"metrics": dict.fromkeys(r.metrics, 12.3)})))
    said = [note for note in found.notes if "its record says 12.3" in note]
    assert len(said) == 1
    assert "the rows count" in said[0]
    assert not any("its record says" in note for note in analysed(fakes.records()).notes)


def test_a_cell_that_is_not_there_contradicts_nothing():
    made = fakes.records()
    gone = [r for r in made if (r.cell.method, r.cell.task, r.cell.seed) != ("better", "beta", 1)]
    found = analysed(gone)
    assert any("beta (seeds 1)" in note for note in found.notes)
    assert not any("its record says" in note for note in found.notes)


def test_no_time_is_no_throughput():
    def still(r):
        return r.model_copy(update={"timing": r.timing.model_copy(update={"seconds": 0.0, "laps": [], "qps": 0.0})})

    made = [still(r) if r.cell.method == "better" else r for r in fakes.records()]
    better = next(line for line in analysed(made).lines if line.method == "better")
    assert better.qps is None
    assert better.qps_ratio is None


def test_nothing_printed_is_impossible():
    tiny = fakes.FakeTask("tiny", 2)
    methods = (fakes.FakeMethod("base", 0.5, role="baseline"), fakes.FakeMethod("other", 0.9))
    found = analysed(fakes.records((tiny,), methods, (0, 1)), margin=5.0)
    for line in found.lines:
        assert 0 <= line.score.low <= line.score.high <= 100
        if line.versus:
            assert -100 <= line.versus.difference.low <= line.versus.difference.high <= 100
            assert line.versus.detectable is None or line.versus.detectable <= 100
            assert line.versus.gain is None or line.versus.gain.low >= -100


def test_one_seed_shows_no_equivalence():
    found = analysed(fakes.records(seeds=(0,)), margin=50.0)
    assert all(line.equivalence == {} for line in found.lines)
    assert any("No test of equivalence" in note for note in found.notes)


def test_many_methods_take_little_memory():
    import tracemalloc

    methods = [fakes.FakeMethod("base", 0.7, role="baseline")]
    methods += [fakes.FakeMethod(f"m{i}", 0.6 + 0.2 * np.cos(i)) for i in range(59)]
    table = fakes.table(fakes.SMALL[:1], methods, (0,))
    chosen = select(table, groups(table)[0])
    tracemalloc.start()
    found = analyse_selection(chosen, resamples=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.lines) == 60
    assert peak < 150e6  # 1,770 pairs x 2,000 resamples at once would be 28 MB an array, 200 methods 3 GB
