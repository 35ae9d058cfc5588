"""Scenarios, figures, verdicts."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import bootstrap
from typer.testing import CliRunner, Result

from dhrd_bench import FineTuned
from dhrd_bench.backbones import Backbone
from dhrd_bench.cli import app
from dhrd_bench.contracts import Context, Example, Prompt, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.progress import QUIET_SECONDS, show_progress
from dhrd_bench.request import RunRequest
from dhrd_bench.results.timed import Figure, ThroughputRecord, Trial
from dhrd_bench.throughput import figures, scenarios
from dhrd_bench.throughput.machine import BusyMeter, ProcessorTimes
from dhrd_bench.throughput.roofline import model_flops, peak_of
from dhrd_bench.throughput.scenarios import Query
from dhrd_bench.throughput.timing import TimingSettings

STOCK: list[Query] = [[Example(str(i), Prompt("", "", str(i)))] for i in range(50)]


def fake(seconds_a_query: float, seen: list[list[str]] | None = None) -> Callable[[Sequence[Query]], tuple[int, int]]:
    def answer(queries: Sequence[Query]) -> tuple[int, int]:
        if seen is not None:
            seen.append([query[0].id for query in queries])
        time.sleep(seconds_a_query * len(queries))
        return 10 * len(queries), 2 * len(queries)

    return answer


def test_offline_interleaves_and_pairs() -> None:
    seen: dict[str, list[list[str]]] = {name: [] for name in "abc"}
    order: list[str] = []

    def watched(name: str) -> Callable[[Sequence[Query]], tuple[int, int]]:
        inner = fake(0.0005, seen[name])

        def answer(queries: Sequence[Query]) -> tuple[int, int]:
            order.append(name)
            return inner(queries)

        return answer

    timed = scenarios.offline(
        {name: watched(name) for name in "abc"}, STOCK, rounds=6, block=12, min_seconds=0.0, seed=0
    )
    turns = [order[i] for i in range(0, len(order), 2)]  # every visit is a warm-up call and a timed one
    assert turns[:6] == ["a", "b", "c", "b", "c", "a"]
    assert seen["a"] == seen["b"] == seen["c"], "all methods answer the same blocks"
    assert all(len(one.blocks) == 6 for one in timed.values())
    assert timed["a"].queries == 6 * 12
    assert timed["a"].tokens_in == 10 * timed["a"].queries, "the warm-up is not counted"
    drawn = [id_ for block in seen["a"][1::2] for id_ in block]
    assert len(set(drawn[:48])) == 48, "without replacement until the stock runs out"


def test_what_is_vague_has_more_rounds_among_itself() -> None:
    asked: list[int] = []

    def vague(timed: Mapping[str, scenarios.Visits]) -> set[str]:
        asked.append(len(timed["a"].blocks))
        return {"a", "b"} if asked[-1] < 6 else {"a", "c"}

    answers = {name: fake(0.0001) for name in "abc"}
    timed = scenarios.offline(answers, STOCK, rounds=4, block=5, min_seconds=0.0, seed=0, vague=vague)
    assert asked[:3] == [4, 5, 6]
    assert len(timed["c"].blocks) == 4, "it was not named when the others had more"
    assert len(timed["b"].blocks) == 6
    assert len(timed["a"].blocks) == scenarios.MORE * 4, "there is an end to it"


def test_sharp_looks_at_the_spread_and_not_at_the_ratio() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 40)
    base = [(48.0, 3.0)] * 40
    for faster in (1.0, 1.04, 4.0):
        own = [(48.0, 3.0 / faster * math.exp(z)) for z in noise]
        assert not figures.sharp(own[:10], base, 5)
        assert figures.sharp(own, base, 5)


def test_stopping_when_sharp_keeps_the_level() -> None:
    """At the margin itself equivalence is found in some 5 %, and intervals cover, although the end is open.

    Stopping as soon as equivalence is found would find it in some 15 %.
    """
    rng = np.random.default_rng(0)
    found = covered = 0
    trials, edge = 400, math.log(1.05)
    for _ in range(trials):
        own = [(48.0, 3.0 / math.exp(edge + z)) for z in rng.normal(0, 0.08, 30)]
        rounds = next((n for n in range(10, 30, 2) if figures.sharp(own[:n], [(48.0, 3.0)] * n, 5)), 30)
        ratio, within = figures.ratio(own[:rounds], [(48.0, 3.0)] * rounds, 5)
        assert within is not None
        assert ratio.low is not None
        assert ratio.high is not None
        found += within.equivalent <= 0.05
        covered += ratio.low <= 1.05 <= ratio.high
    assert found <= 0.09 * trials
    assert covered >= 0.91 * trials


def test_short_visits_repeat_their_block() -> None:
    timed = scenarios.offline({"a": fake(0.0005)}, STOCK, rounds=2, block=4, min_seconds=0.02, seed=0)
    assert all(seconds >= 0.02 for _, seconds in timed["a"].blocks)
    assert all(count % 4 == 0 and count > 4 for count, _ in timed["a"].blocks)


def test_a_known_ratio_is_found() -> None:
    timed = scenarios.offline(
        {"fast": fake(0.001), "slow": fake(0.004)}, STOCK, rounds=8, block=10, min_seconds=0.0, seed=0
    )
    ratio, _ = figures.ratio(timed["fast"].blocks, timed["slow"].blocks, margin=5)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low <= ratio.value <= ratio.high
    assert 3.0 < ratio.value < 4.5
    same, within = figures.ratio(timed["fast"].blocks, timed["fast"].blocks, margin=5)
    assert same.value == pytest.approx(1.0)
    assert within is None or within.equivalent < 0.05


def test_single_stream_counts_each_query() -> None:
    timed = scenarios.single_stream({"a": fake(0.0005), "b": fake(0.02)}, STOCK, queries=20, max_seconds=0.2, seed=0)
    assert len(timed["a"].latencies) == 20
    assert 8 <= len(timed["b"].latencies) <= 16, "a method that has used its time sits out"
    assert [count for count, _ in timed["a"].blocks] == [8, 8, 4]
    assert sum(seconds for _, seconds in timed["a"].blocks) == pytest.approx(timed["a"].seconds)
    assert figures.percentile(timed["a"].latencies, 0.5).value == pytest.approx(np.median(timed["a"].latencies))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only stands, so that a busy machine has no say; what takes time moves its hand."""
    hand = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: hand[0])
    return hand


