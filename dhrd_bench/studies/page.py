"""A study's report, as a document that any renderer takes and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.report.figures import NONE, estimate_cell, many, number, p_value
from dhrd_bench.report.layout import Column, Document, Section, Table, TableCell
from dhrd_bench.report.terminal import as_text
from dhrd_bench.report.text import as_markdown
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.studies.frozen import Comparison
from dhrd_bench.studies.verdict import Judged, Verdict

_WORDS = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent within {margin:g} pt",
    "undecided": "undecided",
}


def document(judged: Judged) -> Document:
    """Lay a study's report out."""
    frozen = judged.frozen
    tables = [_table("Primary contrasts", judged.primary, judged)]
    if judged.secondary:
        tables.append(_table("Secondary contrasts (exploratory)", judged.secondary, judged))
    command = f"dhrd-bench study report {frozen.study}.yaml"
    section = Section(f"Study {frozen.study}", _about(judged), tuple(tables), tuple(_notes(judged)))
    return Document(command, (section,), title="Study")


def render(judged: Judged, form: str) -> str:
    """Return a study's report as text of a form.

    Raises
    ------
    UserError
        If there is no such form.
    """
    match form:
        case "terminal":
            return as_text(document(judged))
        case "markdown":
            return as_markdown(document(judged))
        case "json":
            return as_json(judged)
    raise UserError(f"A study has no format {form!r}.", did_you_mean(form, ("terminal", "markdown", "json")))


def as_json(judged: Judged) -> str:
    """Return all that is known of a study; an undefined figure is null."""
    frozen = judged.frozen
    told = {
        "study": frozen.study,
        "status": "exploratory" if judged.exploratory else "confirmatory",
        "exploratory_because": list(judged.exploratory),
        "frozen": frozen.time or None,
        "commit": frozen.commit.model_dump() if frozen.commit else None,
        "margin": judged.margin,
        "alpha": judged.alpha,
        "looks": list(frozen.looks),
        "look": judged.look,
        "stopped": judged.stopped,
        "cells": {"done": judged.done, "of": judged.wanted},
        "primary": [_told(verdict) for verdict in judged.primary],
        "secondary": [_told(verdict) for verdict in judged.secondary],
        "notes": list(judged.notes),
    }
    return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _told(verdict: Verdict) -> dict[str, Any]:
    ruling = verdict.ruling
    told: dict[str, Any] = verdict.comparison.model_dump(mode="json")
    told["verdict"] = ruling.finding if ruling else None
    if ruling:
        told |= {
            "difference": _finite(ruling.seen.difference), "p": ruling.seen.p, "p_corrected": ruling.p,
            "p_equivalent_corrected": ruling.equivalent, "detectable": verdict.detectable, "seeds": verdict.seeds,
        }  # fmt: skip
    return told


def _finite(estimate: Estimate) -> dict[str, float | None]:
    return {key: each if each is not None and math.isfinite(each) else None for key, each in asdict(estimate).items()}


def _about(judged: Judged) -> str:
    status = "Exploratory" if judged.exploratory else "Confirmatory"
    hypothesis = " ".join(str(judged.frozen.content["hypothesis"]).split())
    return f"{status}. Hypothesis: {hypothesis.rstrip('.')}"


def _notes(judged: Judged) -> Iterator[str]:
    frozen = judged.frozen
    yield from (f"Exploratory: {why}" for why in judged.exploratory)
    if frozen.time:
        commit = f", at commit {frozen.commit.commit[:12]}" if frozen.commit else ""
        dirty = " with changes" if frozen.commit and frozen.commit.dirty else ""
        yield f"Frozen {frozen.time}{commit}{dirty}."
    yield state(judged)
    yield from judged.notes


def state(judged: Judged) -> str:
    """Say how far the study is."""
    looks, cells = judged.frozen.looks, f"{judged.done} of {judged.wanted} cells"
    if judged.stopped:
        ended = f"Stopped by its rule at {many(judged.look or 0, 'seed')}" if len(looks) > 1 else "Complete"
        return f"{ended}: {cells} have a record."
    if judged.look is None:
        return f"Incomplete: {cells} have a record. Verdicts are withheld until all have one."
    following = looks[looks.index(judged.look) + 1]
    return f"Looked at {judged.look} seeds; goes on to {following}: {cells} have a record."


def _table(title: str, verdicts: Sequence[Verdict], judged: Judged) -> Table:
    places = {verdict.comparison.group for verdict in (*judged.primary, *judged.secondary)}
    columns = (
        Column("Method", "left"), Column("Beside", "left"), Column("Over", "left"), Column("Verdict", "left"),
        Column("Difference"), Column("p"), Column("p equivalent"), Column("Seeds"), Column("Detectable"),
    )  # fmt: skip
    rows = tuple(_row(verdict, judged, several=len(places) > 1) for verdict in verdicts)
    return Table(title, columns, rows, tuple(_caption(judged, len(verdicts))))


def _row(verdict: Verdict, judged: Judged, *, several: bool) -> tuple[TableCell, ...]:
    comparison, ruling = verdict.comparison, verdict.ruling
    start = (
        TableCell(comparison.method),
        TableCell(comparison.baseline),
        TableCell(_over(comparison, several=several)),
    )
    if ruling is None:
        return (*start, TableCell("withheld"), *(TableCell(NONE) for _ in range(5)))
    said = _WORDS[ruling.finding].format(margin=judged.margin)
    return (
        *start,
        TableCell(said, strong=ruling.finding != "undecided"),
        estimate_cell(ruling.seen.difference, sign=True),
        TableCell(NONE if ruling.p is None else p_value(ruling.p)),
        TableCell(NONE if ruling.equivalent is None else p_value(ruling.equivalent)),
        TableCell(str(verdict.seeds)),
        TableCell(NONE if verdict.detectable is None else number(verdict.detectable)),
    )


def _over(comparison: Comparison, *, several: bool) -> str:
    tasks = ", ".join(comparison.tasks)
    return f"{tasks} ({comparison.suite} · {comparison.backbone} · {comparison.budget})" if several else tasks


def _caption(judged: Judged, contrasts: int) -> Iterator[str]:
    looks = judged.frozen.looks
    level = f"{100 * (1 - judged.alpha):g} %"
    at_looks = f", which holds at all looks ({', '.join(map(str, looks))} seeds) together" if len(looks) > 1 else ""
    yield (
        f"Difference: method less baseline, in points, mean over tasks and seeds, with its {level} interval{at_looks}. "
        f"p: of no difference, and of a difference of {judged.margin:g} points or more, both corrected for "
        f"{many(contrasts, 'contrast')} (Holm){' and looks (O’Brien-Fleming)' if len(looks) > 1 else ''}; a verdict "
        f"takes p of at most {judged.alpha:g}."
    )
    yield (
        "Detectable: smallest true difference in points that would have been found with 80 % power after correction. "
        "Undecided is neither better nor equivalent: the data do not tell."
    )
