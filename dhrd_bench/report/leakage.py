"""What the rationales of each arm give away, beside what they gain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dhrd_bench.cards import split_store
from dhrd_bench.report.badges import AUDITS
from dhrd_bench.report.figures import NONE, estimate_cell
from dhrd_bench.report.layout import Column, Filled, Table, TableCell, laid_out
from dhrd_bench.stats.analysis import Analysis
from dhrd_bench.stats.intervals import Estimate


@dataclass(frozen=True)
class Leakage:
    """How well the label of a task can be read from the rationales alone that a method was taught with.

    Attributes
    ----------
    taught
        Share of the training rows that had a rationale; None where it is not known, as for the next two.
    label_read, largest_class
        Accuracy of reading it, and the share of the largest class, 0-1.
    gain
        Of the method over the baseline on the task, in %.
    """

    method: str
    task: str
    taught: float | None
    label_read: float | None
    largest_class: float | None
    gain: Estimate | None


def leakages(analysis: Analysis, folder: Path | None) -> Iterator[Leakage]:
    """Yield the leakage of each method that reads rationales, task by task, if any names a store.

    A record that was made before its method was compared with others has none; an audit of the same rationales in
    the results `folder` has it, too.
    """
    cells = analysis.selection.cells
    reads = cells[cells["uses_rationales"].astype(bool)]
    if all(split_store(name)[1] is None for name in reads["method"]):
        return
    audited = dict(_audited(folder)) if folder else {}
    known: dict[tuple[str, str], tuple[float | None, float | None, float | None]] = {}
    for method, task, data in zip(reads["method"], reads["task"], reads["data"], strict=True):
        taught = data.get("taught_rows")
        read = (data.get("label_read"), data.get("largest_class"))
        if read[0] is None:
            read = audited.get(str(data.get("rationale_fingerprint")), read)
        known[method, task] = (taught and taught / data["train_rows"], *read)
    for name in (task.name for task in analysis.selection.grid.tasks):
        for line in analysis.lines:
            if (line.method, name) in known:
                versus = next((task.versus for task in line.tasks if task.task == name), None)
                yield Leakage(line.method, name, *known[line.method, name], versus.gain if versus else None)


def _audited(folder: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    for path in sorted((folder / AUDITS).glob("*.json")):
        try:
            for task in json.loads(path.read_text(encoding="utf-8"))["tasks"]:
                if task["predictable"] is not None:
                    yield str(task["rationale_fingerprint"]), (float(task["predictable"]), float(task["base_rate"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the badges name it


def leakage_table(found: tuple[Leakage, ...], baseline: str | None) -> Table:
    """Lay leakages out beside gains over `baseline`."""
    read = (
        "accuracy of a logistic regression over the words of the rationale alone, cross-validated over all train rows "
        "that have one"
    )
    columns: list[Filled[Leakage]] = [
        (Column("Task", "left"), lambda each: TableCell(each.task)),
        (Column("Method", "left"), lambda each: TableCell(each.method)),
        (Column("Taught", help="share of the training rows that had a rationale", spare=1),
         lambda each: _share(each.taught)),
        (Column("Label read", help=read), lambda each: _share(each.label_read)),
        (Column("Largest class", help="its share, which that is to be compared with"),
         lambda each: _share(each.largest_class)),
        (Column("Gain %", help=f"over {baseline}" if baseline else ""),
         lambda each: estimate_cell(each.gain, sign=True)),
    ]  # fmt: skip
    caption = ["A gain that goes with a label that can be read is not shown to come from reasoning."]
    return laid_out("What the rationales give away", columns, found, caption)


def _share(value: float | None) -> TableCell:
    return TableCell(NONE if value is None else f"{value:.2f}")
