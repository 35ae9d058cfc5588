"""What a report opens with: what the tests show, and nothing that they do not."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from dhrd_bench.report.leaderboard import FORMATS, Choice, analyse
from dhrd_bench.report.verdict import Verdict, verdict
from dhrd_bench.results.schema import CellRecord, Surroundings, TrainingCost
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import Analysis, Line
from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.significance import Test as Outcome

IDLE = fakes.FakeMethod("idle", 0.5, inference="none", qps=1e6, tokens=0)
BASE = fakes.THREE[0]
SEEDS = range(5)


MADE: dict[str, CellRecord] = {}


def made(task, method, seed) -> CellRecord:
    """Return a record, made once: most tests ask for the same."""
    key = repr((task, method, seed))
    if key not in MADE:
        MADE[key] = fakes.record(task, method, seed)
    return MADE[key]


def board(methods=fakes.THREE, seeds=SEEDS, tasks=fakes.SMALL, change=lambda one: one, timed=(), **options):
    records = [change(made(task, method, seed)) for task in tasks for method in methods for seed in seeds]
    table = dataclasses.replace(long_table(records), timed=tuple(timed))
    return analyse(table, **{"resamples": 200} | options).boards[0]


def said(*args, **options) -> str:
    return " ".join(board(*args, **options).verdict.sentences)


# ---------------------------------------------------------------- never more than the tests


@functools.cache
def analysis() -> Analysis:
    methods = [BASE, *(fakes.FakeMethod(f"m{number}", qps=100.0) for number in range(3))]
    return board(methods, tasks=fakes.SMALL[:2], margin=2.0, resamples=100).analysis


p_values = st.one_of(st.sampled_from([0.001, 0.01, 0.02, 0.049, 0.05, 0.051, 0.5, 1.0]), st.floats(0, 1))
outcomes = st.tuples(st.floats(-60, 60), st.one_of(st.none(), p_values), st.one_of(st.none(), p_values), p_values)


def as_if(line: Line, difference: float, p: float | None, within: float | None, speed: float) -> Line:
    """Return the line as it were with these outcomes of its tests."""
    assert line.versus is not None
    test = None if p is None else Outcome(p, 0.0, p, True)
    versus = dataclasses.replace(
        line.versus, difference=Estimate(difference, difference - 1, difference + 1), test=test
    )
    # A logarithm so many standard errors from 0 has the p wanted; one way is as good as the other.
    ratio = Estimate(math.exp(0.01 * -ndtri(max(speed, 1e-9) / 2)), 0.5, 2.0, 0.01, math.inf)
    claims = {} if within is None else {"score as base": Equivalence(within, within)}
    return dataclasses.replace(line, versus=versus, equivalence=claims, qps_to_baseline=ratio)


def holm(values: dict[str, float]) -> dict[str, float]:
    """Return Holm's corrected p by the definition: a p passes if it and all smaller ones pass their steps."""
    order = sorted(values, key=values.__getitem__)
    steps = [min(1.0, values[name] * (len(order) - step)) for step, name in enumerate(order)]
    return {name: max(steps[: step + 1]) for step, name in enumerate(order)}


def clauses(found: Verdict) -> str:
    return found.sentences[0]


