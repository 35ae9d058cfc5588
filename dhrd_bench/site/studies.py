"""Studies as the site shows them: what is judged elsewhere, in the words of its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dhrd_bench.report.layout import Table
from dhrd_bench.site.boards import table_data
from dhrd_bench.stats.finding import Finding
from dhrd_bench.stats.intervals import Estimate

Status = Literal["confirmatory", "exploratory", "draft", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class ShownContrast:
    """A primary contrast and its verdict.

    Attributes
    ----------
    suite, backbone, budget
        Its board.
    over
        Its tasks, and of its place what is not the same for all contrasts.
    verdict
        In words.
    finding, difference
        None as long as the verdict is withheld; method less baseline, in points.
    """

    suite: str
    backbone: str
    budget: str
    method: str
    baseline: str
    over: str
    verdict: str
    finding: Finding | None
    difference: Estimate | None


@dataclass(frozen=True, kw_only=True)
class ShownStudy:
    """A study, in short and at length.

    Attributes
    ----------
    name
        That of its file.
    frozen, state
        When it was frozen, and how far it is, in a sentence each.
    margin
        The smallest difference of interest, in points.
    deviations
        Why it is not confirmatory.
    notes
        What else is to be known; of a file that is no study, why.
    command
        What makes its report; empty where there is none.
    """

    name: str
    status: Status
    hypothesis: str = ""
    frozen: str = ""
    state: str = ""
    margin: float | None = None
    contrasts: tuple[ShownContrast, ...] = ()
    tables: tuple[Table, ...] = ()
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""


def studies_data(studies: Sequence[ShownStudy]) -> list[dict[str, Any]]:
    """Return studies as the pages take them."""
    fields = [field.name for field in dataclasses.fields(ShownStudy)]
    return [
        {name: getattr(study, name) for name in fields} | {"tables": [table_data(table) for table in study.tables]}
        for study in studies
    ]
