"""From a timing of methods against each other to a record, with what makes a figure unfit to be quoted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Method, MethodCard, spelled
from dhrd_bench.grid.environment import surroundings_of
from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.inference.engine import Engine
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.request import Scenario
from dhrd_bench.results.timed import Figure, Measurement, ThroughputRecord
from dhrd_bench.throughput import figures, scenarios
from dhrd_bench.throughput.roofline import model_flops, peak_of
from dhrd_bench.throughput.timing import Report, Timing, TimingSettings, time_methods

MIN_QUERIES = 64
MAX_DRIFT = 0.15
MAX_OTHER_LOAD = 0.10
P99_QUERIES = 100


def measure(
    scenario: Scenario,
    fitted: Mapping[str, tuple[PlannedCell, Method]],
    backbone: Backbone,
    settings: TimingSettings,
    done: Report = lambda step, of: None,
) -> ThroughputRecord:
    """Time all of `fitted` under `scenario`, interleaved."""
    first = next(planned for planned, _ in fitted.values())
    peak = peak_of(backbone)
    timing = time_methods(scenario, fitted, backbone, settings, done)
    return ThroughputRecord(
        scenario=scenario,
        cell=first.cell,
        baseline=timing.baseline,
        reference=timing.reference,
        margin=settings.margin,
        p99_bound=settings.p99_bound if scenario == "server" else None,
        examples=len(first.test),
        peak_flops=peak,
        other_load=timing.other_load,
        measurements=[_measurement(name, planned, timing, backbone, peak) for name, (planned, _) in fitted.items()],
        environment=surroundings_of(str(backbone.device), backbone.card.dtype, engine_of(backbone).label),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _measurement(name: str, planned: PlannedCell, timing: Timing, backbone: Backbone, peak: float) -> Measurement:
    """Say what `timing` tells of one method; `peak` is what the machine reaches, in FLOP/s."""
    visits, qps = timing.visits[name], timing.qps(name)
    card, engine = planned.method.card, engine_of(backbone)
    reasons = _reasons(name, timing, qps)
    measurement = Measurement(
        method=name,
        identity=planned.identity,
        inference=spelled(card.inference),
        engine=engine.label if card.kinds else "none",
        batch_policy=_batch_policy(timing, card, engine),
        qps=qps,
        tokens_in=visits.tokens_in / visits.queries,
        tokens_out=visits.tokens_out / visits.queries,
        reasons=reasons,
        verdict="INVALID" if reasons else "VALID",
    )
    if timing.scenario == "server":
        measurement.trials = timing.trials[name]
    elif timing.scenario == "single-stream":
        measurement.latencies = visits.latencies
        measurement.percentiles = {
            f"p{p}": figures.percentile(visits.latencies, p / 100, scenarios.TURN) for p in (50, 90, 99)
        }
    else:
        measurement.blocks = visits.blocks
    measurement.ratio, _ = _ratio(name, timing.reference, timing)
    measurement.ratio_to_baseline, measurement.equivalent_p = _ratio(name, timing.baseline, timing)
    if card.kinds:
        measurement.achieved_flops = model_flops(backbone, visits.tokens_in, visits.tokens_out) / visits.seconds
        measurement.roofline_share = measurement.achieved_flops / peak
    return measurement


def _ratio(name: str, other: str | None, timing: Timing) -> tuple[Figure | None, float | None]:
    """Return QPS over that of `other`, and the p-value of being within the margin; None of what is not known."""
    if other is None or other == name:
        return None, None
    if timing.scenario == "server":
        return figures.quotient(timing.qps(name), timing.qps(other)), None
    figure, within = figures.ratio(timing.visits[name].blocks, timing.visits[other].blocks, timing.settings.margin)
    return figure, within.equivalent if within else None


def _batch_policy(timing: Timing, card: MethodCard, engine: Engine) -> str:
    if not card.kinds:
        return "none"
    if timing.scenario == "single-stream":
        return "one example"
    if timing.scenario == "server":
        return f"what is waiting, at most {timing.settings.server_batch}"
    if engine.batching:
        return engine.batching
    return "by length, without padding" if "generate" not in card.kinds else "by length, rows that are done leave"


def _reasons(name: str, timing: Timing, qps: Figure) -> list[str]:
    """Say what makes a figure unfit to be quoted."""
    visits, reasons = timing.visits[name], []
    if visits.queries < MIN_QUERIES:
        reasons.append(f"too few queries ({visits.queries} of {MIN_QUERIES}); raise --rounds or --block")
    if timing.other_load > MAX_OTHER_LOAD:
        reasons.append(f"busy machine: others used {timing.other_load:.0%} of the processors")
    if timing.scenario == "offline" and abs(change := figures.drift(visits.blocks)) > MAX_DRIFT:
        reasons.append(f"clock drift: the last rounds were {change:+.0%} against the first")
    if timing.scenario == "single-stream" and len(visits.latencies) < P99_QUERIES:
        reasons.append(f"p99 of {len(visits.latencies)} queries; {P99_QUERIES} are needed")
    if trials := timing.trials.get(name):
        if qps.value == 0:
            reasons.append("no tried rate held the bound")
        if trials[0].queries < P99_QUERIES:
            reasons.append(f"p99 of {trials[0].queries} queries; {P99_QUERIES} are needed")
    return reasons
