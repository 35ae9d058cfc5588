"""The ``throughput`` command, and ``run --throughput``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.results.store import record_path as cell_path
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.results.timed import Figure, Measurement, Scenario, ThroughputRecord

if TYPE_CHECKING:
    from dhrd_bench.throughput.timing import TimingSettings

SCENARIOS: tuple[Scenario, ...] = ("offline", "single-stream", "server")


def throughput_command(
    *, console: Console, scenarios: str, results: Path, settings: dict[str, Any], **wanted: Any
) -> int:
    """Time the fitted methods of every task and seed of a plan.

    Returns
    -------
    int
        0 if every figure is VALID, else 1.
    """
    chosen = read_scenarios(scenarios)
    return _time_and_tell(make_plan(results=results, **wanted), chosen, results, settings, console)


def run_and_time(*, console: Console, dry_run: bool, scenarios: str, results: Path, **wanted: Any) -> int:
    """Run the missing cells of a plan, keep what they fitted, then time it.

    Cells that had a record but whose fitted method was not kept are fitted once more; cells that
    failed are left out.

    Returns
    -------
    int
        What `run` returns if that is not 0, else what `throughput_command` does.
    """
    from dhrd_bench.commands.run import INTERRUPTED, run_command
    from dhrd_bench.throughput.fitted import save_fitted

    chosen = read_scenarios(scenarios)  # a typing error is told before hours of work
    code = run_command(console=console, dry_run=dry_run, results=results, keep=save_fitted, **wanted)
    if dry_run or code == INTERRUPTED:
        return code
    plan = make_plan(results=results, **wanted)  # anew: it knows which cells have a record by now
    ready = replace(plan, cells=tuple(planned for planned in plan.cells if planned.record is not None))
    return _time_and_tell(ready, chosen, results, {}, console) or code


def _time_and_tell(
    plan: Plan, scenarios: Sequence[Scenario], results: Path, settings: dict[str, Any], console: Console
) -> int:
    from dhrd_bench.throughput.timing import TimingSettings

    valid = True
    for record in time_plan(plan, scenarios, results, TimingSettings(**settings), console):
        console.print(as_table(record))
        for one in record.measurements:
            for reason in one.reasons:
                console.print(f"[yellow]{one.verdict}[/] {one.method}: {reason}", highlight=False, soft_wrap=True)
        console.print(equivalence_sentence(record), highlight=False, soft_wrap=True)
        valid = valid and all(one.verdict == "VALID" for one in record.measurements)
    return 0 if valid else 1


def time_plan(
    plan: Plan, scenarios: Sequence[Scenario], results: Path, protocol: TimingSettings, console: Console
) -> Iterator[ThroughputRecord]:
    """Fit what has not been kept, then time; records are written below `results` as they come."""
    from dhrd_bench.backbones import load
    from dhrd_bench.inference.engines import engine_of
    from dhrd_bench.throughput.fitted import obtain_fitted
    from dhrd_bench.throughput.measure import measure
    from dhrd_bench.throughput.progress import show_timings

    if not plan.cells:
        return
    backbone = load(plan.backbone)
    engine_of(backbone)  # before the first fit: this machine may not have it
    groups = [list(group) for _, group in groupby(plan.cells, key=lambda one: (one.cell.task, one.cell.seed))]
    with show_timings(console, len(groups) * len(scenarios)) as progress:
        for group in groups:
            name = f"{group[0].cell.task} seed {group[0].cell.seed}"
            fitted = {}
            for planned in group:
                progress.begin(f"{name} {planned.cell.method}")
                method, loaded = obtain_fitted(
                    planned, backbone, plan.budget, lambda phase, done, total, figures: progress.step(done, total)
                )
                progress.say(f"{name} {planned.cell.method}: {'loaded' if loaded else 'fitted and kept'}")
                fitted[planned.cell.method] = (planned, method)
            backbone.frozen_states.clear()
            for scenario in scenarios:
                progress.begin(f"{name} {scenario}")
                record = measure(scenario, fitted, backbone, plan.budget, protocol, progress.step)
                write_text_atomically(record_path(results, record), record.model_dump_json(indent=1) + "\n")
                progress.end()
                yield record


def record_path(results: Path, record: ThroughputRecord) -> Path:
    """Return where a throughput record lives: beside the records of its budget."""
    folder = cell_path(results, record.cell).parent.parent.parent / "throughput" / record.cell.task
    return folder / f"{record.scenario}-{record.cell.seed}.json"


def read_scenarios(text: str) -> list[Scenario]:
    """Read a list like ``offline,server``.

    Raises
    ------
    UserError
        If one is unknown or none is named.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SCENARIOS:
            raise UserError(f"Unknown scenario {name!r}.", did_you_mean(name, SCENARIOS))
    if not names:
        raise UserError("No scenario was named.", f"Known: {', '.join(SCENARIOS)}.")
    return [scenario for scenario in SCENARIOS if scenario in names]


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
