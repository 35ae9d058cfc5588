"""Comparisons on slices of a task's rows."""

from __future__ import annotations

import fakes
import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from dhrd_bench.stats.selection import groups, select
from dhrd_bench.stats.simulate import SUPERGLUE, Skill, simulate_grid
from dhrd_bench.stats.slices import by_label, sliced, slices

MIXED = simulate_grid(
    (SUPERGLUE[4], SUPERGLUE[5]), (Skill((0.8, 0.8), 0.05), Skill((0.8, 0.95), 0.05)), 3, np.random.default_rng(0)
)


def test_a_slice_is_scored_on_its_rows_alone():
    for found in slices(MIXED, "m0", 300, 0):
        task = next(task for task in MIXED.tasks if task.name == found.task)
        rows = task.labels == int(found.slice)
        right = task.predictions[:, :, rows] == task.labels[rows]
        assert found.rows == rows.sum()
        assert found.accuracy.value == pytest.approx(100 * right[1].mean())
        assert found.difference.value == pytest.approx(100 * (right[1].mean() - right[0].mean()))
        assert found.difference.low < found.difference.value < found.difference.high


def test_a_gain_on_one_class_is_found_there_and_nowhere_else():
    found = {(one.task, one.slice): one.test.significant for one in slices(MIXED, "m0", 2000, 0)}
    assert found == {("rte", "0"): False, ("rte", "1"): True, ("wic", "0"): False, ("wic", "1"): True}


def test_the_correction_is_holms_over_all_slices_and_methods():
    table = fakes.table()
    found = slices(select(table, groups(table)[0]).grid, "base", 500, 0)
    assert len(found) == 2 * (3 + 2 + 2)
    adjusted = multipletests([one.test.p for one in found], method="holm")[1]
    assert [one.test.adjusted for one in found] == pytest.approx(list(adjusted))


def test_any_column_slices_and_texts_are_kept_together():
    table = fakes.table(tasks=fakes.SMALL[2:])
    grid = select(table, groups(table)[0]).grid
    task = grid.tasks[0]
    quarters = [f"quarter {4 * row // len(task.labels)}" for row in range(len(task.labels))]
    parts = sliced(task, quarters)
    assert sum(len(part.labels) for part in parts.values()) == len(task.labels)
    assert [part.n_clusters for part in parts.values()] == [3, 3, 3, 3], "ten texts of twelve rows, cut in four"
    found = slices(grid, "base", 300, 0, column=lambda task: quarters)
    assert [one.slice for one in found if one.method == "better"] == sorted(set(quarters))
    assert by_label(task) == [task.info.labels[label] for label in task.labels]


def test_a_slice_of_one_row_decides_nothing():
    grid = simulate_grid((SUPERGLUE[2],), (Skill((0.6,), 0.1), Skill((0.9,), 0.1)), 3, np.random.default_rng(1))
    alone = ["one", *["rest"] * (len(grid.tasks[0].labels) - 1)]
    found = {one.slice: one for one in slices(grid, "m0", 500, 0, column=lambda task: alone)}
    assert found["one"].rows == 1
    assert found["one"].difference.low is None
    assert not found["one"].test.decidable
    assert found["rest"].test.significant


def test_equals_are_hardly_ever_told_apart_on_any_slice():
    shapes = tuple(shape for shape in SUPERGLUE if shape.rows < 1000)
    skill, wrong = Skill((0.8,), 0.2), 0
    for number in range(60):
        grid = simulate_grid(shapes, (skill, skill, skill), 3, np.random.default_rng(number))
        wrong += any(one.test.significant for one in slices(grid, "m0", 300, number))
    assert wrong <= 7  # 5 % of 60 are 3; more than 7 would come once in a hundred times
