"""Which rows a cell sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhrd_bench.contracts import Budget, Example
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import LoadedTask, Suite, seeded_order

TASKS = st.sampled_from(["CB", "COPA", "MultiRC", "RTE"])
LIMIT = st.one_of(st.none(), st.integers(1, 150))


@cache
def load(task: str, prompt: str) -> LoadedTask:
    return Suite.named("mini7").load(task, prompt=prompt)


@settings(deadline=None, max_examples=60)
@given(TASKS, st.sampled_from(["native", "paper"]), LIMIT, st.integers(0, 60), LIMIT, st.integers(0, 3))
def test_splits_keep_their_promises(
    task: str, prompt: str, train_rows: int | None, dev_rows: int, test_rows: int | None, seed: int
) -> None:
    loaded = load(task, prompt)
    budget = Budget(name="b", train_rows=train_rows, dev_rows=dev_rows, test_rows=test_rows)
    data, test = split(loaded, budget, seed)
    rows = {example.example.id: row for row in loaded.train for example in row.examples}
    train = list(dict.fromkeys(rows[each.example.id].id for each in data.train))
    dev = list(dict.fromkeys(rows[each.example.id].id for each in data.dev))
    by_id = {row.id: row for row in loaded.train}

    assert data.card is loaded.card
    assert len(data.train) == len(train) * test.candidates  # all instances of a row are together
    assert len(data.dev) == len(dev) * test.candidates
    assert len(train) <= (train_rows or len(loaded.train))
    assert len(dev) <= min(dev_rows, len(loaded.train) // 3)
    assert not {by_id[each].cluster for each in train} & {by_id[each].cluster for each in dev}
    classes = {row.label for row in loaded.train}
    if len(train) >= len(classes):
        assert {by_id[each].label for each in train} == classes

    groups = test.groups or test.ids
    whole = Counter(loaded.test.groups or loaded.test.ids)
    assert Counter(groups) == {group: whole[group] for group in groups}
    assert len(test) <= (test_rows or len(loaded.test)) or len(set(groups)) == 1
    assert test.examples == tuple(each for each in loaded.test.examples if each.id.split(":")[0] in set(test.ids))
    assert all(type(example) is Example for example in test.examples)


@settings(deadline=None, max_examples=20)
@given(TASKS, LIMIT, LIMIT, st.integers(0, 5), st.integers(0, 5))
def test_test_rows_do_not_depend_on_the_seed_and_grow_with_the_budget(
    task: str, one: int | None, other: int | None, seed: int, another: int
) -> None:
    small, large = sorted((one or 10**6, other or 10**6))
    first, again, more = (
        split(load(task, "native"), Budget(name="b", test_rows=rows), number)[1]
        for rows, number in ((small, seed), (small, another), (large, seed))
    )
    assert first == again
    assert set(first.ids) <= set(more.ids)


def test_same_seed_same_rows_in_the_same_order_another_seed_others() -> None:
    budget = Budget(name="b", train_rows=40)
    one, same, other = (split(load("RTE", "native"), budget, seed)[0] for seed in (0, 0, 1))
    assert one == same
    assert [row.example.id for row in one.train] != [row.example.id for row in other.train]
    assert {row.example.id for row in one.dev} != {row.example.id for row in other.dev}


def test_prompts_of_a_task_are_paired() -> None:
    """The same rows are drawn under either prompt, so that prompts can be compared."""
    budget = Budget(name="b", train_rows=30, test_rows=20)
    (native, test_n), (paper, test_p) = (split(load("COPA", prompt), budget, 0) for prompt in ("native", "paper"))
    assert [row.example.id for row in native.train] == [row.example.id.split(":")[0] for row in paper.train[::2]]
    assert test_n.ids == test_p.ids


def without_rationales(loaded: LoadedTask, keep: int) -> LoadedTask:
    bare = [
        replace(row, rationale=None, examples=tuple(replace(each, rationale=None) for each in row.examples))
        for row in loaded.train[keep:]
    ]
    return replace(loaded, train=(*loaded.train[:keep], *bare))


def test_only_rows_with_a_rationale_are_trained_on_if_the_budget_says_so() -> None:
    half = without_rationales(load("RTE", "native"), 60)
    data, _ = split(half, Budget(name="b"), 0)
    assert all(row.rationale for row in data.train + data.dev)
    assert len(data.train) + len(data.dev) == 60
    data, _ = split(half, Budget(name="b", require_rationale=False), 0)
    assert len(data.train) + len(data.dev) == 120


def test_a_task_without_rationales_keeps_its_rows() -> None:
    data, _ = split(without_rationales(load("RTE", "native"), 0), Budget(name="b"), 0)
    assert len(data.train) + len(data.dev) == 120


@given(st.lists(st.text(max_size=5), unique=True), st.lists(st.text(max_size=5)), st.integers(0, 99))
def test_the_order_of_two_names_does_not_depend_on_the_others(names: list[str], more: list[str], seed: int) -> None:
    order = seeded_order(names + more, seed)
    assert [name for name in order if name in set(names)] == seeded_order(names, seed)


def test_the_draw_is_pinned() -> None:
    """Golden: a changed draw would silently unpair new records from old ones."""
    assert seeded_order([str(n) for n in range(6)], 0) == ["1", "5", "2", "0", "3", "4"]


@pytest.mark.parametrize("seed", [0, 1])
def test_one_row_is_enough(seed: int) -> None:
    loaded = load("RTE", "native")
    data, _ = split(replace(loaded, train=loaded.train[:1]), Budget(name="b"), seed)
    assert (len(data.train), len(data.dev)) == (1, 0)
