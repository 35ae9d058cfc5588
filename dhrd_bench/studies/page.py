"""A study's report, as a document that any renderer takes and as JSON."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.report.figures import NONE, estimate_cell, many, number, p_said, p_value
from dhrd_bench.report.layout import Column, Document, Section, Table, TableCell
from dhrd_bench.report.terminal import as_text
from dhrd_bench.report.text import as_markdown
from dhrd_bench.site.studies import ShownContrast, ShownStudy
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.studies.frozen import Comparison
from dhrd_bench.studies.verdict import Judged, Verdict

_WORDS = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent within {margin:g} pt",
    "undecided": "undecided",
}


def document(judged: Judged, file: Path) -> Document:
    """Lay out the report of the study in `file`."""
    frozen = judged.frozen
    verdict = () if judged.study.curve else tuple(_sentences(judged))  # of a curve, the table says it better
    section = Section(f"Study {frozen.study}", _about(judged), verdict, _tables(judged), tuple(_notes(judged)))
    return Document(_command(file), (section,), title="Study")


def on_site(judged: Judged, file: Path) -> ShownStudy:
    """Return what the site shows of the study in `file`."""
    return ShownStudy(
        name=judged.frozen.study,
        status=judged.status,
        hypothesis=_hypothesis(judged),
        frozen=_when(judged),
        state=state(judged),
        margin=judged.study.margin,
        contrasts=tuple(_contrast(verdict, judged) for verdict in judged.primary),
        tables=_tables(judged),
        deviations=judged.exploratory,
        notes=judged.notes,
        command=_command(file),
    )


def _contrast(verdict: Verdict, judged: Judged) -> ShownContrast:
    ruling, comparison = verdict.ruling, verdict.comparison
    return ShownContrast(
        suite=comparison.suite,
        backbone=comparison.backbone,
        budget=comparison.budget,
        method=comparison.method,
        baseline=comparison.baseline,
        over=_over(comparison, _varied(judged)),
        verdict=_said(verdict, judged),
        finding=ruling.finding if ruling else None,
        difference=ruling.seen.difference if ruling else None,
    )


def _tables(judged: Judged) -> tuple[Table, ...]:
    tables = [_table("Primary contrasts", judged.primary, judged, tuple(_caption(judged)))]
    if judged.secondary:
        caption = (f"A family of their own, corrected for {many(len(judged.secondary), 'contrast')}.",)
        tables.append(_table("Secondary contrasts (exploratory)", judged.secondary, judged, caption))
    return (*tables, *_curves(judged))


def _command(file: Path) -> str:
    """Name the file as from the working folder; one elsewhere by its name, as no report holds a path of its machine."""
    place, here = file.resolve(), Path.cwd()
    shown = place.relative_to(here) if place.is_relative_to(here) else Path(place.name)
    return shlex.join(["dhrd-bench", "study", "report", shown.as_posix()])


def render(judged: Judged, form: str, file: Path) -> str:
    """Return the report of the study in `file` as text of a form.

    Raises
    ------
    UserError
        If there is no such form.
    """
    match form:
        case "terminal":
            return as_text(document(judged, file))
        case "markdown":
            return as_markdown(document(judged, file))
        case "json":
            return as_json(judged)
    raise UserError(f"A study has no format {form!r}.", did_you_mean(form, ("terminal", "markdown", "json")))


def as_json(judged: Judged) -> str:
    """Return all that is known of a study; an undefined figure is null."""
    frozen = judged.frozen
    told = {
        "study": frozen.study,
        "status": judged.status,
        "exploratory_because": list(judged.exploratory),
        "frozen": frozen.time or None,
        "commit": frozen.commit.model_dump() if frozen.commit else None,
        "margin": judged.study.margin,
        "alpha": judged.study.alpha,
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
    if ruling and verdict.evidence:
        told |= {
            "difference": _finite(ruling.seen.difference), "p": ruling.seen.p, "p_corrected": ruling.p,
            "p_equivalent_corrected": ruling.equivalent, "detectable": verdict.detectable,
            "seeds": verdict.evidence.seeds, "score": _finite(verdict.evidence.score),
            "baseline_score": _finite(verdict.evidence.baseline), "train_rows": verdict.evidence.rows,
            "taught_rows": verdict.evidence.taught,
        }  # fmt: skip
    return told


def _finite(estimate: Estimate) -> dict[str, float | None]:
    return {key: each if each is not None and math.isfinite(each) else None for key, each in asdict(estimate).items()}


def _about(judged: Judged) -> str:
    return f"{judged.status.capitalize()}. Hypothesis: {_hypothesis(judged).rstrip('.')}"


def _hypothesis(judged: Judged) -> str:
    return " ".join(judged.study.hypothesis.split())


def _notes(judged: Judged) -> Iterator[str]:
    yield from (f"Exploratory: {why}" for why in judged.exploratory)
    yield from filter(None, (_when(judged), state(judged), *judged.notes))


def _when(judged: Judged) -> str:
    """Say when a study was frozen; nothing of one that was not."""
    frozen = judged.frozen
    commit = f", at commit {frozen.commit.commit[:12]}" if frozen.commit else ""
    dirty = " with changes" if frozen.commit and frozen.commit.dirty else ""
    return f"Frozen {frozen.time}{commit}{dirty}." if frozen.time else ""


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


def _table(title: str, verdicts: Sequence[Verdict], judged: Judged, caption: tuple[str, ...]) -> Table:
    columns = (
        Column("Method", "left"), Column("Beside", "left"), Column("Over", "left"), Column("Verdict", "left"),
        Column("Score"), Column("Score beside"), Column("Difference"), Column("p"), Column("p equivalent"),
        Column("Seeds"), Column("Detectable"),
    )  # fmt: skip
    rows = tuple(_row(verdict, judged) for verdict in verdicts)
    return Table(title, columns, rows, caption)


def _varied(judged: Judged) -> list[str]:
    """Name what is not the same at the places of all contrasts."""
    everywhere = [verdict.comparison for verdict in (*judged.primary, *judged.secondary)]
    return [
        name for name in ("suite", "backbone", "point" if judged.study.curve else "budget")
        if len({getattr(each, name) for each in everywhere}) > 1
    ]  # fmt: skip


def _said(verdict: Verdict, judged: Judged) -> str:
    """Return the verdict in words."""
    return _WORDS[verdict.ruling.finding].format(margin=judged.study.margin) if verdict.ruling else "withheld"


def _sentences(judged: Judged) -> Iterator[str]:
    """Say of each primary contrast what was found, with both scores; what is within the margin may differ from zero."""
    margin = judged.study.margin
    for verdict in judged.primary:
        comparison, ruling, evidence = verdict.comparison, verdict.ruling, verdict.evidence
        if ruling is None or evidence is None:
            continue
        one, other = comparison.method, comparison.baseline
        said = {
            "better": f"{one} scores higher than {other}",
            "worse": f"{one} scores lower than {other}",
            "equivalent": f"{one} and {other} are equivalent within {margin:g} points",
            "undecided": f"Whether {one} and {other} differ is undecided",
        }[ruling.finding]
        scores = f"{number(evidence.score.value)} and {number(evidence.baseline.value)}"
        place = f" on {_over(comparison, _varied(judged))}"
        end = ""
        if ruling.finding == "undecided" and verdict.detectable is not None:
            end = f"; {number(verdict.detectable)} points would have been found in four of five studies"
        if ruling.finding == "equivalent" and ruling.p is not None and ruling.p <= judged.study.alpha:
            end = f", which is not zero ({p_said(ruling.p)})"
        difference = estimate_cell(ruling.seen.difference, sign=True).line
        yield f"{said}{place}: {scores}, a difference of {difference} points{end}."


def _row(verdict: Verdict, judged: Judged) -> tuple[TableCell, ...]:
    comparison, ruling, evidence = verdict.comparison, verdict.ruling, verdict.evidence
    start = (
        TableCell(comparison.method),
        TableCell(comparison.baseline),
        TableCell(_over(comparison, _varied(judged))),
        TableCell(_said(verdict, judged), strong=ruling is not None and ruling.finding != "undecided"),
    )
    if ruling is None or evidence is None:
        return (*start, *(TableCell(NONE) for _ in range(7)))
    return (
        *start,
        TableCell(number(evidence.score.value)),
        TableCell(number(evidence.baseline.value)),
        estimate_cell(ruling.seen.difference, sign=True),
        TableCell(NONE if ruling.p is None else p_value(ruling.p)),
        TableCell(NONE if ruling.equivalent is None else p_value(ruling.equivalent)),
        TableCell(str(evidence.seeds)),
        TableCell(NONE if verdict.detectable is None else number(verdict.detectable)),
    )


def _curves(judged: Judged) -> list[Table]:
    """Lay out what a study varies: a table of two methods, a row a point."""
    curves: dict[tuple[str, str, str, str, tuple[str, ...]], list[Verdict]] = {}
    for verdict in (*judged.primary, *judged.secondary):
        each = verdict.comparison
        if each.point is not None and verdict.evidence is not None:
            curves.setdefault((each.method, each.baseline, each.suite, each.backbone, each.tasks), []).append(verdict)
    return [_curve(verdicts, judged) for verdicts in curves.values()]


def _curve(verdicts: Sequence[Verdict], judged: Judged) -> Table:
    about = verdicts[0].comparison
    rows = []
    for verdict in sorted(verdicts, key=lambda verdict: verdict.comparison.point or 0):
        evidence, ruling = verdict.evidence, verdict.ruling
        assert evidence is not None
        assert ruling is not None
        rows.append(
            (
                TableCell(f"{verdict.comparison.point:g}"),
                TableCell(number(evidence.rows)),
                TableCell(number(evidence.taught)),
                estimate_cell(evidence.score),
                estimate_cell(evidence.baseline),
                estimate_cell(ruling.seen.difference, sign=True, strong=ruling.finding in ("better", "worse")),
            )
        )
    curve = judged.study.curve
    varied = "Share of rationales" if curve and curve.rationales else "Train rows"
    columns = (
        Column(varied), Column("Labelled rows"), Column("Rationales"), Column(about.method), Column(about.baseline),
        Column("Difference"),
    )  # fmt: skip
    place = " · ".join((about.suite, about.backbone, ", ".join(about.tasks)))
    title = f"{about.method} beside {about.baseline}, {place}: {varied.lower()}"
    caption = (
        "Labelled rows, rationales: those that the method learnt from, a task and seed. What a step down the column of "
        "rationales adds to the difference is what buying them was worth. Bold: better or worse, corrected for all "
        "points.",
    )
    return Table(title, columns, tuple(rows), caption)


def _over(comparison: Comparison, varied: Sequence[str]) -> str:
    """Name the tasks, and of the place what is not the same for all contrasts."""
    place = [f"at {comparison.point:g}" if name == "point" else getattr(comparison, name) for name in varied]
    return " · ".join([", ".join(comparison.tasks), *place])


def _caption(judged: Judged) -> Iterator[str]:
    looks = judged.frozen.looks
    level = f"{100 * (1 - judged.study.alpha):g} %"
    corrected = f"{many(len(judged.primary), 'contrast')} (Holm){' and looks' if len(looks) > 1 else ''}"
    at_looks = f", which holds at all looks ({', '.join(map(str, looks))} seeds) together" if len(looks) > 1 else ""
    yield (
        f"Difference: method less baseline, in points, mean over tasks and seeds, with its {level} interval{at_looks}. "
        f"p: of no difference, and of a difference of {judged.study.margin:g} points or more, both corrected for "
        f"{corrected}; a verdict takes p of at most {judged.study.alpha:g}."
    )
    yield (
        "Detectable: smallest true difference in points that would have been found with 80 % power after correction. "
        "Undecided is neither better nor equivalent: the data do not tell."
    )
