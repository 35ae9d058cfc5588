"""Cascades: what is handed on, how it is timed, and the frontier that reports draw of two methods."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from conftest import toy_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import dhrd_bench as db
from dhrd_bench import plugins
from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.workclock import work_clock
from dhrd_bench.cli import app
from dhrd_bench.conformance import run_checks
from dhrd_bench.grid.perform import perform
from dhrd_bench.metrics import METRICS
from dhrd_bench.report.page import as_svg
from dhrd_bench.results.table import LongTable, long_table
from dhrd_bench.stats.cascade import SHARES, Frontier, Pair, Step
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import Point

# ---------------------------------------------------------------- what is handed on


class Told(db.Method):
    """Answers what it is told to; the number in an example's id is its place."""

    card = db.MethodCard(name="told", summary="s", objective="o", paper="p", inference="none", trains=False)

    def __init__(self, scores: Sequence[Sequence[float]], tokens: int) -> None:
        super().__init__()
        self.scores, self.tokens, self.asked = [list(row) for row in scores], tokens, []  # type: ignore[var-annotated]

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        pass

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        places = [int(example.id.lstrip("r")) for example in examples]
        self.asked.append(places)
        scores = [self.scores[place] for place in places]
        for start in range(0, len(places), 2):
            context.lap(len(places[start : start + 2]))
        count = [self.tokens] * len(places)
        return db.Predictions([int(np.argmax(row)) for row in scores], scores, None, count, count)


def cascade(fast: Sequence[Sequence[float]], slow: Sequence[Sequence[float]], **params: Any) -> Any:
    cls: Any = db.method("cascade")
    made = cls(cls.Params(**params))
    made.parts = {"fast": Told(fast, 3), "slow": Told(slow, 50)}
    return made


def bare(card: db.TaskCard, labels: Sequence[int]) -> db.TaskData:
    """A task whose dev rows have these labels."""
    rows = [replace(row, label=label) for row, label in zip(toy_rows(len(labels)), labels, strict=True)]
    return db.TaskData(card, (), tuple(rows))


Row = tuple[tuple[float, float, float], tuple[float, float, float], int]
SCORE = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0])  # few values: equal confidences must be met
ROW = st.tuples(st.tuples(SCORE, SCORE, SCORE), st.tuples(SCORE, SCORE, SCORE), st.integers(0, 2))


def surest(row: Sequence[float], measure: str) -> float:
    if measure == "margin":
        return sorted(row)[2] - sorted(row)[1]
    return math.exp(max(row)) / sum(map(math.exp, row))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(ROW, min_size=1, max_size=12),
    st.sampled_from(["probability", "margin"]),
    st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.5, 1.0]),
    st.sampled_from([None, 0.0, 30.0, 50.0, 75.0, 100.0]),
)
def test_the_cut_is_the_one_that_trying_them_all_finds(
    rows: list[Row], measure: str, share: float, score: float | None
) -> None:
    card = db.TaskCard(
        name="t", labels=("a", "b", "c"), answers=("a", "b", "c"), metrics=("accuracy",), prompt="p",
        prompt_version="1", version="1",
    )  # fmt: skip
    fast, slow, labels = ([row[part] for row in rows] for part in range(3))
    made = cascade(fast, slow, confidence=measure, share=share, score=score)  # type: ignore[arg-type]
    context = db.Context(None, db.Budget(name="b"), "t", 0)  # type: ignore[arg-type]
    made.fit(bare(card, labels), context)  # type: ignore[arg-type]
    sure = [round(surest(row, measure), 12) for row in fast]  # type: ignore[arg-type]
    sizes = sorted({sum(each < cut for each in sure) for cut in [*sure, math.inf]})

    def hits(size: int) -> int:
        asked = sorted(range(len(rows)), key=sure.__getitem__)[:size]
        answers = [int(np.argmax(slow[i] if i in asked else fast[i])) for i in range(len(rows))]
        return sum(answer == label for answer, label in zip(answers, labels, strict=True))

    if score is None:
        wanted = max(size for size in sizes if size <= share * len(rows) + 1e-9)
    else:
        wanted = min((size for size in sizes if hits(size) >= score / 100 * len(rows)), default=len(rows))
    assert made.parts["slow"].asked == ([] if score is None else [list(range(len(rows)))]), "asked only if it must be"
    made.parts["slow"].asked.clear()
    made.predict([row.example for row in toy_rows(len(rows))], context)
    asked = [place for places in made.parts["slow"].asked for place in places]
    assert len(asked) == wanted
    kept = [sure[place] for place in range(len(rows)) if place not in asked]
    assert max((sure[place] for place in asked), default=-1) < min(kept, default=math.inf)


