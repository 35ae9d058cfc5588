"""The leaderboard from records against a bootstrap cell by cell; start of the command line."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, Work, claim, timed
from scipy.stats import bootstrap

from dhrd_bench.results.store import read_records
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.bootstrap import resample
from dhrd_bench.stats.design import TaskGrid
from dhrd_bench.stats.selection import groups, select

RESAMPLES = 10_000
DHRD = Path(sys.executable).with_name("dhrd-bench")


def analysis(quick: bool) -> Row:
    """All figures of a leaderboard with 10,000 resamples, and `report` as a whole process."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import fakes

    methods = (*fakes.THREE, *(fakes.FakeMethod(f"method-{i}", 0.75 + i / 100) for i in range(12)))
    tasks, seeds = (fakes.SMALL, range(2)) if quick else (fakes.FULL, range(10))
    with tempfile.TemporaryDirectory() as folder:
        records = fakes.records(tasks, methods, seeds)
        fakes.write(Path(folder), records)
        table = long_table(read_records(Path(folder))[0])
        selection = select(table, groups(table)[0])
        # The peer's time is the sum over its cells, so some of them tell the time of all.
        some = [(m, s) for m in range(3) for s in range(1)]
        cells = sum(len(task.seeds) for task in selection.grid.tasks) * len(selection.grid.methods)
        errors: dict[str, float] = {}

        def ours(number: int) -> Work:
            return Work(cells, timed(lambda: analyse_selection(selection, resamples=RESAMPLES)))

        def peer(number: int) -> Work:
            def all_of_them() -> None:
                for task in selection.grid.tasks:
                    for m, s in some:
                        errors[task.name] = cell_error(task, m, s)

            return Work(len(some) * len(selection.grid.tasks), timed(all_of_them))

        row = Row(
            f"analysis of {len(records)} records, {RESAMPLES:,} resamples",
            "scipy.stats.bootstrap cell by cell (vectorised statistics, percentile intervals), timed on "
            f"{len(some)} cells of each task",
            f"{len(methods)} methods x {len(tasks)} tasks of SuperGLUE's sizes x {len(seeds)} seeds; ours also tests, "
            "ranks and compares all methods",
            "cells/s",
        )
        row.compare(ours, peer, 2 if quick else 3)
        row.claims.append(claim("ratio", row.ratios, 20.0))
        command = [str(DHRD), "report", "--results", folder]
        seconds = [timed(lambda: run(command)) for _ in range(2 if quick else 5)]
        row.claims.append(
            claim(f"report on {len(records)} records, whole process", seconds, 2.0, at_least=False, style="seconds")
        )
        own = {task.name: resample(task, RESAMPLES).draws for task in selection.grid.tasks}
        m, s = some[-1]
        gaps = [abs(draws[m, s].std() / errors[name] - 1) for name, draws in own.items() if draws is not None]
        row.checks.append(f"standard errors of the same cells agree within {max(gaps):.1%}")
        whole = statistics.median(seconds)
        alone = statistics.median(len(records) / rate for rate in row.ours)
        parts = {
            "analysis": alone,
            "reading and validating records": timed(lambda: read_records(Path(folder))),
            "table and selection": timed(lambda: select(long_table(records), groups(table)[0])),
        }
        parts["starting, imports, rendering"] = whole - sum(parts.values())
        row.profile = {part: max(0.0, taken / whole) for part, taken in parts.items()}
        row.profiled = "parts of a report, each timed by itself, share of the whole process"
        rest = whole - alone
        row.limit = (
            f"The analysis alone (bootstrap, sign flips of all pairs, draws of the front) takes {alone:.1f} s of a "
            f"report. All else (imports, a JSON parser in Rust, the table, the page) takes {rest:.1f} s, which leaves "
            f"{max(0.0, 2.0 - rest):.1f} s of the target for an analysis of however fast a resampling."
        )
    return row


