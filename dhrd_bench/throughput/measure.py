"""Timing the fitted methods of one task and seed against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.device import synchronise
from dhrd_bench.contracts import Budget, Context, Method
from dhrd_bench.grid.environment import surroundings_of
from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.inference.engine import Engine
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.request import Scenario
from dhrd_bench.results.timed import Figure, Measurement, ThroughputRecord, Trial
from dhrd_bench.throughput import figures, scenarios
from dhrd_bench.throughput.machine import BusyMeter
from dhrd_bench.throughput.roofline import model_flops, peak_of
from dhrd_bench.throughput.scenarios import Answer, Query, Timed

MIN_QUERIES = 64
MAX_DRIFT = 0.15
MAX_OTHER_LOAD = 0.10
P99_QUERIES = 100


@dataclass(frozen=True)
class Protocol:
    """How long and how often: the settings of the scenarios."""

    rounds: int = 10
    block: int = 48
    min_seconds: float = 0.5
    queries: int = 128
    max_seconds: float = 60.0
    p99_bound: float = 1.0
    server_trials: int = 6
    server_batch: int = 32
    margin: float = 5.0


def measure(
    scenario: Scenario,
    fitted: Mapping[str, tuple[PlannedCell, Method]],
    backbone: Backbone,
    budget: Budget,
    protocol: Protocol,
    done: Callable[[int, int], None] = lambda step, of: None,
) -> ThroughputRecord:
    """Time all of `fitted` under `scenario`, interleaved."""
    first = next(planned for planned, _ in fitted.values())
    answers = {name: _answer(planned, method, backbone, budget) for name, (planned, method) in fitted.items()}
    per_row, seed = first.test.candidates, first.cell.seed
    stock = [first.test.examples[i : i + per_row] for i in range(0, len(first.test.examples), per_row)]
    peak = peak_of(backbone)
    roles: dict[str, str] = {planned.method.card.role: name for name, (planned, _) in fitted.items()}
    kinds: dict[str, str] = {name: planned.method.card.inference for name, (planned, _) in fitted.items()}
    meter = BusyMeter()
    trials: dict[str, list[Trial]] = {}
    if scenario == "offline":
        timed = scenarios.offline(
            answers, stock, rounds=protocol.rounds, block=protocol.block,
            min_seconds=protocol.min_seconds, seed=seed, done=done,
            vague=partial(_vague, roles.get("baseline"), kinds, protocol.margin),
        )  # fmt: skip
    elif scenario == "single-stream":
        timed = scenarios.single_stream(
            answers, stock, queries=protocol.queries, max_seconds=protocol.max_seconds, seed=seed, done=done
        )
    else:
        timed, trials = _server(answers, stock, protocol, seed, done)
    others = meter.share()
    qps = {name: _qps(one, trials.get(name), protocol) for name, one in timed.items()}
    measurements = [
        _measurement(scenario, name, *fitted[name], timed, qps, trials, roles, backbone, peak, others, protocol)
        for name in fitted
    ]
    return ThroughputRecord(
        scenario=scenario,
        cell=first.cell,
        baseline=roles.get("baseline"),
        reference=roles.get("reference"),
        margin=protocol.margin,
        p99_bound=protocol.p99_bound if scenario == "server" else None,
        examples=len(first.test),
        peak_flops=peak,
        other_load=others,
        measurements=measurements,
        environment=surroundings_of(str(backbone.device), backbone.card.dtype, engine_of(backbone).label),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _vague(base: str | None, kinds: Mapping[str, str], margin: float, timed: Mapping[str, Timed]) -> set[str]:
    """Return the baseline and those that answer as it does, if their ratio is not known to `margin` % yet."""
    if base is None:
        return set()
    alike = [name for name, kind in kinds.items() if kind == kinds[base] and name != base]
    vague = {name for name in alike if not figures.sharp(timed[name].blocks, timed[base].blocks, margin)}
    return vague | {base} if vague else vague


def _answer(planned: PlannedCell, method: Method, backbone: Backbone, budget: Budget) -> Answer:
    context = Context(backbone, budget, planned.loaded.card.name, planned.cell.seed)

    def answer(queries: Sequence[Query]) -> tuple[int, int]:
        predictions = method.predict([example for query in queries for example in query], context)
        synchronise(str(backbone.device))
        return sum(predictions.tokens_in), sum(predictions.tokens_out)

    return answer


def _server(
    answers: Mapping[str, Answer],
    stock: Sequence[Query],
    protocol: Protocol,
    seed: int,
    done: Callable[[int, int], None],
) -> tuple[dict[str, Timed], dict[str, list[Trial]]]:
    timed = scenarios.offline(
        answers, stock, rounds=2, block=protocol.block, min_seconds=protocol.min_seconds, seed=seed
    )
    ceilings = {name: one.queries / one.seconds for name, one in timed.items()}
    # As many queries as a method answers in its share of the time.
    share = protocol.max_seconds / protocol.server_trials
    queries = {name: int(max(20, min(protocol.queries, rate * share))) for name, rate in ceilings.items()}
    trials = scenarios.server(
        answers, stock, ceilings=ceilings, bound=protocol.p99_bound, queries=queries,
        batch=protocol.server_batch, trials=protocol.server_trials, seed=seed, done=done,
    )  # fmt: skip
    return timed, trials


def _qps(own: Timed, trials: Sequence[Trial] | None, protocol: Protocol) -> Figure:
    if trials is None:
        return figures.qps(own.blocks)
    return figures.held(trials, protocol.p99_bound, own.queries / own.seconds)


def _measurement(
    scenario: Scenario,
    name: str,
    planned: PlannedCell,
    method: Method,
    timed: Mapping[str, Timed],
    qps: Mapping[str, Figure],
    trials: Mapping[str, list[Trial]],
    roles: Mapping[str, str],
    backbone: Backbone,
    peak: float,
    others: float,
    protocol: Protocol,
) -> Measurement:
    own = timed[name]
    card, engine = planned.method.card, engine_of(backbone)
    found = Measurement(
        method=name,
        identity=planned.identity,
        inference=card.inference,
        engine=engine.label if card.inference != "none" else "none",
        batch_policy=_batch_policy(scenario, card.inference, protocol, engine),
        qps=qps[name],
        tokens_in=own.tokens_in / own.queries,
        tokens_out=own.tokens_out / own.queries,
        reasons=_reasons(scenario, own, others, qps[name], trials.get(name)),
    )
    if scenario == "server":
        found.trials = trials[name]
    elif scenario == "single-stream":
        found.latencies = own.latencies
        found.percentiles = {f"p{p}": figures.percentile(own.latencies, p / 100, scenarios.TURN) for p in (50, 90, 99)}
    else:
        found.blocks = own.blocks
    for role in ("reference", "baseline"):
        other = roles.get(role, name)
        if other == name or other not in timed:
            continue
        if scenario == "server":
            figure, within = figures.quotient(qps[name], qps[other]), None
        else:
            figure, within = figures.ratio(own.blocks, timed[other].blocks, protocol.margin)
        if role == "reference":
            found.ratio = figure
        else:
            found.ratio_to_baseline = figure
            found.equivalent_p = within.equivalent if within else None
    if card.inference != "none":
        found.achieved_flops = model_flops(backbone, own.tokens_in, own.tokens_out) / own.seconds
        found.roofline_share = found.achieved_flops / peak
    found.verdict = "INVALID" if found.reasons else "VALID"
    return found


def _batch_policy(scenario: Scenario, inference: str, protocol: Protocol, engine: Engine) -> str:
    if inference == "none":
        return "none"
    if scenario == "single-stream":
        return "one example"
    if scenario == "server":
        return f"what is waiting, at most {protocol.server_batch}"
    if engine.batching:
        return engine.batching
    return "by length, without padding" if inference != "generate" else "by length, rows that are done leave"


def _reasons(scenario: Scenario, own: Timed, others: float, qps: Figure, trials: Sequence[Trial] | None) -> list[str]:
    """Say what makes a figure unfit to be quoted."""
    reasons = []
    if own.queries < MIN_QUERIES:
        reasons.append(f"too few queries ({own.queries} of {MIN_QUERIES}); raise --rounds or --block")
    if others > MAX_OTHER_LOAD:
        reasons.append(f"busy machine: others used {others:.0%} of the processors")
    if scenario == "offline" and abs(change := figures.drift(own.blocks)) > MAX_DRIFT:
        reasons.append(f"clock drift: the last rounds were {change:+.0%} against the first")
    if scenario == "single-stream" and len(own.latencies) < P99_QUERIES:
        reasons.append(f"p99 of {len(own.latencies)} queries; {P99_QUERIES} are needed")
    if trials:
        if qps.value == 0:
            reasons.append("no tried rate held the bound")
        if trials[0].queries < P99_QUERIES:
            reasons.append(f"p99 of {trials[0].queries} queries; {P99_QUERIES} are needed")
    return reasons