FAST = [[2.0, 0.0], [0.1, 0.0], [0.0, 3.0], [0.0, 0.2], [1.0, 0.0]]
SLOW = [[0.0, 9.0], [0.0, 9.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]]


def test_each_example_is_answered_by_itself_counted_once_and_pays_for_both(card: db.TaskCard) -> None:
    laps: list[int] = []
    context = db.Context(None, db.Budget(name="b"), "t", 0, lap=laps.append)  # type: ignore[arg-type]
    made = cascade(FAST, SLOW, share=0.6)
    made.fit(bare(card, [0] * 5), context)
    assert laps == [], "dev rows are not counted"
    examples = [row.example for row in toy_rows(5)]
    whole = made.predict(examples, context)
    assert laps == [2, 2, 1], "two that the fast one is sure of, then the slow one's batches"
    assert made.parts["slow"].asked == [[1, 3, 4]]
    assert whole.labels == [0, 1, 1, 0, 1]
    assert whole.tokens_in == whole.tokens_out == [3, 53, 3, 53, 53]
    one_by_one = [made.predict([example], context).labels[0] for example in examples]
    assert one_by_one == whole.labels, "no share is taken of the test rows"
    laps.clear()
    made.predict([examples[0]], context)
    made.predict([examples[1]], context)
    assert laps == [1, 1], "no lap of no example"


def test_without_dev_rows_all_are_handed_on_and_that_is_saved(card: db.TaskCard, tmp_path: Path) -> None:
    made = cascade(FAST, SLOW)
    context = db.Context(None, db.Budget(name="b"), "t", 0)  # type: ignore[arg-type]
    made.fit(bare(card, []), context)
    made.save(tmp_path)
    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    again = cascade(FAST, SLOW)
    again.load(tmp_path, card, context)
    assert again.predict([row.example for row in toy_rows(5)], context).labels == [1, 1, 0, 0, 1]


def test_a_fast_method_without_scores_is_refused(card: db.TaskCard) -> None:
    made = cascade(FAST, SLOW)
    context = db.Context(None, db.Budget(name="b"), "t", 0)  # type: ignore[arg-type]
    made.parts["fast"].predict = lambda examples, context: db.Predictions([0] * len(examples))
    with pytest.raises(db.UserError, match="no class scores"):
        made.fit(bare(card, [0, 1]), context)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cascade[share=1.5]", "less than or equal to 1"),
        ("cascade[score=101]", "less than or equal to 100"),
        ("cascade[confidence=margins]", "confidence"),
        ("cascade[fast=poold]", "Did you mean 'pooled'"),
    ],
)
def test_settings_that_cannot_be_are_refused(text: str, words: str) -> None:
    with pytest.raises(db.UserError, match=words):
        db.method_spec(text)


# ---------------------------------------------------------------- how it is timed


