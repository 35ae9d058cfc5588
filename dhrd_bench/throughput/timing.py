"""Running a scenario on the fitted methods of one task and seed, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.device import synchronise
from dhrd_bench.contracts import Method, spelled
from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.request import Scenario
from dhrd_bench.results.timed import Figure, Trial
from dhrd_bench.throughput import figures, scenarios
from dhrd_bench.throughput.machine import BusyMeter
from dhrd_bench.throughput.scenarios import Answer, Query, Visits

Report = Callable[[int, int], None]
"""Is told how many steps are done, of how many."""


@dataclass(frozen=True)
class TimingSettings:
    """How long and how often.

    Attributes
    ----------
    rounds, block, min_seconds
        Offline: rounds at least, queries of a visit, and seconds that a visit takes at least.
    queries, max_seconds
        Single-stream and server: queries of a method, and the seconds that they may take.
    p99_bound
        Server: seconds that the 99th percentile of the latencies must stay within.
    server_trials, server_batch
        Server: arrival rates tried a method, and queries answered together at most.
    margin
        Percent within which two throughputs count as equal.
    """

    rounds: int = 10
    block: int = 48
    min_seconds: float = 0.5
    queries: int = 128
    max_seconds: float = 60.0
    p99_bound: float = 1.0
    server_trials: int = 6
    server_batch: int = 32
    margin: float = 5.0


@dataclass(frozen=True)
class Timing:
    """What a scenario measured, by method.

    Attributes
    ----------
    visits
        What each method did; server: in the short offline run that comes before.
    trials
        Server: the arrival rates that were tried.
    baseline, reference
        Names of the methods that the others are compared with, if they are among them.
    other_load
        Share of the processors that others used meanwhile.
    """

    scenario: Scenario
    settings: TimingSettings
    visits: dict[str, Visits]
    trials: dict[str, list[Trial]]
    baseline: str | None
    reference: str | None
    other_load: float

    def qps(self, name: str) -> Figure:
        """Return queries a second; server: the highest arrival rate that held the bound."""
        visits = self.visits[name]
        if self.scenario != "server":
            return figures.qps(visits.blocks)
        return figures.held(self.trials[name], self.settings.p99_bound, visits.queries / visits.seconds)


def time_methods(
    scenario: Scenario,
    fitted: Mapping[str, tuple[PlannedCell, Method]],
    backbone: Backbone,
    settings: TimingSettings,
    done: Report,
) -> Timing:
    """Run `scenario` on all of `fitted`, which are of one task and seed; they answer the same queries."""
    first = next(planned for planned, _ in fitted.values())
    answers = {name: _answer(planned, method, backbone) for name, (planned, method) in fitted.items()}
    per_row, seed = first.test.candidates, first.cell.seed
    stock = [first.test.examples[i : i + per_row] for i in range(0, len(first.test.examples), per_row)]
    roles: dict[str, str] = {planned.method.card.role: name for name, (planned, _) in fitted.items()}
    baseline = roles.get("baseline")
    meter = BusyMeter()
    trials: dict[str, list[Trial]] = {}
    if scenario == "offline":
        kinds = {name: spelled(planned.method.card.inference) for name, (planned, _) in fitted.items()}
        visits = scenarios.offline(
            answers, stock, rounds=settings.rounds, block=settings.block,
            min_seconds=settings.min_seconds, seed=seed, done=done,
            vague=partial(_vague, baseline, kinds, settings.margin),
        )  # fmt: skip
    elif scenario == "single-stream":
        visits = scenarios.single_stream(
            answers, stock, queries=settings.queries, max_seconds=settings.max_seconds, seed=seed, done=done
        )
    else:
        visits, trials = _server(answers, stock, settings, seed, done)
    return Timing(scenario, settings, visits, trials, baseline, roles.get("reference"), meter.share())


def _vague(base: str | None, kinds: Mapping[str, str], margin: float, visits: Mapping[str, Visits]) -> set[str]:
    """Return the baseline and those that answer as it does, if their ratio is not known to `margin` % yet."""
    if base is None:
        return set()
    alike = [name for name, kind in kinds.items() if kind == kinds[base] and name != base]
    vague = {name for name in alike if not figures.sharp(visits[name].blocks, visits[base].blocks, margin)}
    return vague | {base} if vague else vague


def _answer(planned: PlannedCell, method: Method, backbone: Backbone) -> Answer:
    context = planned.context(backbone)

    def answer(queries: Sequence[Query]) -> tuple[int, int]:
        predictions = method.predict([example for query in queries for example in query], context)
        synchronise(str(backbone.device))
        return sum(predictions.tokens_in), sum(predictions.tokens_out)

    return answer


def _server(
    answers: Mapping[str, Answer], stock: Sequence[Query], settings: TimingSettings, seed: int, done: Report
) -> tuple[dict[str, Visits], dict[str, list[Trial]]]:
    visits = scenarios.offline(
        answers, stock, rounds=2, block=settings.block, min_seconds=settings.min_seconds, seed=seed
    )
    ceilings = {name: visited.queries / visited.seconds for name, visited in visits.items()}
    # As many queries as a method answers in its share of the time.
    share = settings.max_seconds / settings.server_trials
    queries = {name: int(max(20, min(settings.queries, rate * share))) for name, rate in ceilings.items()}
    trials = scenarios.server(
        answers, stock, ceilings=ceilings, bound=settings.p99_bound, queries=queries,
        batch=settings.server_batch, trials=settings.server_trials, seed=seed, done=done,
    )  # fmt: skip
    return visits, trials