def on(clock: list[float], seconds_a_visit: float) -> scenarios.Answer:
    def answer(queries: Sequence[Query]) -> tuple[int, int]:
        clock[0] += seconds_a_visit
        return 0, 0

    return answer


@pytest.mark.parametrize("load", [0.2, 0.9])
def test_latencies_under_load_are_those_of_a_queue(clock: list[float], load: float) -> None:
    """One server, a fixed time of service, no batches: each waits as in Lindley's recursion (1952)."""
    service, queries = 0.002, 400
    found = scenarios.serve(on(clock, service), STOCK, rate=load / service, queries=queries, batch=1, seed=0)
    gaps = np.random.default_rng(0).exponential(service / load, queries)
    wait, latencies = 0.0, []
    for gap in gaps:
        wait = max(0.0, wait - gap)
        latencies.append(wait + service)
        wait += service
    assert (found.p50, found.p99) == pytest.approx(np.quantile(latencies, [0.5, 0.99]))
    assert found.p99_low is not None
    assert found.p99_high is not None
    assert service <= found.p99_low <= found.p99 <= found.p99_high <= max(latencies) * (1 + 1e-9)


def test_the_highest_rate_that_holds_is_found(clock: list[float]) -> None:
    service, bound = 0.002, 0.008
    trials = scenarios.server(
        {"a": on(clock, service)}, STOCK, ceilings={"a": 1 / service}, bound=bound, queries={"a": 200}, batch=1,
        trials=6, seed=0,
    )["a"]  # fmt: skip
    rate = figures.held(trials, bound, 1 / service)
    assert 0 < rate.value < 1 / service
    assert len(trials) == 6
    assert all((trial.p99 <= bound) == (trial.rate <= rate.value) for trial in trials)
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low <= rate.value < rate.high <= 1 / service


def test_methods_take_turns_under_load() -> None:
    order: list[str] = []

    def watched(name: str) -> Callable[[Sequence[Query]], tuple[int, int]]:
        def answer(queries: Sequence[Query]) -> tuple[int, int]:
            if order[-1:] != [name]:
                order.append(name)
            return 0, 0

        return answer

    steps: list[tuple[int, int]] = []
    trials = scenarios.server(
        {name: watched(name) for name in "ab"}, STOCK, ceilings={"a": 50.0, "b": 5.0}, bound=9.0,
        queries={"a": 20, "b": 10}, batch=4, trials=3, seed=0, done=lambda step, of: steps.append((step, of)),
    )  # fmt: skip
    assert "".join(order) == "ababab"
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert [trial.rate for trial in trials["b"]] == [2.5, 3.75, 4.375], "bisected upwards while the bound holds"
    assert [trial.queries for trial in trials["a"]] == [20] * 3


