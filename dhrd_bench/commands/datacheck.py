"""The check of a plan's data as a table of the ``run`` command."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from dhrd_bench.grid.datacheck import DataCheck
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.report.terminal import print_table


def print_checks(checks: Sequence[DataCheck], console: Console) -> None:
    """Print what the rows of each task are like."""
    print_table(data_table(checks), console)
    console.print()


def data_table(checks: Sequence[DataCheck]) -> Table:
    """Lay `checks` out: a line a class, the rest of a task on its first."""
    rows = []
    for check in checks:
        shares = [_percent(share) for share in (check.rationales / check.train, check.cut_train, check.cut_test)]
        of_task = [str(check.test_clusters), str(check.overlap), *shares]
        for number, name in enumerate(check.train_classes):
            counts = [str(check.train_classes[name]), str(check.test_classes[name])]
            row = ["" if number else check.task, name, *counts, *(of_task if number == 0 else [""] * len(of_task))]
            rows.append(tuple(map(TableCell, row)))
    heads = ("Train", "Test", "Test texts", "Overlap", "Rationales", "Cut train", "Cut test")
    columns = (Column("Task", "left"), Column("Class", "left"), *map(Column, heads))
    caption = (
        "Rows by class, as the first seed draws them. Test texts: clusters of the test rows. Overlap: test rows that "
        "have a text, or their cluster's text, of the task's train rows. Rationales: share of the train rows. Cut: "
        "share of the inputs that lose the end of their passage.",
    )
    return Table("Data", columns, tuple(rows), caption)


def _percent(share: float) -> str:
    """Return a share in %; what is not 0 or 100 never reads so."""
    return f"{share:.0%}" if share in (0, 1) else f"{min(max(share, 0.01), 0.99):.0%}"
