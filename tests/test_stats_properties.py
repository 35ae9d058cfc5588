"""What must hold whatever the data."""

from __future__ import annotations

import dataclasses

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import with_scores

from dhrd_bench.report.asked import asked
from dhrd_bench.report.board import Board
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.design import Grid, Group
from dhrd_bench.stats.pairwise import SuiteFlips, compare, shown_better
from dhrd_bench.stats.selection import select
from dhrd_bench.stats.significance import SUITE, crossed_p, holm, pair_differences, sign_flips
from dhrd_bench.stats.suite import SuiteScores

TASKS = (
    fakes.FakeTask("alpha", 24, ("f1_macro", "accuracy"), classes=3),
    fakes.FakeTask("gamma", 36, ("f1a", "exact_match"), per_cluster=6, per_group=3),
)


def analysed(made):
    return analyse_selection(select(long_table(made), Group("fake", "tiny", "smoke")), resamples=200, margin=5)


def made_records(accuracies, seeds):
    methods = [
        fakes.FakeMethod(name, accuracy, role=role)
        for name, role, accuracy in zip("pqrs", ("baseline", "reference", "method", "method"), accuracies, strict=False)
    ]
    return fakes.records(TASKS, methods, range(seeds))


def renamed(record, names):
    name = names.get(record.cell.method, record.cell.method)
    return record.model_copy(update={"cell": record.cell.model_copy(update={"method": name})})


def figures(line, names=None):
    """Return everything said of a method, but for its name and those of others."""
    body = dataclasses.asdict(line)
    del body["method"]
    body["equivalence"] = list(body["equivalence"].values())
    return body


