"""Put the statistics to the test on made-up grids with known truth: ``python -m dhrd_bench.stats.validate``.

How often the 95 % intervals hold the truth is the coverage; how often two equally good methods are found to
differ at 5 % is the type-I error; how often a true difference is found is the power. The kinds of grids are in
`dhrd_bench.stats.trials`.

With ``--write docs/statistics.md`` the tables replace what stands between the two marks in that file. What has
been counted is kept in the file ``--state``, from which a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from dhrd_bench.progress import Display
from dhrd_bench.stats.simulate import SUPERGLUE, Shape
from dhrd_bench.stats.trials import KINDS, RESAMPLES, STARS, SUITE_STARS, Key, Kind

BEGIN, END = "<!-- validation: begin -->", "<!-- validation: end -->"
BATCH = 25
"""Grids that are drawn, and kept in the state, at a time."""

Counts = dict[Key, tuple[int, int]]
"""Hits and trials of each figure."""


@dataclass(frozen=True)
class Entry:
    """Hits out of trials of one figure."""

    hits: int
    trials: int

    @property
    def rate(self) -> float:
        """Share of hits in %."""
        return 100.0 * self.hits / self.trials

    def band(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval of the rate, the Monte-Carlo band, in %."""
        z, n, p = 1.96, self.trials, self.hits / self.trials
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return 100 * (centre - half) / (1 + z * z / n), 100 * (centre + half) / (1 + z * z / n)


# ---------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Job:
    """Some grids of one kind."""

    kind: Kind
    shapes: tuple[Shape, ...]
    seeds: int
    numbers: range

    @property
    def name(self) -> str:
        """What it is called in the state: all that its outcome depends on but the code."""
        return f"{self.kind!r} {self.seeds} {self.numbers.start}-{self.numbers.stop} {self.shapes!r} {RESAMPLES}"


def count(job: Job) -> Counts:
    """Draw the grids of a job."""
    total: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
    with threadpool_limits(1):  # the processes share the cores, and the matrices are small
        for number in job.numbers:
            for key, hit in job.kind.once(job.shapes, job.seeds, number).items():
                total[key][0] += hit
                total[key][1] += 1
    return {key: (hits, trials) for key, (hits, trials) in total.items()}


def run(
    grids: int,
    kinds: Sequence[Kind] = KINDS,
    shapes: tuple[Shape, ...] = SUPERGLUE,
    workers: int = 1,
    state: Path | None = None,
) -> dict[Key, Entry]:
    """Draw `grids` grids of every kind and number of seeds; what `state` has of them is not drawn again."""
    # All kinds go on together, so that the time left can be told.
    jobs = [
        Job(kind, shapes, seeds, range(start, min(start + BATCH, grids)))
        for start in range(0, grids, BATCH)
        for kind in kinds
        for seeds in kind.seeds
    ]
    kept = State(state)
    done = {job: kept.counts[job.name] for job in jobs if job.name in kept.counts}
    left = [job for job in jobs if job not in done]
    for kind in dict.fromkeys(job.kind for job in left):
        kind.prepare(shapes)
    display = Display(Console(stderr=True), 1)
    display.begin(f"{len(left)} of {len(jobs)} batches")
    for number, (job, counts) in enumerate(_counted(left, workers)):
        done[job] = counts
        kept.add(job, counts)
        display.step("", number + 1, len(left), {})
    total: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
    for job in jobs:
        for key, (hits, trials) in done[job].items():
            total[key][0] += hits
            total[key][1] += trials
    return {key: Entry(hits, trials) for key, (hits, trials) in total.items()}