def test_the_rate_that_held_is_as_sure_as_its_trials() -> None:
    def tried(rate: float, p99: float, low: float, high: float) -> Trial:
        return Trial(rate=rate, p50=p99 / 2, p99=p99, p99_low=low, p99_high=high, queries=100)

    sure, shaky, over = tried(4, 0.5, 0.4, 0.6), tried(6, 0.9, 0.7, 1.3), tried(7, 1.2, 0.9, 1.5)
    assert figures.held([sure, shaky, over], 1.0, 8.0) == Figure(value=6, low=4, high=8)
    assert figures.held([sure, shaky, over, tried(7.5, 3, 2, 4)], 1.0, 8.0) == Figure(value=6, low=4, high=7.5)
    assert figures.held([over], 1.0, 8.0) == Figure(value=0, low=0, high=8)


def test_a_quotient_of_two_figures_joins_their_intervals() -> None:
    """The interval of exp(normal) over exp(normal), whose ends are known."""
    one, other = (Figure(value=v, low=v * math.exp(-z), high=v * math.exp(z)) for v, z in ((6.0, 0.3), (2.0, 0.4)))
    found = figures.quotient(one, other)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3 * math.exp(-0.5), 3 * math.exp(0.5)))
    assert figures.quotient(one, Figure(value=0.0, low=0.0, high=1.0)) is None
    open_end = figures.quotient(one, Figure(value=2.0, low=0.0, high=3.0))
    assert open_end == Figure(value=3.0)


def test_percentiles_of_independent_latencies_are_as_scipy_has_them() -> None:
    data = np.random.default_rng(0).gamma(2.0, 1.0, 200)
    found = figures.percentile(data.tolist(), 0.9)
    scipys = bootstrap(
        (data,), partial(np.quantile, q=0.9), n_resamples=4000, method="percentile", vectorized=True, rng=0
    ).confidence_interval
    assert found.value == np.quantile(data, 0.9)
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), rel=0.03)


def test_blocks_keep_intervals_honest_where_latencies_follow_on_one_another() -> None:
    """Medians of a first-order autoregression, whose true median is 0: single draws cover in some 65 % only."""
    rng = np.random.default_rng(0)
    covered = {1: 0, 16: 0}
    for _ in range(200):
        noise, level = rng.normal(size=256), 0.0
        series = [level := 0.7 * level + z for z in noise]
        for block in covered:
            found = figures.percentile(series, 0.5, block)
            assert found.low is not None
            assert found.high is not None
            covered[block] += found.low <= 0 <= found.high
    assert covered[1] < 150
    assert covered[16] > 172


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 50), st.floats(0.1, 9)), min_size=2, max_size=12),
    st.floats(0.1, 10),
    st.floats(0.1, 10),
)
def test_ratios_are_antisymmetric_and_free_of_units(
    blocks: list[tuple[float, float]], faster: float, unit: float
) -> None:
    other = [(count, seconds * faster) for count, seconds in blocks]
    forth, _ = figures.ratio(blocks, other, 5)
    back, _ = figures.ratio(other, blocks, 5)
    assert forth.value == pytest.approx(faster)
    assert forth.value * back.value == pytest.approx(1.0)
    scaled = [(count, seconds * unit) for count, seconds in blocks]
    assert figures.ratio(scaled, [(c, s * unit) for c, s in other], 5)[0].value == pytest.approx(forth.value)
    assert figures.qps(scaled).value == pytest.approx(figures.qps(blocks).value / unit)


def test_intervals_cover_at_the_nominal_level() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        found = figures.log_mean(rng.normal(0.5, 0.2, 10).tolist(), seed=trial)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_drift() -> None:
    assert figures.drift([(10, 1.0)] * 9) == pytest.approx(0)
    assert figures.drift([(10, 1.0)] * 6 + [(10, 2.0)] * 3) == pytest.approx(-0.5)