def test_the_clock_stands_still_while_weights_change_places(
    toy: db.TaskData, context: db.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Putting weights in place takes an hour here."""
    hand, reset, swaps, real = [0.0], Backbone.reset, [0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + hand[0])

    def slow_reset(self: Backbone) -> None:
        hand[0] += 3600
        swaps[0] += 1
        reset(self)

    made = db.method_spec("cascade[share=0.5]").new()
    monkeypatch.setattr(Backbone, "reset", slow_reset)
    performed = perform(made, toy, [row.example for row in toy_rows(8, 20)], context)
    assert swaps[0] > 3
    assert sum(count for count, _ in performed.laps) == 8
    assert 0 < sum(seconds for _, seconds in performed.laps) < 3600
    before = work_clock()
    hand[0] += 3600
    assert work_clock() - before >= 3600, "what else takes time counts"


# ---------------------------------------------------------------- the frontier


def with_scores(record: Any, spread: float = 1.0) -> Any:
    """A record with class scores of which the largest is that of its answer, where there is one."""
    count, classes = len(record.rows.id), len(record.task.labels)
    rng = np.random.default_rng([record.cell.seed, count, len(record.cell.method)])
    scores = np.round(rng.normal(0, spread, (count, classes)), 5)
    top = scores.max(axis=1) + np.round(rng.random(count), 5) + 1e-5
    for row, answer in enumerate(record.rows.prediction):
        if answer >= 0:
            scores[row, answer] = top[row]
    return fakes.with_rows(record, score=scores.tolist())


def shuffled(record: Any) -> Any:
    """The record with its rows in another order."""
    order = np.random.default_rng(record.cell.seed + len(record.rows.id)).permutation(len(record.rows.id))
    columns = {name: value for name, value in record.rows.model_dump().items() if value is not None}
    return fakes.with_rows(record, **{name: [value[i] for i in order] for name, value in columns.items()})


@pytest.fixture(scope="module")
def records() -> list[Any]:
    made = [shuffled(with_scores(one)) if one.cell.method == "base" else one for one in fakes.records()]
    return [one for one in made if (one.cell.method, one.cell.task, one.cell.seed) != ("slow", "beta", 1)]


def composed(record: Any, **params: Any) -> Any:
    """The record as one of a method `both` with these parameters."""
    parts = record.parts.model_copy(update={"method": record.parts.method.model_copy(update={"params": params})})
    cell = record.cell.model_copy(update={"method": "both"})
    return record.model_copy(update={"parts": parts, "cell": cell, "identity": f"both-{record.identity}"})


def board_of(table: LongTable) -> Any:
    (board,) = db.analyse(table, resamples=200).boards
    return board


def slowly(records: list[Any], share: float, measure: str) -> tuple[float, float]:
    """Score and QPS of handing on a share, from the records alone, row by row."""
    by_key = {(one.cell.method, one.cell.task, one.cell.seed): one for one in records}
    scores: dict[str, list[float]] = {}
    examples = seconds = 0.0
    for (method, task, seed), fast in by_key.items():
        slow = by_key.get(("slow", task, seed))
        if method != "base" or slow is None:
            continue
        rows, others = fast.rows, dict(zip(slow.rows.id, slow.rows.prediction, strict=True))
        unlike = [math.exp(max(row)) / sum(map(math.exp, row)) for row in rows.score]
        if measure == "margin":
            unlike = [sorted(row)[-1] - sorted(row)[-2] for row in rows.score]
        asked = [i for _, i in sorted(zip(unlike, range(len(unlike)), strict=True))][: round(share * len(unlike))]
        answers = [others[rows.id[i]] if i in asked else rows.prediction[i] for i in range(len(unlike))]
        groups = rows.group or rows.id
        found = [
            METRICS[name].measure(np.array(answers), np.array(rows.label), groups, len(fast.task.labels))
            for name in fast.task.metrics
        ]
        scores.setdefault(task, []).append(100 * float(np.mean(found)))
        examples += fast.timing.examples
        seconds += fast.timing.seconds + len(asked) / len(unlike) * slow.timing.seconds
    return float(np.mean([np.mean(each) for each in scores.values()])), examples / seconds


@pytest.mark.parametrize("measure", ["probability", "margin"])
def test_the_frontier_is_what_going_row_by_row_finds(records: list[Any], measure: str) -> None:
    """F1, exact match and accuracy; rows in different orders; a seed that only one of the two has."""
    both = [
        composed(one, fast="base", slow="slow", confidence=measure) for one in records if one.cell.method == "better"
    ]
    found = {each.pair: each for each in board_of(long_table([*records, *both])).frontiers}
    assert set(found) == {Pair("base", "slow"), Pair("base", "slow", measure)}  # type: ignore[arg-type]
    steps = found[Pair("base", "slow", measure)].steps  # type: ignore[arg-type]
    assert [step.share for step in steps] == list(SHARES)
    for step in steps:
        score, qps = slowly(records, step.share, measure)
        assert step.score.value == pytest.approx(score)
        assert step.qps.value == pytest.approx(qps)
        assert step.score.low < score < step.score.high  # type: ignore[operator]
        assert step.qps.low < qps < step.qps.high  # type: ignore[operator]


def test_the_ends_of_the_frontier_are_its_two_methods() -> None:
    """As the board has them, intervals included; all of the slow one takes the time of both."""
    board = board_of(long_table([with_scores(one) for one in fakes.records()]))
    lines = {line.method: line for line in board.analysis.lines}
    (frontier,) = board.frontiers
    first, last = frontier.steps[0], frontier.steps[-1]
    assert first.score == lines["base"].score
    assert last.score == lines["slow"].score
    assert first.qps.value == pytest.approx(lines["base"].qps.value)
    both = 1 / lines["base"].qps.value + 1 / lines["slow"].qps.value
    assert last.qps.value == pytest.approx(1 / both)


def test_one_run_gives_scores_an_interval_and_speeds_none() -> None:
    board = board_of(long_table([with_scores(one) for one in fakes.records(seeds=(0,))]))
    (frontier,) = board.frontiers
    assert all(step.score.low is not None and step.qps.low is None for step in frontier.steps)


def test_no_frontier_without_scores_or_without_a_part(records: list[Any]) -> None:
    assert board_of(long_table(fakes.records())).frontiers == []
    both = [composed(one, fast="base", slow="absent") for one in records if one.cell.method == "better"]
    board = board_of(long_table([*records, *both]))
    assert [each.pair for each in board.frontiers] == [Pair("base", "slow")]
    section = board.section()
    assert any(note.startswith("No frontier from base to absent: it takes both") for note in section.notes)
    assert "Cascades" in [table.title for table in section.brief]
    section = board_of(long_table(records)).section()
    assert "Cascades" not in [table.title for table in section.brief], "nobody runs one"
    assert any(table.title == "Cascades" for table in section.tables)


def test_every_form_has_the_frontier(records: list[Any], tmp_path: Path) -> None:
    fakes.write(tmp_path, records)

    def report(form: str) -> str:
        options = ["--results", str(tmp_path), "--resamples", "200", "--format", form, "--details"]
        return CliRunner().invoke(app, ["report", *options], catch_exceptions=False).stdout

    (board,) = json.loads(report("json"))["leaderboards"]
    (frontier,) = board["cascades"]
    assert frontier["pair"] == {"fast": "base", "slow": "slow", "confidence": "probability"}
    lines = {(row["method"], row["figure"]): row for row in csv.DictReader(io.StringIO(report("csv")))}
    for step in frontier["steps"]:
        for name in ("score", "qps"):
            row = lines["base → slow", f"cascade {name}: {step['share']:.0%} handed on"]
            assert [float(row[end]) for end in ("value", "low", "high")] == [
                step[name][end] for end in ("value", "low", "high")
            ]
    assert len(re.findall(r"^\| base → slow \| \d+% \|", report("markdown"), re.MULTILINE)) == len(SHARES)
    page = report("html")
    assert page.count('class="frontier"') == page.count('class="band"') == 1


def test_the_line_goes_through_its_two_methods_and_stays_inside_the_frame() -> None:
    at = [(0.0, 70.0, 100.0), (0.5, 95.0, 10.0), (1.0, 80.0, 4.0)]
    steps = tuple(Step(share, Estimate(score, score - 9, score + 9), Estimate(qps)) for share, score, qps in at)
    points = [
        Point("fast", Estimate(70.0, 61.0, 79.0), Estimate(100.0), True, None),
        Point("slow", Estimate(80.0, 71.0, 89.0), Estimate(5.0), True, None),
    ]
    svg = as_svg(points, [Frontier(Pair("fast", "slow"), steps)])
    (path,) = re.findall(r'class="frontier" d="M ([^"]+)"', svg)
    places = [tuple(map(float, place.split())) for place in path.split(" L ")]
    circles = dict(zip(("cx", "cy"), zip(*re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg), strict=True), strict=True))
    assert places[0] in set(zip(map(float, circles["cx"]), map(float, circles["cy"]), strict=True))
    assert places[0][0] > places[1][0] > places[2][0]
    (band,) = re.findall(r'class="band" d="M ([^"]+) Z"', svg)
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    for x, y in [*places, *(tuple(map(float, place.split())) for place in band.split(" L "))]:
        assert 0 <= x <= width
        assert 0 <= y <= height
    assert "broken lines" in svg
    assert ">fast → slow</text>" in svg
    assert "broken lines" not in as_svg(points)


# ---------------------------------------------------------------- the whole way


def test_a_cascade_answers_as_the_records_of_its_parts_say(tmp_path: Path) -> None:
    """From the command line: its record is put together from those of the two methods, as the report's frontier is."""
    budget = "smoke[train_rows=8,dev_rows=6,test_rows=16,epochs=1,tuning=top:1,max_length=48,"
    budget += "decoding={max_new_tokens: 8}]"
    names = ["pooled", "cot", "cascade[share=0.5]"]
    root = tmp_path / "results"
    command = ["run", "--suite", "mini7", "--tasks", "RTE", "--backbone", "tiny", "--budget", budget, "--seeds", "2"]
    done = CliRunner().invoke(app, [*command, "--methods", ",".join(names), "--results", str(root)])
    assert done.exit_code == 0, done.output
    table = db.load_results(root)
    cells = {(one.method, one.seed): one for one in table.cells.itertuples()}
    rows = dict(list(table.rows.groupby(["method", "seed"], observed=True)))
    for seed in (0, 1):
        fast, slow, both = (rows[name, seed].set_index("example") for name in names)
        scores, own = (dict(zip(rows[n, seed]["example"], cells[n, seed].scores.tolist())) for n in names[::2])  # noqa: B905
        asked = {name for name, row in scores.items() if own[name] != row}
        for name, row in both.iterrows():
            assert row["prediction"] == (slow if name in asked else fast).loc[name, "prediction"]
        sure = {name: surest([*row, -99.0], "probability") for name, row in scores.items()}
        assert max((sure[name] for name in asked), default=0) < min(
            (each for name, each in sure.items() if name not in asked), default=1.1
        )
        tokens = cells["pooled", seed].tokens_in
        assert tokens < cells[names[2], seed].tokens_in < tokens + cells["cot", seed].tokens_in
    assert [each.pair for each in board_of(table).frontiers] == [Pair("pooled", "cot")]


# ---------------------------------------------------------------- from outside

ENTROPY = '''
"""A cascade by the entropy of the answers, which hands on what is above the median of dev."""

import math
from statistics import median

import dhrd_bench as db


@db.register
class ByEntropy(db.Composed):
    card = db.MethodCard(name="by-entropy", summary="s", objective="o", paper="p", inference=("pooled", "score"))

    class Params(db.MethodParams):
        fast: db.MethodReference = "pooled"
        slow: db.MethodReference = "label-lm"

    def fit(self, task, context):
        super().fit(task, context)
        dev = self.parts["fast"].predict([row.example for row in task.dev], context.inner("fast")) if task.dev else None
        self.chosen["most"] = median(map(entropy, dev.scores)) if dev else math.inf

    def predict(self, examples, context):
        fast = self.parts["fast"].predict(examples, context.inner("fast"))
        unsure = [place for place, row in enumerate(fast.scores) if entropy(row) > self.chosen["most"]]
        asked = [examples[place] for place in unsure]
        slow = self.parts["slow"].predict(asked, context.inner("slow")) if asked else fast
        context.lap(len(examples))
        return fast.corrected(unsure, slow)


def entropy(row):
    weights = [math.exp(each - max(row)) for each in row]
    return -sum(each / sum(weights) * math.log(each / sum(weights)) for each in weights if each)
'''


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[None]:
    """A contributor's cascade as a plug-in."""
    plugins.load_all()
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "by_entropy.py").write_text(ENTROPY)
    with plugins.isolated():
        plugins.include(folder)
        assert not plugins.state.broken
        yield


def test_a_cascade_from_outside_keeps_what_it_has_chosen(
    outside: None, toy: db.TaskData, context: db.Context, tmp_path: Path
) -> None:
    assert db.method_spec("by-entropy").card.inference == ("pooled", "score")
    made, examples = db.method_spec("by-entropy").new(), [row.example for row in toy_rows(8, 20)]
    made.fit(toy, context)
    answers = made.predict(examples, context)
    made.save(tmp_path / "fitted")
    again: Any = db.method_spec("by-entropy").new()
    again.load(tmp_path / "fitted", toy.card, context)
    assert again.chosen == made.chosen  # type: ignore[attr-defined]
    assert again.predict(examples, context).labels == answers.labels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cascade", "cascade[share=0.5,confidence=margin]", "cascade[score=60]", "by-entropy"])
def test_cascades_conform(name: str, outside: None) -> None:
    assert [(each.check, each.detail) for each in run_checks(name) if each.status != "pass"] == []