def _counted(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Counts]]:
    """Yield the jobs with their outcomes as they are done."""
    if workers == 1:
        yield from ((job, count(job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(workers)
    try:
        waiting = {pool.submit(count, job): job for job in jobs}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # a run that is cut off does not wait for what is queued


class State:
    """What has been counted so far, a line a job; lines of other code, or cut off, are as if they were not there."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.code = path, _code()
        self.counts: dict[str, Counts] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        for line in lines:
            try:
                code, name, rows = json.loads(line)
            except ValueError:
                continue
            if code == self.code:
                self.counts[name] = {tuple(key): (hits, trials) for key, hits, trials in rows}

    def add(self, job: Job, counts: Counts) -> None:
        """Keep the outcome of a job."""
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                rows = [(key, hits, trials) for key, (hits, trials) in counts.items()]
                file.write(f"\n{json.dumps((self.code, job.name, rows))}")


def _code() -> str:
    """Return a digest of the code that decides what is counted, but for this file, which only counts."""
    names = sorted(name for name in sys.modules if name.startswith(("dhrd_bench.stats.", "dhrd_bench.metrics")))
    files = [sys.modules[name].__file__ for name in names if name not in (__name__, "dhrd_bench.stats.validate")]
    return hashlib.sha256(b"\0".join(Path(file).read_bytes() for file in files if file)).hexdigest()[:16]


# ---------------------------------------------------------------- tables

WANTED = {
    "score": (93.0, 97.0), "gain": (93.0, 97.0), "IQM": (93.0, 97.0), "P(better)": (93.0, 97.0), "QPS": (93.0, 97.0),
    "QPS ratio": (93.0, 97.0), "type I": (0.0, 5.0), STARS: (0.0, 5.0), SUITE_STARS: (0.0, 5.0), "power": (75.0, 85.0),
}  # fmt: skip
"""By figure, between what its rate should lie, in %."""
CHOSEN = (
    ("score", "t"),
    ("gain", "t"),
    ("type I", "p"),
    (STARS, "p"),
    (SUITE_STARS, "p"),
    ("QPS", "t"),
    ("QPS ratio", "t"),
)
"""Figures and ways that are to be as wanted; the others are shown as they are."""


def tables(entries: Mapping[Key, Entry], grids: int) -> str:
    """Return the results as Markdown."""
    low, high = Entry(round(0.95 * grids), grids).band()
    least, most = Entry(round(0.8 * grids), grids).band()
    parts = [
        f"{grids} grids an entry; the Monte-Carlo band of an entry of 95.0 is {low:.1f}-{high:.1f}, of one of 80.0 "
        f"{least:.1f}-{most:.1f}. An entry is marked ↓ or ↑ if its band lies below or above 93-97 (coverage), above 5 "
        "(type I), or below or above 75-85 (power).\n"
    ]
    parts += [
        _by_task(entries, figure, way, title)
        for figure, way, title in (
            ("score", "t", "Coverage of the 95 % interval of a score, in %"),
            ("gain", "t", "Coverage of the 95 % interval of a relative gain, in %"),
            ("type I", "p", "Type-I error at 5 %, in %"),
            ("power", "p", "Power at the detectable difference that is printed, one comparison, in %"),
        )
    ]
    parts += [
        _by_figure(entries, figures, title)
        for figures, title in (
            ((STARS, SUITE_STARS), "Any false alarm in a table of equal methods, as printed: corrected, at 5 %, in %"),
            (("IQM", "P(better)"), "Coverage of the 95 % intervals over seeds of robust aggregates, in %"),
            (("QPS", "QPS ratio"), "Coverage of the 95 % intervals of throughput, in %"),
        )
    ]
    lines = ["**What was chosen over**: lowest, mean and highest entry over the same grids, in %", ""]
    lines += ["| figure | way | lowest | mean | highest |", "|---|---|---:|---:|---:|"]
    for figure, way in dict.fromkeys(key[2:4] for key in entries if key[2] in ("score", "gain", "type I")):
        rates = [entry.rate for key, entry in entries.items() if key[2:4] == (figure, way)]
        lines.append(f"| {figure} | {way} | {min(rates):.1f} | {np.mean(rates):.1f} | {max(rates):.1f} |")
    return "\n".join([*filter(None, parts), *lines]) + "\n"


def _by_task(entries: Mapping[Key, Entry], figure: str, way: str, title: str) -> str:
    """Return a table with a column for each task; empty if nothing was counted for it."""
    found = {(key[0], key[1], key[4]): entry for key, entry in entries.items() if key[2:4] == (figure, way)}
    return _table(found, figure, list(dict.fromkeys(task for *_, task in found)), title)


def _by_figure(entries: Mapping[Key, Entry], figures: Sequence[str], title: str) -> str:
    """Return a table with a column for each figure; empty if nothing was counted for it."""
    found = {(key[0], key[1], key[2]): entry for key, entry in entries.items() if key[2] in figures}
    return _table(found, figures[0], list(figures), title)


def _table(entries: Mapping[tuple[str, int, str], Entry], figure: str, columns: Sequence[str], title: str) -> str:
    if not entries:
        return ""
    lines = [f"**{title}**", "", f"| grid | seeds | {' | '.join(columns)} |", "|---|---:|" + "---:|" * len(columns)]
    for name, seeds in dict.fromkeys(key[:2] for key in entries):
        cells = [
            _mark(entries[name, seeds, column], figure) if (name, seeds, column) in entries else "–"
            for column in columns
        ]
        lines.append(f"| {name} | {seeds} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def outside(entries: Mapping[Key, Entry]) -> Iterable[Key]:
    """Yield the entries of the chosen ways whose Monte-Carlo band lies outside what is wanted."""
    for key, entry in entries.items():
        if (key[2], key[3]) in CHOSEN and _mark(entry, key[2])[-1] in "↓↑":
            yield key


def _mark(entry: Entry, figure: str) -> str:
    low, high = entry.band()
    least, most = WANTED[figure]
    mark = "↓" if high < least else "↑" if low > most else ""
    return f"{entry.rate:.1f}{mark}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulations, print the tables and, if asked, write them into a file."""
    parser = argparse.ArgumentParser(description="Coverage, type-I error and power on simulated grids.")
    parser.add_argument("--grids", type=int, default=1000, help="grids an entry")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, help="file of what has been counted, from which to go on")
    parser.add_argument("--write", type=Path, help=f"file in which to replace what stands between {BEGIN} and {END}")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    text = tables(run(options.grids, workers=options.workers, state=options.state), options.grids)
    sys.stdout.write(text)
    sys.stdout.write(f"\n{time.monotonic() - start:.0f} s\n")
    if options.write:
        write_between(options.write, BEGIN, END, text)
    return 0


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks in a file."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
