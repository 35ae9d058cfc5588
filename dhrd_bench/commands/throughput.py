"""The ``throughput`` command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.progress import show_progress
from dhrd_bench.request import RunRequest
from dhrd_bench.results.timed import Figure, Measurement, ThroughputRecord

if TYPE_CHECKING:
    from dhrd_bench.throughput.measure import Protocol


def throughput_command(request: RunRequest, settings: Protocol, console: Console) -> int:
    """Time the fitted methods of every task and seed of a request.

    Returns
    -------
    int
        0 if every figure is VALID, else 1.
    """
    return time_and_print(make_plan(request), settings, console)


def time_and_print(plan: Plan, settings: Protocol, console: Console) -> int:
    """Time the cells of `plan` in the scenarios of its request, printing each record as it comes.

    Returns
    -------
    int
        0 if every figure is VALID, else 1.
    """
    from dhrd_bench.throughput.plan import time_plan

    valid = True
    scenarios = plan.request.throughput
    groups = len({(planned.cell.task, planned.cell.seed) for planned in plan.cells})
    with show_progress(console, groups * len(scenarios), "timings") as display:
        for record in time_plan(plan, settings, display):
            console.print(as_table(record))
            for measurement in record.measurements:
                for reason in measurement.reasons:
                    line = f"[yellow]{measurement.verdict}[/] {escape(f'{measurement.method}: {reason}')}"
                    console.print(line, highlight=False, soft_wrap=True)
            console.print(equivalence_sentence(record), highlight=False, soft_wrap=True)
            valid = valid and all(measurement.verdict == "VALID" for measurement in record.measurements)
    return 0 if valid else 1


def as_table(record: ThroughputRecord) -> Table:
    """Lay a record out for people."""
    cell = record.cell
    title = f"{cell.suite} {cell.task}, {cell.backbone}, {cell.budget}, seed {cell.seed}: {record.scenario}"
    if record.p99_bound is not None:
        title += f", p99 within {record.p99_bound:g} s"
    table = Table(title=title, title_justify="left", show_edge=False)
    latency = record.scenario == "single-stream"
    columns = ["method", "QPS", *(["p50 ms", "p90 ms", "p99 ms"] if latency else [])]
    columns += [f"to {record.reference or '-'}", f"to {record.baseline or '-'}", "tokens", "roofline", ""]
    for column in columns:
        table.add_column(column, justify="left" if column in ("method", "") else "right", overflow="fold")
    for one in record.measurements:
        # Their intervals are in the record: three pairs of brackets more would fit no terminal.
        percentiles = [f"{one.percentiles[p].value * 1000:.3g}" for p in ("p50", "p90", "p99")] if latency else []
        table.add_row(
            one.method,
            _figure(one.qps),
            *percentiles,
            "1" if one.method == record.reference else _figure(one.ratio),
            "1" if one.method == record.baseline else _figure(one.ratio_to_baseline),
            f"{one.tokens_in:.0f}/{one.tokens_out:.0f}",
            "" if one.roofline_share is None else f"{one.roofline_share:.0%}",
            one.verdict,
        )
    return table


def equivalence_sentence(record: ThroughputRecord) -> str:
    """Say of every method whether its throughput equals the baseline's, and if not, why not."""
    sentences = [_equivalence(one, record) for one in record.measurements if one.equivalent_p is not None]
    return "\n".join(sentences)


def _equivalence(one: Measurement, record: ThroughputRecord) -> str:
    ratio = one.ratio_to_baseline
    assert ratio is not None
    assert one.equivalent_p is not None
    claim = f"{one.method} and {record.baseline} within {record.margin:g} %"
    if one.equivalent_p <= 0.05:
        return f"{claim}: equivalent (p = {one.equivalent_p:.3g})."
    bounds = (1 - record.margin / 100, 1 + record.margin / 100)
    if ratio.low is not None and ratio.high is not None and (ratio.low > bounds[1] or ratio.high < bounds[0]):
        return f"{claim}: not equivalent, the interval {_figure(ratio)} lies outside."
    return (
        f"{claim}: undecided (p = {one.equivalent_p:.2g}), the interval {_figure(ratio)} reaches over the margin; "
        "more rounds narrow it."
    )


def _figure(figure: Figure | None, scale: float = 1.0) -> str:
    if figure is None:
        return ""
    value, low, high = (None if x is None else x * scale for x in (figure.value, figure.low, figure.high))
    assert value is not None
    digits = 2 if value < 10 else 1 if value < 100 else 0
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
