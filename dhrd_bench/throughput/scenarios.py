"""Load scenarios, after MLPerf's: all at once, one at a time, and as they arrive.

A scenario knows nothing of methods: it is given functions that answer a list of queries. A query is
the examples of one test row: one, or one a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dhrd_bench.backbones.workclock import work_clock
from dhrd_bench.contracts import Example
from dhrd_bench.results.timed import Trial
from dhrd_bench.throughput import figures

MORE = 3
"""Times as many rounds that two methods of nearly equal throughput may take."""

TURN = 8
"""Single queries between two changes of method, so that weights are not swapped for each of them."""

Query = Sequence[Example]
Answer = Callable[[Sequence[Query]], tuple[int, int]]
"""Answers queries; returns tokens read and tokens written."""


@dataclass(slots=True)
class Visits:
    """What one method did under a scenario.

    Attributes
    ----------
    blocks
        (queries, seconds) of each visit; single-stream: of each turn of `TURN` queries.
    latencies
        Seconds of each single query.
    tokens_in, tokens_out, queries, seconds
        Totals over all timed visits.
    """

    blocks: list[tuple[float, float]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    tokens_in: int = 0
    tokens_out: int = 0
    queries: int = 0
    seconds: float = 0.0

    def visit(self, answer: Answer, queries: Sequence[Query]) -> float:
        """Time one call; return its seconds."""
        started = work_clock()
        read, written = answer(queries)
        seconds = work_clock() - started
        self.tokens_in += read
        self.tokens_out += written
        self.queries += len(queries)
        self.seconds += seconds
        return seconds


def offline(
    answers: Mapping[str, Answer],
    stock: Sequence[Query],
    *,
    rounds: int,
    block: int,
    min_seconds: float,
    seed: int,
    done: Callable[[int, int], None] = lambda round_, of: None,
    vague: Callable[[Mapping[str, Visits]], Collection[str]] = lambda visits: (),
) -> dict[str, Visits]:
    """Time every method on the same block of queries, round by round.

    The methods take turns within a round and a different one begins each round (A B C, B C A, ...). A
    visit opens with an untimed call, which brings the method's weights into place and warms up what
    there is to warm. A visit shorter than `min_seconds` repeats its block until it is not. After
    `rounds` rounds those that `vague` still names have more, among themselves, up to `MORE` times as many
    in all.
    """
    names = list(answers)
    visits = {name: Visits() for name in names}
    blocks = _blocks(stock, MORE * rounds, block, seed)
    for number, chosen in enumerate(blocks):
        if number >= rounds:
            still = vague(visits)
            names = [name for name in names if name in still]
            if not names:
                break
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            answers[name](chosen[:2])
            count, seconds = 0, 0.0
            while not count or seconds < min_seconds:
                seconds += visits[name].visit(answers[name], chosen)
                count += len(chosen)
            visits[name].blocks.append((float(count), seconds))
        done(number + 1, rounds if number < rounds else MORE * rounds)
    return visits


def _blocks(stock: Sequence[Query], rounds: int, block: int, seed: int) -> list[list[Query]]:
    """Draw `rounds` blocks without replacement, beginning anew when the queries run out."""
    rng = np.random.default_rng(seed)
    size = min(block, len(stock))
    left: list[int] = []
    blocks = []
    for _ in range(rounds):
        if len(left) < size:
            left = rng.permutation(len(stock)).tolist()
        blocks.append([stock[i] for i in left[:size]])
        left = left[size:]
    return blocks


def single_stream(
    answers: Mapping[str, Answer],
    stock: Sequence[Query],
    *,
    queries: int,
    max_seconds: float,
    seed: int,
    done: Callable[[int, int], None] = lambda query, of: None,
) -> dict[str, Visits]:
    """Time one query at a time, each of them on every method in turn.

    A method that has used `max_seconds` sits out the remaining queries.
    """
    order = np.random.default_rng(seed).permutation(len(stock)).tolist()
    visits = {name: Visits() for name in answers}
    for start in range(0, queries, TURN):
        end = min(start + TURN, queries)
        for name, answer in answers.items():
            if visits[name].seconds >= max_seconds:
                continue
            answer([stock[order[start % len(order)]]])
            turn = [visits[name].visit(answer, [stock[order[query % len(order)]]]) for query in range(start, end)]
            visits[name].latencies += turn
            visits[name].blocks.append((float(len(turn)), sum(turn)))
        done(end, queries)
    return visits


def serve(answer: Answer, stock: Sequence[Query], rate: float, queries: int, batch: int, seed: int) -> Trial:
    """Serve Poisson arrivals at `rate` a second.

    One worker takes up to `batch` of what is waiting and answers it. Service times are measured;
    between them the clock jumps to the next arrival, so that no time is spent waiting for it.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, queries))
    chosen = rng.integers(len(stock), size=queries)
    latencies: list[float] = []
    now, first = 0.0, 0
    while first < queries:
        now = max(now, float(arrivals[first]))
        waiting = int(np.searchsorted(arrivals, now, side="right"))
        last = min(max(waiting, first + 1), first + batch)
        started = work_clock()
        answer([stock[i] for i in chosen[first:last]])
        now += work_clock() - started
        latencies += (now - arrivals[first:last]).tolist()
        first = last
    p99 = figures.percentile(latencies, 0.99, math.isqrt(queries))
    p50 = float(np.median(latencies))
    return Trial(rate=rate, p50=p50, p99=p99.value, p99_low=p99.low, p99_high=p99.high, queries=queries)


def server(
    answers: Mapping[str, Answer],
    stock: Sequence[Query],
    *,
    ceilings: Mapping[str, float],
    bound: float,
    queries: Mapping[str, int],
    batch: int,
    trials: int,
    seed: int,
    done: Callable[[int, int], None] = lambda trial, of: None,
) -> dict[str, list[Trial]]:
    """Search each method's highest arrival rate whose p99 latency stays within `bound` seconds.

    Bisection below `ceilings`, the offline rates, which no arrival rate can pass for long. The methods take turns:
    each has its first trial, then each its second.
    """
    low, high = dict.fromkeys(answers, 0.0), dict(ceilings)
    tried: dict[str, list[Trial]] = {name: [] for name in answers}
    for number in range(trials):
        for name, answer in answers.items():
            answer(stock[:2])
            rate = (low[name] + high[name]) / 2
            trial = serve(answer, stock, rate, queries[name], batch, seed + number)
            tried[name].append(trial)
            (low if trial.p99 <= bound else high)[name] = rate
        done(number + 1, trials)
    return tried
