"""Figures as text and as cells of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from dhrd_bench.report.layout import TableCell
from dhrd_bench.stats.analysis import Analysis, Versus
from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.significance import ALPHA

MINUS = "−"
COLLAPSED = "†"
NONE = "–"
UNTAUGHT = "‡"
UNTAUGHT_MEANS = f"{UNTAUGHT} learns from rationales, and there were none."
FOUND_IN_SUITE = {2: "60 to 70 %"}
FOUND_ON_TASK = {2: "20 to 60 %", 3: "50 to 75 %", 5: "60 to 80 %"}
"""By the most seeds for which it holds: how often what is called detectable is found in simulations, where that may
be less than in four of five cases (docs/statistics.md, Validation)."""


def number(value: float, places: int = 1, sign: bool = False) -> str:
    """Return `value` with `places` decimals and a true minus; no minus before a zero."""
    if math.isinf(value):
        return (MINUS if value < 0 else "+" if sign else "") + "∞"
    text = f"{abs(value):.{places}f}"
    zero = not any(c in "123456789" for c in text)
    if value < 0 and not zero:
        return MINUS + text
    return f"+{text}" if sign and not zero else text


def three_digits(value: float) -> str:
    """Return a positive `value` with three figures, as 415, 99.8 or 4.14."""
    if value <= 0 or not math.isfinite(value):
        return NONE
    places = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{min(places, 4)}f}"


def p_value(p: float) -> str:
    """Return p as a paper prints it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_said(p: float) -> str:
    """Return p as a sentence has it."""
    text = p_value(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def share(probability: float) -> str:
    """Return a share of draws, which is never certain."""
    return "<0.01" if probability < 0.01 else ">0.99" if probability > 0.99 else f"{probability:.2f}"


def many(count: int, noun: str) -> str:
    """Return a count with its noun, as 1 task or 7 tasks."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def single_run(analysis: Analysis) -> str:
    """Return what is to be said of throughput where every method ran once; else nothing."""
    if any(len(task.seeds) > 1 for task in analysis.selection.grid.tasks):
        return ""
    return " With one run its interval knows of that run's batches only; in simulations it held in 36 to 97 %."


def found_less(analysis: Analysis, found: Mapping[int, str]) -> str | None:
    """Return in what share of simulated cases a detectable difference is found where seeds are few, else None."""
    seeds = min(len(task.seeds) for task in analysis.selection.grid.tasks)
    if seeds == 1:  # there is another caution, and no seed to be unsure of
        return None
    return next((share for most, share in found.items() if seeds <= most), None)


def found_sentence(analysis: Analysis, found: Mapping[int, str]) -> str:
    """Say that a detectable difference is not as sure to be found as it says; an empty text if it is."""
    share = found_less(analysis, found)
    return "" if share is None else f" With so few seeds it is found in {share} of simulated cases."


def shown(test: Equivalence) -> str:
    """Return what a test of equivalence has shown."""
    return "equivalent" if test.equivalent <= ALPHA else "no worse" if test.no_worse <= ALPHA else "not shown"


def untaught(analysis: Analysis) -> set[tuple[str, str]]:
    """Return the methods, each with its task, that learn from rationales and had none."""
    cells = analysis.selection.cells
    columns = (cells[name] for name in ("method", "task", "uses_rationales", "data"))
    return {
        (str(method), str(task))
        for method, task, uses, data in zip(*columns, strict=True)
        if uses and data.get("rationale_coverage") == 0
    }


def marked(cell: TableCell, bare: bool) -> TableCell:
    """Return `cell`, with the mark of a method without the rationales that it learns from if it is `bare`."""
    return replace(cell, main=cell.main + UNTAUGHT) if bare else cell


def estimate_cell(estimate: Estimate | None, places: int = 1, sign: bool = False, strong: bool = False) -> TableCell:
    """Return an estimate with its interval as a cell."""
    if estimate is None:
        return TableCell(NONE)
    main = number(estimate.value, places, sign)
    if estimate.low is None or estimate.high is None:
        return TableCell(main, "", strong)
    return TableCell(main, f"[{number(estimate.low, places, sign)}, {number(estimate.high, places, sign)}]", strong)


def positive_cell(estimate: Estimate | None, unit: str = "") -> TableCell:
    """Return a positive figure, such as a QPS or a ratio (`unit` is then a times sign), as a cell."""
    if estimate is None:
        return TableCell(NONE)
    main = f"{three_digits(estimate.value)}{unit}"
    if estimate.low is None or estimate.high is None:
        return TableCell(main)
    return TableCell(main, f"[{three_digits(estimate.low)}, {three_digits(estimate.high)}]")


def ratio_cell(estimate: Estimate | None) -> TableCell:
    """Return a ratio as a cell."""
    return positive_cell(estimate, "×")


def verdict_cell(versus: Versus | None) -> TableCell:
    """Return a corrected p, or that the test cannot decide."""
    if versus is None or versus.test is None:
        return TableCell(NONE)
    test = versus.test
    if not test.decidable:
        return TableCell("undecidable")
    return TableCell(p_value(test.adjusted), "", test.significant)
