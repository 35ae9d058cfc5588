"""Throughput runs, in which methods were timed side by side, as tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dhrd_bench.report.figures import NONE, p_said, p_value, positive_cell, ratio_cell, three_digits
from dhrd_bench.report.layout import Column, Filled, Table, TableCell, laid_out
from dhrd_bench.results.timed import Figure, Measurement, ThroughputRecord
from dhrd_bench.stats.design import Selection
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.significance import ALPHA


@dataclass(frozen=True)
class TimedMethod:
    """One method in one throughput run.

    Attributes
    ----------
    other_version
        Whether a leaderboard has this very cell, but of another version than was timed here.
    """

    record: ThroughputRecord
    measurement: Measurement
    other_version: bool = False

    @property
    def method(self) -> str:
        """The method's name."""
        return self.measurement.method

    @property
    def bound(self) -> str:
        """The seconds that p99 had to stay within, as the end of a sentence; empty without a bound."""
        bound = self.record.p99_bound
        return "" if bound is None else f", p99 within {bound:g} s"

    def figures(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        record, measurement = self.record, self.measurement
        return {
            "task": record.cell.task,
            "scenario": record.scenario,
            "seed": record.cell.seed,
            "method": measurement.method,
            "baseline": record.baseline,
            "reference": record.reference,
            "qps": _estimate(measurement.qps),
            "ratio": _estimate(measurement.ratio),
            "ratio_to_baseline": _estimate(measurement.ratio_to_baseline),
            "equivalent_p": measurement.equivalent_p,
            "margin": record.margin,
            "p99_bound": record.p99_bound,
            "engine": measurement.engine,
            "verdict": measurement.verdict,
            "reasons": measurement.reasons,
            "other_version": self.other_version,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return the figures for a CSV, one a row."""
        measurement, cell = self.measurement, self.record.cell
        for name in ("qps", "ratio", "ratio_to_baseline"):
            figure: Figure | None = getattr(measurement, name)
            if figure is not None:
                yield {
                    "method": measurement.method,
                    "task": cell.task,
                    "figure": f"timed {name}: {self.record.scenario}, seed {cell.seed}{self.bound}",
                    "value": figure.value,
                    "low": figure.low,
                    "high": figure.high,
                    "p": measurement.equivalent_p if name == "ratio_to_baseline" else None,
                    "decision": measurement.verdict,
                }


def timed_methods(
    records: Sequence[ThroughputRecord],
    selection: Selection,
    tasks: Collection[str] = (),
    methods: Collection[str] = (),
) -> list[TimedMethod]:
    """Return what `records` say of the board of `selection`, of the `tasks` and `methods` named if any are."""
    group, cells = selection.group, selection.cells
    known = dict(zip(zip(cells["task"], cells["seed"], cells["method"], strict=True), cells["identity"], strict=True))
    timed = [
        TimedMethod(
            record,
            measurement,
            known.get((record.cell.task, record.cell.seed, measurement.method), measurement.identity)
            != measurement.identity,
        )
        for record in records
        if (record.cell.suite, record.cell.backbone, record.cell.budget) == (group.suite, group.backbone, group.budget)
        and _named(record.cell.task, tasks)
        for measurement in record.measurements
        if _named(measurement.method, methods)
    ]
    return sorted(timed, key=_order)


def _order(timed: TimedMethod) -> tuple[str, str, int, float, str]:
    cell = timed.record.cell
    return cell.task, timed.record.scenario, cell.seed, -timed.measurement.qps.value, timed.method


def _named(name: str, wanted: Collection[str]) -> bool:
    return not wanted or name.lower() in {other.lower() for other in wanted}


def _estimate(figure: Figure | None) -> Estimate | None:
    return None if figure is None else Estimate(figure.value, figure.low, figure.high)


# ---------------------------------------------------------------- columns


def _qps(timed: TimedMethod) -> TableCell:
    return positive_cell(_estimate(timed.measurement.qps))


def _to_reference(timed: TimedMethod) -> TableCell:
    if timed.method == timed.record.reference:
        return TableCell("reference")
    return ratio_cell(_estimate(timed.measurement.ratio))


def _to_baseline(timed: TimedMethod) -> TableCell:
    if timed.method == timed.record.baseline:
        return TableCell("baseline")
    return ratio_cell(_estimate(timed.measurement.ratio_to_baseline))


def _p_equal(timed: TimedMethod) -> TableCell:
    p = timed.measurement.equivalent_p
    return TableCell(NONE) if p is None else TableCell(p_value(p), f"±{timed.record.margin:g} %", p <= ALPHA)


def _bounded(timed: TimedMethod) -> TableCell:
    bound = timed.record.p99_bound
    return TableCell(timed.record.scenario, "" if bound is None else f"p99 ≤ {bound:g} s")


def _roofline(timed: TimedMethod) -> TableCell:
    share = timed.measurement.roofline_share
    return TableCell(NONE if share is None else f"{share:.0%}")


_Filled = Filled[TimedMethod]


def _percentile(name: str) -> _Filled:
    # Their intervals are in the record: three pairs of brackets more would fit no terminal.
    return Column(f"{name} ms"), lambda timed: TableCell(three_digits(1000 * timed.measurement.percentiles[name].value))


_METHOD: _Filled = Column("Method", "left"), lambda timed: TableCell(timed.method)
_TASK: _Filled = Column("Task", "left"), lambda timed: TableCell(timed.record.cell.task)
_SCENARIO: _Filled = Column("Scenario", "left"), _bounded
_SEED: _Filled = Column("Seed", spare=3), lambda timed: TableCell(str(timed.record.cell.seed))
_FIGURES: tuple[_Filled, ...] = (
    (Column("To reference", help="its QPS over the reference's"), _to_reference),
    (Column("To baseline", help="over the baseline's"), _to_baseline),
    (Column("p equal", help="QPS is the baseline's within the margin (TOST); not corrected", spare=1), _p_equal),
)
_QPS: _Filled = Column("QPS"), _qps
_ENGINE: _Filled = Column("Engine", "left", spare=2), lambda timed: TableCell(timed.measurement.engine)
_TOKENS: _Filled = (
    Column("Tokens in/out"),
    lambda timed: TableCell(f"{timed.measurement.tokens_in:.0f}/{timed.measurement.tokens_out:.0f}"),
)
_ROOFLINE: _Filled = Column("Roofline"), _roofline
_VERDICT: _Filled = (
    Column("Verdict", "left", wraps=True),
    lambda timed: TableCell(timed.measurement.verdict, "; ".join(timed.measurement.reasons)),
)


# ---------------------------------------------------------------- tables


def timed_table(timed: Sequence[TimedMethod]) -> Table:
    """Lay out the runs beside a board, one method of one run a row."""
    caption = [
        "Methods of one run answered the same blocks of examples in turns; see dhrd-bench throughput. Intervals are "
        "over rounds."
    ]
    if any(method.record.p99_bound is not None for method in timed):
        caption.append(
            "server: the highest rate of arrivals that held the bound, and the rates that its trials leave open."
        )
    sides = {(method.record.reference, method.record.baseline) for method in timed}
    if len(sides) == 1:
        (reference, baseline), *_ = sides
        caption.append(f"Reference: {reference or NONE}. Baseline: {baseline or NONE}.")
    caption.append("INVALID: not to be quoted.")
    other = sorted(
        {
            f"{method.method} on {method.record.cell.task}, seed {method.record.cell.seed}"
            for method in timed
            if method.other_version
        }
    )
    if other:
        caption.append(f"Timed with another version than was scored: {'; '.join(other)}.")
    columns = (_METHOD, _TASK, _SCENARIO, _SEED, _QPS, *_FIGURES, _ENGINE, _VERDICT)
    return laid_out("Timed side by side", columns, timed, caption)


def run_table(record: ThroughputRecord) -> Table:
    """Lay out one run, a method a row, with what each comparison to the baseline shows."""
    cell = record.cell
    timed = [TimedMethod(record, measurement) for measurement in record.measurements]
    bound = timed[0].bound
    title = f"{cell.suite} {cell.task}, {cell.backbone}, {cell.budget}, seed {cell.seed}: {record.scenario}{bound}"
    latencies = [_percentile(name) for name in ("p50", "p90", "p99")] if record.scenario == "single-stream" else []
    columns = (_METHOD, _QPS, *latencies, *_FIGURES, _TOKENS, _ROOFLINE, _VERDICT)
    caption = [f"Reference: {record.reference or NONE}. Baseline: {record.baseline or NONE}."]
    caption += [_equivalence(method) for method in timed if method.measurement.equivalent_p is not None]
    return laid_out(title, columns, timed, caption)


def _equivalence(timed: TimedMethod) -> str:
    """Say whether a method's throughput equals the baseline's, and if not, why not."""
    record, p, ratio = timed.record, timed.measurement.equivalent_p, timed.measurement.ratio_to_baseline
    assert p is not None
    assert ratio is not None
    claim = f"{timed.method} and {record.baseline} within {record.margin:g} %"
    if p <= ALPHA:
        return f"{claim}: equivalent ({p_said(p)})."
    interval = _to_baseline(timed).line
    least, most = 1 - record.margin / 100, 1 + record.margin / 100
    if ratio.low is not None and ratio.high is not None and (ratio.low > most or ratio.high < least):
        return f"{claim}: not equivalent, {interval} lies outside."
    return f"{claim}: undecided ({p_said(p)}), {interval} reaches over the margin; more rounds narrow it."
