"""What must hold whatever the data."""

from __future__ import annotations

import dataclasses

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.design import Group
from dhrd_bench.stats.selection import select

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
                    del versus["detectable"]  # after the correction, too
        assert same(ours, theirs)
    assert same(after["r"].score, after["copy"].score)


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