@settings(deadline=None, max_examples=50)
@given(st.lists(outcomes, min_size=3, max_size=3))
def test_a_verdict_says_what_the_corrected_tests_show_and_nothing_else(given_outcomes) -> None:
    changed = dict(zip(("m0", "m1", "m2"), given_outcomes, strict=True))
    lines = [as_if(line, *changed[line.method]) if line.method in changed else line for line in analysis().lines]
    found = verdict(dataclasses.replace(analysis(), lines=tuple(lines)))
    claims = {claim.method: claim for claim in found.claims if claim.claim == "score"}
    within = {name: outcome[2] for name, outcome in changed.items() if outcome[2] is not None}
    corrected = holm(within)
    for name, (difference, p, _, _) in changed.items():
        shown = p is not None and p <= 0.05
        same = corrected.get(name, 1.0) <= 0.05
        kind = (
            "equivalent"
            if same
            else "undecided"
            if not shown or difference == 0
            else "better"
            if difference > 0
            else "worse"
        )
        assert claims[name].finding == kind
        (clause,) = [part for part in re.split(r"; ", clauses(found)) if re.search(rf"\b{name} \(", part)]
        words = {"better": "higher than base", "worse": "lower than base", "equivalent": "equivalent to base",
                 "undecided": "not shown to differ from base"}  # fmt: skip
        assert [key for key, text in words.items() if text in clause] == [kind]
    assert ("No method was shown to score higher" in clauses(found)) == all(
        claim.finding != "better" for claim in claims.values()
    )
    speeds = {claim.method: claim for claim in found.claims if claim.claim == "speed"}
    for name, p in holm({name: max(outcome[3], 1e-9) for name, outcome in changed.items()}).items():
        assert speeds[name].p == pytest.approx(p, rel=1e-6)
        assert (speeds[name].finding != "undecided") == (speeds[name].p <= 0.05 and speeds[name].difference.value != 1)


# ---------------------------------------------------------------- cases


def test_one_better_method_is_named_with_its_size_and_its_corrected_p() -> None:
    found = board()
    line = next(line for line in found.analysis.lines if line.method == "better")
    (claim,) = [c for c in found.verdict.claims if (c.claim, c.method) == ("score", "better")]
    assert (claim.finding, claim.p, claim.difference) == ("better", line.versus.test.adjusted, line.versus.difference)
    first = found.verdict.sentences[0]
    assert re.match(
        r"better \(\+\d\.\d points \[\+\d\.\d, \+\d+\.\d\], corrected p [<=] 0\.0\d+\) scores higher than base;", first
    )
    assert "slow (−" in first
    assert first.endswith("scores lower than base.")


def test_many_methods_are_counted_and_not_listed() -> None:
    many = [BASE, *(fakes.FakeMethod(f"good{number}", 0.95) for number in range(7))]
    first = board(many).verdict.sentences[0]
    assert "and 4 more score higher than base" in first
    assert first.count("points [") == 3


def test_equivalence_is_said_where_it_is_shown() -> None:
    twin = fakes.FakeMethod("twin", 0.80)
    same = board([BASE, twin], tasks=(fakes.FakeTask("long", 4000),), margin=10.0)
    assert "No method was shown to score higher than base; twin (" in same.verdict.sentences[0]
    assert "is equivalent to base within 10 %" in same.verdict.sentences[0]
    assert "equivalent" not in said([BASE, twin], tasks=(fakes.FakeTask("long", 4000),)), "none without a margin"


def test_undecided_says_what_could_have_been_seen() -> None:
    text = said([BASE, fakes.FakeMethod("other", 0.80)])
    assert "other (" in text
    assert re.search(
        r"not shown to differ from base, where a true difference of \d+\.\d points would have been found in four",
        text,
    )
    two = said([BASE, fakes.FakeMethod("other", 0.80)], seeds=(0, 1))
    assert "in 60 to 70 % of simulated cases" in two


def test_what_reads_nothing_and_is_not_beaten_is_named() -> None:
    weak = [dataclasses.replace(BASE, accuracy=0.5), fakes.FakeMethod("other", 0.5), IDLE]
    assert "not shown to differ from idle, which reads nothing of its input." in said(weak)
    assert "idle" not in said([*fakes.THREE, IDLE])
    shame = [dataclasses.replace(BASE, accuracy=0.3), fakes.FakeMethod("other", 0.3), IDLE]
    assert re.match(r"idle \(\+.*?\) scores higher than base;", said(shame)), "a baseline that it beats is no baseline"


def collapse(one):
    """Let two seeds of one method answer one thing only."""
    if (one.cell.method, one.cell.seed) not in (("better", 1), ("better", 2)):
        return one
    return fakes.with_rows(one, prediction=[0] * len(one.rows.label))


def test_collapsed_seeds_and_single_seeds_are_said() -> None:
    assert "Seeds of better collapsed to one answer" in said(change=collapse)
    assert "collapsed" not in said()
    assert "One seed: all this is about these trained models" in said(seeds=(0,))
    assert "One seed" not in said()