def test_the_busy_meter_sees_others_and_not_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processors over ten seconds: 12 s busy, 9 s of it ours, so others had 3 of 20."""
    readings = iter(
        [ProcessorTimes(100.0, 40.0, 0.0), ProcessorTimes(112.0, 49.0, 10.0), ProcessorTimes(109.0, 49.0, 10.0)]
    )
    monkeypatch.setattr(ProcessorTimes, "now", lambda: next(readings))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    meter = BusyMeter()
    assert meter.share() == pytest.approx(3 / 20)
    assert meter.share() == 0.0


def test_the_meter_reads_this_machine() -> None:
    before = ProcessorTimes.now()
    start = time.process_time()  # and not the clock's: others may have the processor meanwhile
    while time.process_time() - start < 0.1:
        math.sqrt(2.0)
    after = ProcessorTimes.now()
    assert after.process - before.process > 0.03
    assert after.wall - before.wall >= 0.1
    assert after.machine >= before.machine
    capacity = (after.wall - before.wall) * (os.cpu_count() or 1)
    assert after.machine - before.machine <= capacity + 0.1, "idle time is not counted"


def test_flops_count_weights_and_tokens(tiny: Backbone) -> None:
    blocks = sum(p.numel() for p in tiny.model.model.layers.parameters())
    assert model_flops(tiny, 10, 0) == 20 * blocks
    assert model_flops(tiny, 0, 1) == 2 * (blocks + tiny.head_weight.numel())
    assert peak_of(tiny) > 0


def test_the_command_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dhrd_bench.commands.throughput import throughput_command

    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    console = Console(record=True, width=120)
    request = RunRequest(
        methods="pooled,dhrd,cot", suite="mini7[prompt=paper]", tasks="copa", backbone="tiny", seeds="0",
        budget="smoke[train_rows=8,dev_rows=2,test_rows=10,epochs=1,tuning=top:1,decoding={max_new_tokens: 4}]",
        throughput="offline,single-stream,server", results=tmp_path,
    )  # fmt: skip
    settings = TimingSettings(rounds=3, block=5, queries=6, p99_bound=5.0, margin=5.0, min_seconds=0.0)
    for _ in range(2):
        throughput_command(request, settings, console)
    text = console.export_text()
    assert text.count("fitted and kept") == 3
    assert text.count(": loaded") == 3
    assert "INVALID" in text
    assert "within 5 %" in text
    assert "server, p99 within 5 s" in text
    files = sorted(path.name for path in tmp_path.rglob("throughput/COPA/*.json"))
    assert files == ["offline-0.json", "server-0.json", "single-stream-0.json"]
    for path in tmp_path.rglob("throughput/COPA/*.json"):
        record = ThroughputRecord.model_validate(json.loads(path.read_text()))
        assert record.baseline == "pooled"
        assert record.reference == "cot"
        assert {one.method for one in record.measurements} == {"pooled", "dhrd", "cot"}
        for one in record.measurements:
            assert one.verdict == "INVALID"
            assert one.reasons
            assert one.tokens_in > 0
        assert record.p99_bound == (5.0 if record.scenario == "server" else None)
        if record.scenario == "server":
            assert all(len(one.trials) == 6 for one in record.measurements)
            assert all(one.qps.low is not None and one.qps.high is not None for one in record.measurements)
        if record.scenario == "offline":
            # A test row asks one question a candidate, and a query is a row.
            assert all(count == 5 for one in record.measurements for count, _ in one.blocks)
            assert all(one.ratio is not None for one in record.measurements if one.method != "cot")
    # Throughput files are no cell records and do not get in their way.
    from dhrd_bench.results.store import read_records
    from dhrd_bench.results.timed import read_timed

    assert read_records(tmp_path) == ([], [])
    records, problems = read_timed(tmp_path)
    assert [record.scenario for record in records] == ["offline", "server", "single-stream"]
    assert problems == []


# ---------------------------------------------------------------- the second stage of run


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is fitted, by method and seed; timings are short and the cache is the test's own."""
    seen: list[tuple[str, int]] = []
    fit = FineTuned.fit

    def counted(self: FineTuned, task: TaskData, context: Context) -> None:
        seen.append((self.card.name, context.seed))
        fit(self, task, context)

    monkeypatch.setattr(FineTuned, "fit", counted)
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    quick = partial(TimingSettings, rounds=3, block=4, queries=8, min_seconds=0.0)
    monkeypatch.setattr("dhrd_bench.throughput.timing.TimingSettings", quick)
    return seen


def run(results: Path, *arguments: str) -> Result:
    budget = "smoke[train_rows=8,dev_rows=2,test_rows=6,epochs=1,tuning=top:1,decoding={max_new_tokens: 4}]"
    wanted = ["--methods", "pooled,cot", "--backbone", "tiny", "--budget", budget, "--tasks", "rte", "--seeds", "2"]
    return CliRunner().invoke(app, ["run", *wanted, "--results", str(results), *arguments])


def records_of(results: Path) -> dict[str, ThroughputRecord]:
    paths = results.rglob("throughput/RTE/*.json")
    return {path.stem: ThroughputRecord.model_validate_json(path.read_text()) for path in paths}


