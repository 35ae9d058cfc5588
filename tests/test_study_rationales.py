"""Rows with and without rationales: which keep theirs, what that is part of, and what is said of it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import dhrd_bench as db
from dhrd_bench.contracts import Budget
from dhrd_bench.data.splits import split, with_share
from dhrd_bench.data.suite import LoadedTask, Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.grid.run import run_plan
from dhrd_bench.progress import Display
from dhrd_bench.request import RunRequest
from dhrd_bench.results.store import read_records

FAST = "smoke[train_rows=8,dev_rows=4,test_rows=8,epochs=1,tuning=top:1,max_length=96{more}]"
shares = st.floats(0, 1)


@cache
def rte() -> LoadedTask:
    return Suite.named("mini7").load("rte")


@cache
def asked_twice() -> LoadedTask:
    return Suite.named("mini7").load("copa")  # rows of two candidates


def having(task: LoadedTask, rows: int, share: float, seed: int) -> set[str]:
    """The train rows that have a rationale, by their suite's ids."""
    row_of = {each.example.id: row.id for row in task.train for each in row.examples}
    data, _ = split(task, Budget(name="b", train_rows=rows, dev_rows=0), seed)
    left = with_share(task, data, share, seed)
    assert [row.example for row in left.train] == [row.example for row in data.train]
    assert [row.label for row in left.train] == [row.label for row in data.train]
    kept = {row_of[row.example.id] for row in left.train if row.rationale is not None}
    lost = {row_of[row.example.id] for row in left.train if row.rationale is None}
    assert not kept & lost  # all candidates of a row, or none
    return kept


@settings(max_examples=30, deadline=None)
@given(shares, shares, st.integers(0, 5), st.integers(2, 40))
def test_rows_that_keep_their_rationale_are_nested_and_of_the_share(
    one: float, other: float, seed: int, rows: int
) -> None:
    few, many = (having(rte(), rows, share, seed) for share in sorted((one, other)))
    assert few <= many
    for share, kept in zip(sorted((one, other)), (few, many), strict=True):
        assert abs(len(kept) - share * rows) < 1
        assert bool(kept) == (round(share * rows, 6) > 0)


def test_which_rows_keep_theirs_depends_on_the_seed_and_candidates_stay_together() -> None:
    assert len({frozenset(having(rte(), 120, 0.25, seed)) for seed in range(4)}) == 4
    for share, count in ((0.7, 7), (0.5, 5), (0, 0), (1, 10)):
        assert len(having(asked_twice(), 10, share, 0)) == count


def plan(results: Path, methods: str = "pooled,dhrd", more: str = "", **changes: object) -> Plan:
    wanted = {"methods": methods, "tasks": "rte", "backbone": "tiny", "budget": FAST.format(more=more), "seeds": "1"}
    return make_plan(RunRequest.model_validate({"results": results, **wanted, **changes}))


def test_the_share_is_part_of_the_identity_of_those_that_read_rationales_alone(tmp_path: Path) -> None:
    whole, half, same = (plan(tmp_path, more=more) for more in ("", ",rationales=0.5", ",rationales=1"))
    for before, now, again in zip(whole.cells, half.cells, same.cells, strict=True):
        assert again.identity == before.identity
        assert (now.identity == before.identity) == (before.cell.method == "pooled")
        assert "kept" not in before.parts.hashed()
        assert "rationales" not in before.parts.budget
        assert now.parts.version == before.parts.version
    assert {cell.parts.kept for cell in half.cells} == {None, 0.5}


def test_a_method_of_rationales_is_not_run_without_any_unless_that_is_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No train row has a rationale.*RTE \(dhrd\)"):
        plan(tmp_path, more=",rationales=0")
    assert plan(tmp_path, more=",rationales=0", allow_missing_rationales=True).cells


def test_records_and_reports_say_how_many_rows_were_taught(tmp_path: Path) -> None:
    for more in ("", ",rationales=0.25"):
        wanted = plan(tmp_path, more=more)
        run_plan(wanted, Display(Console(quiet=True), 2))
    records, problems = read_records(tmp_path)
    assert not problems
    taught = {(each.cell.method, each.cell.budget): each.data and each.data.taught_rows for each in records}
    assert sorted(value for value in taught.values() if value is not None) == [2]
    (lacking,) = [each for each in records if each.data and each.data.taught_rows is not None]
    assert (lacking.cell.method, "rationales=0.25" in lacking.cell.budget) == ("dhrd", True)
    others = [each for each in records if each is not lacking]
    assert not any("taught_rows" in each.model_dump_json(exclude_none=True) for each in others)

    by_budget = {each.cell.budget: each.rows and each.rows.score for each in records if each.cell.method == "pooled"}
    assert len({json.dumps(scores) for scores in by_budget.values()}) == 1  # the share is none of its business

    boards = db.analyse(db.load_results(tmp_path), resamples=100).render("markdown")
    assert boards.count("Not all train rows had a rationale: of those of dhrd 25 %.") == 1
