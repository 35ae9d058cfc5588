"""A paper's claims beside ours.

The published tables are CSV files; ``claims.yaml`` beside them says which comparison a claim is and
where its figures stand, so that no method is named here.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from dhrd_bench.cards import read_card
from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError
from dhrd_bench.report.figures import NONE, estimate_cell, number, positive_cell, three_digits
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.stats.analysis import Analysis
from dhrd_bench.stats.claims import shared_machine
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.untrusted import read_yaml


class Claim(Card):
    """One comparison that the paper makes; see the comments in ``claims.yaml``."""

    id: str
    text: str
    figure: Literal["gain", "qps-ratio", "concentration"]
    method: str
    over: str
    direction: Literal["more", "less", "same"]
    within: tuple[str, ...] = ()
    rows: dict[Literal["method", "over"], dict[str, str]] = Field(default_factory=dict)
    column: str = ""
    published: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _has_figures(self) -> Claim:
        if self.published is None and not self.column and set(self.rows) != {"method", "over"}:
            raise ValueError("say where the published figures are: rows (method and over), column or published")
        return self


class Paper(Card):
    """A paper's tables and claims."""

    paper: str
    suite: str
    accuracy: str
    throughput: str
    tasks: dict[str, tuple[str, ...]] = Field(min_length=1)
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Comparison:
    """A claim, what was published for it and what we found.

    Attributes
    ----------
    published
        Lowest and highest published figure over the paper's backbones, or that of ours if it is one.
    ours
        Our figure; None if it could not be computed.
    verdict
        ``reproduced``, ``contradicted``, ``undecided`` or ``not run``.
    reason
        Why, in a few words.
    """

    id: str
    text: str
    figure: str
    method: str
    over: str
    published: tuple[float, float] | None
    ours: Estimate | None
    verdict: Literal["reproduced", "contradicted", "undecided", "not run"]
    reason: str


class PublishedFigures:
    """The published figures, read from a folder with ``claims.yaml`` and the tables it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "claims.yaml"
        if not path.is_file():
            raise UserError(f"There is no {path}.", "Name a folder that holds claims.yaml.")
        raw = read_yaml(path)
        self.paper = read_card(Paper, raw if isinstance(raw, dict) else {}, path)
        self.accuracy = _read_csv(folder / self.paper.accuracy)
        self.throughput = _read_csv(folder / self.paper.throughput)

    def scores(self, rows: dict[str, str]) -> dict[str, dict[str, float]]:
        """Return each task's published score by backbone, of the rows with these values."""
        return {
            row["backbone"]: {
                task: float(np.mean([float(row[column]) for column in columns]))
                for task, columns in self.paper.tasks.items()
            }
            for row in self.accuracy
            if all(row.get(key) == value for key, value in rows.items())
        }

    def published(self, claim: Claim, tasks: Sequence[str], backbone: str) -> tuple[float, float] | None:
        """Return the lowest and highest published figure over `tasks`.

        Only that of `backbone` counts if the paper has it. None if the paper does not cover the tasks.
        """
        if claim.published is not None:
            return claim.published
        if claim.column:
            values = {row["backbone"]: float(row[claim.column]) for row in self.throughput}
        else:
            known = {task.lower(): task for task in self.paper.tasks}
            if any(task.lower() not in known for task in tasks):
                return None
            methods, others = self.scores(claim.rows["method"]), self.scores(claim.rows["over"])
            names = [known[task.lower()] for task in tasks]
            values = {at: _figure(claim, methods[at], others[at], names) for at in methods if at in others}
        name = backbone.partition("[")[0].rpartition("/")[2].lower()
        kept = [values[name]] if name in values else list(values.values())
        return (min(kept), max(kept)) if kept else None


def find_published() -> Path:
    """Return the folder of the published figures: inside an installed package, or in a checkout."""
    package = Path(__file__).parent.parent
    for folder in (package / "reference", package.parent / "results" / "reference"):
        if (folder / "claims.yaml").is_file():
            return folder
    raise UserError("The published figures are missing from this installation.", "Install the package anew.")


def compare(analysis: Analysis, publication: PublishedFigures) -> list[Comparison]:
    """Set each of the paper's claims beside our figure."""
    return [_compare(analysis, publication, claim) for claim in publication.paper.claims]


