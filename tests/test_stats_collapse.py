"""Seeds that collapsed to a single answer: which are called so, and where that is said."""

from __future__ import annotations

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import task

from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.collapse import collapsed
from dhrd_bench.stats.design import ABSENT
from dhrd_bench.stats.simulate import SUPERGLUE, Skill, simulate

LABELS = np.arange(60) % 2


def answers(right, seed=0):
    """Answer a share of the rows right."""
    return np.where(np.random.default_rng(seed).random(60) < right, LABELS, 1 - LABELS)


def found(*methods, labels=LABELS, classes=2):
    return collapsed(task(labels, np.array(methods), ["accuracy"], classes)).tolist()


@pytest.mark.parametrize("answer", [0, 1, -1])
def test_one_seed_of_one_answer_among_others_has_collapsed(answer):
    constant = np.full(60, answer)
    nearly = constant.copy()
    nearly[0] = 1 - max(answer, 0)
    runs = [answers(0.8, 1), constant, nearly, answers(0.7, 2)]
    assert found(runs) == [[False, True, True, False]]


def test_a_method_that_always_gives_one_answer_has_not():
    assert found([np.zeros(60)] * 3) == [[False] * 3]
    assert found([np.zeros(60), np.ones(60), np.zeros(60)]) == [[False] * 3]
    assert found([np.zeros(60)]) == [[False]]


def test_what_lies_between_is_neither():
    leaning = np.where(np.arange(60) < 54, 0, 1)  # a tenth of the rows, a fifth of those labelled 1
    assert found([answers(0.8), leaning]) == [[False, False]]
    assert found([leaning, np.zeros(60)]) == [[False, False]]  # no seed shows that the method can do better


def test_labels_of_nearly_one_class_show_nothing():
    labels = (np.arange(60) < 9).astype(int)
    assert found([labels, np.zeros(60)], labels=labels) == [[False, False]]


def test_a_seed_that_is_not_there_is_no_answer():
    assert found([np.full(60, ABSENT), answers(0.8), np.zeros(60)]) == [[False, False, True]]


@given(st.integers(0, 10**6), st.sampled_from(SUPERGLUE[1:3] + SUPERGLUE[4:]), st.floats(0.6, 0.97))
def test_sound_seeds_are_never_called_collapsed(seed, shape, rate):
    drawn = simulate(shape, (Skill((rate,), 0.3),), 5, np.random.default_rng(seed))
    assert not collapsed(drawn).any()


def with_collapsed(method, seed):
    """Return records in which one seed of one method answers 0 to every row of beta."""
    return [
        fakes.with_rows(r, prediction=[0] * len(r.rows.id))
        if (r.cell.method, r.cell.task, r.cell.seed) == (method, "beta", seed)
        else r
        for r in fakes.records(seeds=range(4))
    ]


def test_a_report_marks_and_names_collapsed_seeds():
    board = analyse(long_table(with_collapsed("better", 2)), resamples=200)
    lines = {line.method: line for line in board.boards[0].analysis.lines}
    assert [task.collapsed for task in lines["better"].tasks] == [(), (2,), ()]
    assert not any(task.collapsed for name in ("base", "slow") for task in lines[name].tasks)
    page = board.render("markdown")
    assert "unlike other seeds of the same method: better on beta (seed 2)." in page
    row = next(line for line in page.partition("### Score by task")[2].splitlines() if line.startswith("| better"))
    assert ["†" in cell for cell in row.strip("| ").split(" | ")] == [False, False, True, False]
    ranked = page.partition("### Leaderboard")[2].partition("###")[0]
    assert [line.count("†") for line in ranked.splitlines() if "| better |" in line] == [1]
    assert "† some of its seeds collapsed" in ranked
    assert r"\textdagger{}" in board.render("latex")
    assert ",beta,collapsed_seeds,1," in board.render("csv")


def test_without_a_collapse_nothing_is_said():
    page = analyse(fakes.table(), resamples=200).render("markdown")
    assert "†" not in page
    assert "ollapsed" not in page