def test_run_times_what_it_has_fitted_and_fits_nothing_twice(fits: list[tuple[str, int]], tmp_path: Path) -> None:
    done = run(tmp_path, "--throughput", "single-stream,offline")
    assert done.exit_code == 1, done.output  # so few queries are no figure to quote
    assert fits == [("pooled", 0), ("cot", 0), ("pooled", 1), ("cot", 1)]
    assert done.output.count(": loaded") == 4
    assert "INVALID" in done.output
    assert "RTE, tiny" in done.output
    records = records_of(tmp_path)
    assert set(records) == {"offline-0", "offline-1", "single-stream-0", "single-stream-1"}
    for record in records.values():
        assert [one.method for one in record.measurements] == ["pooled", "cot"]
        assert record.measurements[0].ratio is not None
    assert "1/4  RTE seed 0 offline" in done.output
    assert "about 0:0" in done.output

    again = run(tmp_path, "--throughput", "offline")
    assert "4 have a record, 0 to run" in again.output
    assert len(fits) == 4, "what was kept is loaded"

    kept = sorted((tmp_path / "cache" / "fitted").iterdir())
    assert len(kept) == 4
    for folder in kept:
        (folder / "complete.json").unlink()
    once_more = run(tmp_path, "--throughput", "offline")
    assert sorted(fits[4:]) == sorted(fits[:4]), "a record without its fitted method is fitted once more"
    assert once_more.output.count("fitted and kept") == 4


@pytest.mark.parametrize("name", ["fitted.safetensors", "fitted.json"])
def test_a_damaged_fitted_method_is_named_and_fitted_anew(
    fits: list[tuple[str, int]], tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    run(tmp_path, "--throughput", "offline", "--methods", "pooled")
    assert len(fits) == 2
    damaged = sorted((tmp_path / "cache" / "fitted").iterdir())[0] / name
    os.truncate(damaged, 10)
    again = run(tmp_path, "--throughput", "offline", "--methods", "pooled")
    assert again.output.count("fitted and kept") == 1, again.output
    assert len(fits) == 3
    (told,) = [message for message in caplog.messages if "fitted anew" in message]
    assert str(damaged.parent) in told
    assert name in told
    assert damaged.stat().st_size > 10


def test_run_alone_keeps_nothing(fits: list[tuple[str, int]], tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    assert len(fits) == 4
    assert not (tmp_path / "cache" / "fitted").exists()
    assert not records_of(tmp_path)


def test_a_dry_run_times_nothing_and_a_wrong_scenario_is_told_first(
    fits: list[tuple[str, int]], tmp_path: Path
) -> None:
    dry = run(tmp_path, "--throughput", "offline", "--dry-run")
    assert dry.exit_code == 0
    assert "4 of 4 cells to run" in dry.output
    assert not records_of(tmp_path)
    fits.clear()  # a dry run fits a little to estimate the time
    wrong = run(tmp_path, "--throughput", "offlin")
    assert isinstance(wrong.exception, UserError)
    assert "Did you mean 'offline'" in str(wrong.exception)
    assert not fits


def test_cells_that_failed_are_left_out(
    fits: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = FineTuned.fit

    def failing(self: FineTuned, task: TaskData, context: Context) -> None:
        counted(self, task, context)
        if self.card.name == "cot":
            raise RuntimeError("out of luck")

    monkeypatch.setattr(FineTuned, "fit", failing)
    done = run(tmp_path, "--throughput", "offline")
    assert done.exit_code == 1
    assert "out of luck" in done.output
    assert len(fits) == 4
    assert [one.method for record in records_of(tmp_path).values() for one in record.measurements] == ["pooled"] * 2


def test_a_long_timing_says_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, width=100, force_terminal=False)
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    with show_progress(console, 2, "timings") as progress:
        progress.begin("RTE seed 0 offline")
        for done in range(1, 5):
            now += 0.8 * QUIET_SECONDS
            progress.step("", done, 4, {})
        progress.end()
    lines = console.export_text().splitlines()
    assert lines == [
        "RTE seed 0 offline: 2/4, about 0:00:48 left",
        "1/2  RTE seed 0 offline                 (96 s, about 0:01:36 left)",
    ]


def test_a_terminal_shows_bars() -> None:
    console = Console(record=True, width=120, force_terminal=True, force_interactive=True)
    with show_progress(console, 1, "timings") as progress:
        progress.begin("RTE seed 0 offline")
        progress.step("", 1, 3, {})
        progress.end()
    text = console.export_text()
    assert "1/1  RTE seed 0 offline" in text
    assert "timings" in text