def claims_table(comparisons: Sequence[Comparison], analysis: Analysis, publication: PublishedFigures) -> Table:
    """Return the claims as a table."""
    rows = []
    for comparison in comparisons:
        decided = comparison.verdict in ("reproduced", "contradicted")
        variants = [name for name in (comparison.method, comparison.over) if "[" in name]  # the claim names neither
        reasons = filter(None, (comparison.reason, f"of {' and '.join(variants)}" if variants else ""))
        verdict = TableCell(comparison.verdict, ", ".join(reasons), decided)
        rows.append((TableCell(comparison.text), _published_cell(comparison), _our_cell(comparison), verdict))
    caption = [
        f"{publication.paper.paper}. Published: lowest to highest over its backbones, or that of this backbone; "
        "computed over the tasks of this table.",
        "Reproduced: our interval shows the claimed direction and does not lie below the published size. Contradicted: "
        "it lies below that size, or shows the opposite. Undecided: it allows both at this size.",
    ]
    if analysis.selection.group.suite.partition("[")[0] != publication.paper.suite:
        caption.append(f"The published figures are on {publication.paper.suite}, ours are on other data.")
    heads = (Column("Claim", "left", wraps=True), Column("Published"), Column("Ours"), Column("Verdict", "left"))
    return Table("Against the paper", heads, tuple(rows), tuple(caption))


def _published_cell(comparison: Comparison) -> TableCell:
    if not comparison.published:
        return TableCell(NONE)
    ratio, places = comparison.figure == "qps-ratio", _places(comparison)
    ends = (three_digits(end) if ratio else number(end, places, sign=True) for end in comparison.published)
    return TableCell(" to ".join(dict.fromkeys(ends)))


def _our_cell(comparison: Comparison) -> TableCell:
    if comparison.figure == "qps-ratio":
        return positive_cell(comparison.ours)
    return estimate_cell(comparison.ours, _places(comparison), sign=True)


def _places(comparison: Comparison) -> int:
    return 2 if comparison.figure == "gain" else 1


def _compare(analysis: Analysis, publication: PublishedFigures, claim: Claim) -> Comparison:
    suite = analysis.suite
    first, second = (_stands_for(name, suite.methods) for name in (claim.method, claim.over))
    missing = [name for name, found in ((claim.method, first), (claim.over, second)) if found is None]
    published = publication.published(claim, suite.names, analysis.selection.group.backbone)
    common = (claim.id, claim.text, claim.figure, first or claim.method, second or claim.over, published)
    if first is None or second is None:
        return Comparison(*common, None, "not run", f"needs {' and '.join(missing)}")
    method, over = suite.methods.index(first), suite.methods.index(second)
    ours: Estimate | None
    if claim.figure == "gain":
        ours = suite.gain(method, over)
    elif claim.figure == "qps-ratio":
        if shared_machine(analysis):
            return Comparison(*common, None, "not run", "needs cells that ran alone")
        ours = analysis.speed.ratio(first, second, suite.names)
    else:
        named = {name.lower() for name in claim.within}
        inside = [t for t, name in enumerate(suite.names) if name.lower() in named]
        outside = [t for t in suite.every if t not in inside]
        if not inside or not outside:
            return Comparison(*common, None, "not run", "needs tasks of both kinds")
        ours = suite.concentration(method, over, inside, outside)
    if published is None:
        return Comparison(*common, ours, "not run", "the paper has no such tasks")
    return Comparison(*common, ours, *_verdict(claim, published, ours))


def _stands_for(name: str, methods: Sequence[str]) -> str | None:
    """Return the method of a name, or its only variant, as of a search; None if there is neither or several."""
    variants = [method for method in methods if method.partition("[")[0] == name]
    return name if name in methods else variants[0] if len(variants) == 1 else None


def _verdict(
    claim: Claim, published: tuple[float, float], ours: Estimate | None
) -> tuple[Literal["reproduced", "contradicted", "undecided"], str]:
    if ours is None or ours.low is None or ours.high is None:
        return "undecided", "our figure has no interval"
    low, high = ours.low, ours.high
    least, most = published
    if claim.direction == "same":
        if least <= low and high <= most:
            return "reproduced", ""
        return ("contradicted", "outside") if high < least or low > most else ("undecided", "")
    null = 1.0 if claim.figure == "qps-ratio" else 0.0
    if claim.direction == "less":
        low, high, least, most, null = -high, -low, -most, -least, -null
    if high < null:
        return "contradicted", "the opposite"
    if high < least:
        return "contradicted", "smaller than published"
    if low > null:
        return "reproduced", "larger than published" if low > most else ""
    return "undecided", ""


def _figure(claim: Claim, method: dict[str, float], over: dict[str, float], tasks: Sequence[str]) -> float:
    """Return the published figure of a claim from the scores by task of the two rows it compares."""
    if claim.figure == "gain":
        score, base = (float(np.mean([row[task] for task in tasks])) for row in (method, over))
        return 100.0 * (score - base) / base
    inside = [method[task] - over[task] for task in tasks if task in claim.within]
    outside = [method[task] - over[task] for task in tasks if task not in claim.within]
    return float(np.mean(inside) - np.mean(outside)) if inside and outside else 0.0


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "It is named in claims.yaml beside it.") from error