def same(one, other):
    """Compare nested figures; tiny differences of rounding are none."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-9, abs=1e-9)
    return one == other


accuracies = st.lists(st.sampled_from([0.5, 0.7, 0.8, 0.9, 1.0]), min_size=3, max_size=4)


@settings(max_examples=15, deadline=None)
@given(accuracies, st.integers(1, 3), st.permutations("wxyz"), st.randoms())
def test_names_and_order_of_methods_and_records_change_nothing(levels, seeds, names, random):
    made = made_records(levels, seeds)
    table = dict(zip("pqrs", names, strict=True))
    other = [renamed(record, table) for record in made]
    random.shuffle(other)
    first = {line.method: line for line in analysed(made).lines}
    second = {line.method: line for line in analysed(other).lines}
    for old, new in table.items():
        if old in first:
            ours, theirs = figures(first[old]), figures(second[new])
            if len({line.score.value for line in first.values()}) < len(first):
                # Equal scores are ordered by name, and with them the letters.
                ours["tied"] = theirs["tied"] = ""
            assert same(ours, theirs)


@settings(max_examples=15, deadline=None)
@given(accuracies, st.integers(1, 3))
def test_identical_methods_have_no_gain_and_a_p_of_one(levels, seeds):
    made = made_records(levels, seeds)
    copies = [renamed(record, {"p": "copy"}) for record in made if record.cell.method == "p"]
    copies = [r.model_copy(update={"method": r.method.model_copy(update={"role": "method"})}) for r in copies]
    line = next(line for line in analysed([*made, *copies]).lines if line.method == "copy")
    assert line.versus.gain.value == 0
    assert line.versus.difference.value == 0
    assert line.versus.difference.low < 0 < line.versus.difference.high  # nothing seen is not nothing there
    assert line.versus.test.p == line.versus.test.adjusted == 1
    assert line.versus.flips == 1
    for task in line.tasks:
        assert task.versus.gain.value == 0
        assert task.versus.test.p == 1


@settings(max_examples=15, deadline=None)
@given(accuracies, st.integers(1, 3))
def test_a_copy_of_a_method_changes_the_others_by_the_correction_only(levels, seeds):
    made = made_records(levels, seeds)
    copies = [renamed(record, {"r": "copy"}) for record in made if record.cell.method == "r"]
    before = {line.method: line for line in analysed(made).lines}
    after = {line.method: line for line in analysed([*made, *copies]).lines}
    for name, line in before.items():
        ours, theirs = figures(line), figures(after[name])
        for body in (ours, theirs):
            for key in ("rank", "tied"):
                del body[key]
            for versus in (body["versus"], *(task["versus"] for task in body["tasks"])):
                if versus and versus["test"]:
                    for key in ("adjusted", "decidable"):
                        del versus["test"][key]
                if versus:
                    del versus["detectable"], versus["needed"]  # after the correction, too
        assert same(ours, theirs)
    assert same(dataclasses.asdict(after["r"].score), dataclasses.asdict(after["copy"].score))


def comparison(line):
    """Return what is said of a method and of its comparison with the baseline, but for what all methods decide."""
    body = figures(line)
    for key in ("rank", "tied", "ranked"):  # joint statements
        del body[key]
    for versus in (body["versus"], *(task["versus"] for task in body["tasks"])):
        if versus:
            del versus["detectable"], versus["needed"]  # of the corrected test
            for key in ("adjusted", "decidable"):
                if versus["test"]:
                    del versus["test"][key]
    return body


def exactly(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(exactly(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(exactly(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-12, abs=1e-12)
    return one == other


@settings(max_examples=25, deadline=None)
@given(
    accuracies,
    st.integers(2, 4),
    st.lists(st.tuples(st.sampled_from([task.name for task in TASKS]), st.integers(0, 3)), min_size=1, max_size=4),
    st.booleans(),
)
def test_a_method_with_fewer_seeds_changes_no_figure_of_the_others(levels, seeds, gone, with_baseline):
    made = made_records(levels, seeds)
    if not with_baseline:
        made = [r.model_copy(update={"method": r.method.model_copy(update={"role": "method"})}) for r in made]
    late = fakes.records(TASKS, [fakes.FakeMethod("late", 0.77)], range(seeds))
    late = [record for record in late if (record.cell.task, record.cell.seed) not in gone]
    before = {line.method: line for line in analysed(made).lines}
    after = {line.method: line for line in analysed([*made, *late]).lines}
    for name, line in before.items():
        assert exactly(comparison(line), comparison(after[name]))


@settings(max_examples=15, deadline=None)
@given(accuracies, st.integers(0, 2), st.sampled_from(TASKS))
def test_a_method_with_fewer_seeds_is_compared_as_if_no_other_had_more(levels, seed, task):
    made = made_records(levels[:2] + levels[-1:], 3)
    short = [r for r in made if (r.cell.method, r.cell.task, r.cell.seed) != ("r", task.name, seed)]
    bare = [r for r in short if (r.cell.task, r.cell.seed) != (task.name, seed)]
    ours = next(line for line in analysed(short).lines if line.method == "r")
    theirs = next(line for line in analysed(bare).lines if line.method == "r")
    assert exactly(comparison(ours), comparison(theirs))


def asked_of(made, method):
    """Return what is asked next of a method, but for what all methods decide together."""
    table = long_table(made)
    found = asked(Board(analysed(made), table=table))
    del found["no_calibration"]
    parts = {name: [dataclasses.asdict(one) for one in all_ if one.method == method] for name, all_ in found.items()}
    for one in parts["slices"]:
        for key in ("adjusted", "decidable"):
            del one["test"][key]
    return parts


@settings(max_examples=8, deadline=None)
@given(accuracies, st.integers(2, 4), st.integers(0, 3), st.sampled_from(TASKS))
def test_what_is_asked_next_of_a_method_with_fewer_seeds_is_as_if_no_other_had_more(levels, seeds, seed, task):
    made = [with_scores(record) for record in made_records(levels[:2] + levels[-1:], seeds)]
    short = [r for r in made if (r.cell.method, r.cell.task, r.cell.seed) != ("r", task.name, seed % seeds)]
    bare = [r for r in short if (r.cell.task, r.cell.seed) != (task.name, seed % seeds)]
    ours, theirs = asked_of(short, "r"), asked_of(bare, "r")
    assert all(len(entries) > 0 for entries in ours.values())
    assert same(ours, theirs)


def test_pairs_of_methods_are_tested_on_the_seeds_that_both_have():
    """The test of all pairs at once is that of each pair by itself, whatever each of them lacks."""
    rng = np.random.default_rng(0)
    methods = [fakes.FakeMethod("base", 0.7, role="baseline")]
    methods += [fakes.FakeMethod(f"m{i}", 0.55 + 0.08 * i) for i in range(5)]
    made = [
        record
        for record in fakes.records((*TASKS, fakes.FakeTask("beta", 40)), methods, range(4))
        if record.cell.method == "base" or record.cell.seed < 2 or rng.random() < 0.5
    ]
    suite = SuiteScores.of(select(long_table(made), Group("fake", "tiny", "smoke")).grid, 300, 0)
    tasks = [scored.task for scored in suite.tasks]
    assert len({tuple(task.present.ravel()) for task in tasks}) == 3
    pairs = np.stack(np.triu_indices(6, 1), axis=1)
    found, flips = compare(suite), SuiteFlips(tasks, 300, 0).p(pairs)
    p = []
    for (i, j), flipped in zip(pairs, flips, strict=True):
        alone = SuiteScores.of(Grid(("i", "j"), tuple(bare(task, (i, j)) for task in tasks)), 300, 0)
        difference = alone.difference(0, 1)
        assert (found.value[i, j], found.se[i, j], found.df[i, j]) == pytest.approx(
            (difference.value, difference.se, difference.df), rel=1e-9
        )
        parts = {task.name: pair_differences(bare(task, (i, j)), [(0, 1)]) for task in tasks}
        assert flipped == pytest.approx(sign_flips(parts, 300, 0)[SUITE][0].p, rel=1e-9)
        p.append(max(flipped, crossed_p(difference)))
    expected = holm(np.array(p)) <= 0.05
    better = shown_better(suite, 300, 0)
    assert [bool(better[i, j] or better[j, i]) for i, j in pairs] == expected.tolist()
    assert 0 < expected.sum() < len(pairs)
    assert all(found.value[i, j] > 0 for i, j in zip(*np.nonzero(better), strict=True))


def bare(task, methods):
    """Return the task with two methods, as if no other seeds than those they share had been run."""
    taken, shared = task.take(methods), task.shared(list(methods))
    seeds = tuple(np.array(task.seeds)[shared].tolist())
    return dataclasses.replace(taken, seeds=seeds, predictions=taken.predictions[:, shared], given={})


def test_methods_that_share_no_seed_are_not_told_apart():
    methods = [fakes.FakeMethod("base", 0.7, role="baseline"), fakes.FakeMethod("x", 1.0), fakes.FakeMethod("y", 0.3)]
    made = [
        record
        for record in fakes.records(TASKS, methods, range(4))
        if record.cell.method == "base" or (record.cell.seed < 2) == (record.cell.method == "x")
    ]
    found = {line.method: line for line in analysed(made).lines}
    assert found["x"].score.value == 100
    assert set(found["x"].tied) & set(found["y"].tied)
    assert found["x"].versus.test.p < 1
    assert found["x"].rank == (1, 2) or found["x"].rank == (1, 3)


def test_the_seed_decides_everything():
    made = made_records([0.8, 0.7, 0.85], 2)
    table = select(long_table(made), Group("fake", "tiny", "smoke"))
    assert (
        analyse_selection(table, resamples=200, seed=1).lines == analyse_selection(table, resamples=200, seed=1).lines
    )
    one, other = (analyse_selection(table, resamples=200, seed=seed).lines[0].score for seed in (1, 2))
    assert one.value == other.value
    assert one.low != other.low
    assert np.isclose(one.low, other.low, atol=3)