def test_a_method_on_fewer_tasks_says_so() -> None:
    table = board().table
    lacking = (table.cells["method"] == "better") & (table.cells["task"] == "beta")
    rows = table.rows[~((table.rows["method"] == "better") & (table.rows["task"] == "beta"))]
    found = analyse(dataclasses.replace(table, cells=table.cells[~lacking], rows=rows), resamples=200).boards[0].verdict
    assert "on 2 of 3 tasks)" in found.sentences[0]


def test_without_a_baseline_or_a_rival_nothing_is_compared() -> None:
    assert "There is no baseline" in said(fakes.THREE[1:])
    assert "nothing beside base" in said([BASE])


def test_speed_is_told_by_its_test_and_not_after_one_run() -> None:
    fast = [BASE, fakes.FakeMethod("fast", 0.86, qps=300.0), fakes.THREE[2]]
    text = said(fast)
    assert re.search(
        r"fast answers 3\.\d\d× \[.*?\] as many examples a second as base and 1\d\d× \[.*?\] as many as slow", text
    )
    assert re.search(r"better answers .*? as base \(not shown to differ\)", said())
    once = board(fast, seeds=(0,))
    assert {claim.p for claim in once.verdict.claims if claim.claim == "speed"} == {None}
    assert {claim.finding for claim in once.verdict.claims if claim.claim == "speed"} == {"undecided"}
    assert "as base (not tested)" in " ".join(once.verdict.sentences)


def test_speeds_of_a_shared_machine_and_invalid_timings_are_not_quoted() -> None:
    shared = board(change=lambda one: one.model_copy(update={"environment": Surroundings(workers=2)}))
    text = " ".join(shared.verdict.sentences)
    assert "No speed is told, as cells ran beside others" in text
    assert "examples a second" not in text
    run = fakes.throughput(fakes.SMALL[1])
    assert "timed side by side better has 1.00× the QPS of base (1 run)" in said(timed=[run])
    broken = [one.model_copy(update={"verdict": "INVALID", "reasons": ["load"]}) for one in run.measurements]
    text = said(timed=[run.model_copy(update={"measurements": broken})])
    assert "1 of 1 timing of better side by side may not be quoted" in text
    assert "has 1.00×" not in text


def test_costs_are_those_of_the_records() -> None:
    trained = {"base": {"tokens": 1000, "teacher_tokens": 0}, "better": {"tokens": 3000, "teacher_tokens": 600}}
    text = said(change=lambda one: one.model_copy(update={"train": TrainingCost(**trained.get(one.cell.method, {}))}))
    assert "training better took 3.00× the tokens of base (3,000 a cell, and rationales of 600 teacher tokens)" in text
    assert "training" not in said()


# ---------------------------------------------------------------- every form


def test_every_form_opens_with_the_same_sentences() -> None:
    found = analyse(fakes.table(seeds=range(4)), resamples=200)
    sentences = found.boards[0].verdict.sentences
    plain = re.sub(r"\W+", "", " ".join(sentences))
    for form in set(FORMATS) - {"csv", "json"}:
        text = found.render(form).replace("&lt;", "<").replace(r"\textless{}", "<").replace(r"$\times$", "×")
        text = re.sub(r"\W+", "", text.replace("$-$", "−"))
        assert plain in text, form
        assert text.index(plain) < text.index("Holmcorrectedover")
    data = json.loads(found.render("json"))["leaderboards"][0]["verdict"]
    assert data["sentences"] == list(sentences)
    first = data["claims"][0]
    assert {"claim", "method", "baseline", "finding", "difference", "gain", "p", "equivalent_p"} <= set(first)
    assert np.isfinite(first["difference"]["low"])


def test_the_order_of_lines_and_another_run_change_nothing() -> None:
    found = board()
    turned = dataclasses.replace(found.analysis, lines=found.analysis.lines[::-1])
    assert verdict(turned, found.timed) == found.verdict == board().verdict
    assert board(choice=Choice(methods=("base", "better"))).verdict.sentences != found.verdict.sentences