def scale(quick: bool) -> Row:
    """`report` on the records of three hundred methods, as a whole process, with the memory it takes."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import fakes

    count, seeds = (30, 2) if quick else (300, 5)
    methods = [*fakes.THREE, *(fakes.FakeMethod(f"method-{i}", 0.6 + 0.3 * (0.618 * i % 1)) for i in range(count - 3))]
    cells = len(methods) * len(fakes.FULL) * seeds
    small = fakes.table(fakes.FULL, fakes.THREE, (0,))
    grid = select(small, groups(small)[0]).grid
    row = Row(
        f"report on {cells:,} records",
        "scipy.stats.bootstrap cell by cell, as in the row before, timed on one cell of each task",
        f"{count} methods x {len(fakes.FULL)} tasks of SuperGLUE's sizes x {seeds} seeds, {RESAMPLES:,} resamples; "
        "ours also reads the records, tests, ranks and compares all methods and writes Markdown",
        "cells/s",
    )
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:  # one at a time: all of them at once are larger than what is measured
            fakes.write(Path(folder), fakes.records(fakes.FULL, [method], range(seeds)))
        command = [str(DHRD), "report", "--results", folder, "--format", "markdown", "--output", f"{folder}/page.md"]
        used: list[tuple[float, float, float]] = []

        def ours(number: int) -> Work:
            used.append(consumed(command))
            return Work(cells, used[-1][0])

        def peer(number: int) -> Work:
            seconds = timed(lambda: [cell_error(task, 0, 0) for task in grid.tasks])
            return Work(len(grid.tasks), seconds)

        row.compare(ours, peer, 1 if quick else 3)
    seconds, processor, memory = (list(figures) for figures in zip(*used, strict=True))
    row.claims.append(claim("whole process", seconds, 60.0, at_least=False, style="seconds"))
    row.claims.append(claim("processor time", processor, 120.0, at_least=False, style="seconds"))
    row.claims.append(claim("peak memory", memory, 2.0, at_least=False, style="memory"))
    return row


def consumed(command: list[str]) -> tuple[float, float, float]:
    """Run a program to its end; return its seconds, those of its processors, and its peak memory in GiB."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, kilobytes / 2**20


def cell_error(task: TaskGrid, method: int, seed: int) -> float:
    """Bootstrap one cell's score over clusters with scipy; return its standard error."""
    labels, predictions = task.labels, task.predictions[method, seed]
    statistic = {
        ("accuracy",): accuracy,
        ("f1_macro", "accuracy"): f1_and_accuracy,
        ("f1a", "exact_match"): f1a_and_exact_match,
    }[tuple(task.info.metrics)]
    units, score = statistic(task, labels, predictions)
    found = bootstrap(units, score, n_resamples=RESAMPLES, vectorized=True, paired=True, method="percentile", rng=0)
    return float(found.standard_error)


def accuracy(task: TaskGrid, labels: Any, predictions: Any) -> tuple[Any, Any]:
    """Accuracy: rows are drawn."""
    return (100.0 * (labels == predictions),), np.mean


def f1_and_accuracy(task: TaskGrid, labels: Any, predictions: Any) -> tuple[Any, Any]:
    """Mean of macro F1 and accuracy: rows are drawn."""

    def score(truth: Any, said: Any, axis: int = -1) -> Any:
        f1 = []
        for k in range(task.classes):
            hits = ((truth == k) & (said == k)).sum(axis)
            f1.append(2 * hits / np.maximum((truth == k).sum(axis) + (said == k).sum(axis), 1))
        return 50.0 * np.mean(f1, axis=0) + 50.0 * (truth == said).mean(axis)

    return (labels, predictions), score


def f1a_and_exact_match(task: TaskGrid, labels: Any, predictions: Any) -> tuple[Any, Any]:
    """Mean of F1 over answers and exact match over questions: clusters are drawn, by their counts."""
    clusters = task.n_clusters

    def count(flags: Any) -> Any:
        return np.bincount(task.clusters, weights=flags, minlength=clusters)

    wrong = np.bincount(task.groups, weights=labels != predictions)
    owner = np.zeros(len(wrong), dtype=int)
    owner[task.groups] = task.clusters
    columns = [
        count((labels == 1) & (predictions == 1)),
        count(labels == 1),
        count(predictions == 1),
        np.bincount(owner, weights=wrong == 0, minlength=clusters),
        np.bincount(owner, minlength=clusters).astype(float),
    ]

    def score(hits: Any, true: Any, said: Any, exact: Any, questions: Any, axis: int = -1) -> Any:
        f1 = 2 * hits.sum(axis) / np.maximum(true.sum(axis) + said.sum(axis), 1)
        return 50.0 * f1 + 50.0 * exact.sum(axis) / questions.sum(axis)

    return tuple(columns), score


def run(command: list[str]) -> None:
    """Run a program to its end."""
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def start(quick: bool) -> Row:
    """Time from the shell to the help text and back."""
    row = Row("start: --help", "lm_eval --help", "whole process, files in the page cache", "s")
    peer = [str(DHRD.with_name("lm_eval")), "--help"]
    run(peer)
    run([str(DHRD), "--help"])
    row.compare(
        lambda number: Work(1, timed(lambda: run([str(DHRD), "--help"]))),
        lambda number: Work(1, timed(lambda: run(peer))),
        2 if quick else 5,
    )
    row.claims.append(claim("ratio", row.ratios, 1.0))
    return row
