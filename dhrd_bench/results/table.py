"""The long table: all that statistics and reports know of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from dhrd_bench.contracts import spelled
from dhrd_bench.results.schema import CellRecord, Rows, TaskInfo
from dhrd_bench.results.store import Problem
from dhrd_bench.results.timed import ThroughputRecord
from dhrd_bench.results.tuned import Search

Codes = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
CELL = ["suite", "backbone", "budget", "method", "task", "seed"]


@dataclass(frozen=True)
class LongTable:
    """Records as two data frames, and what lay beside them.

    Attributes
    ----------
    rows
        One line a (cell, test row): `CELL` columns, then ``example``, ``cluster``, ``group``,
        ``label``, ``prediction``. Only cells with status ``ok``. All names are categorical.
    cells
        One line a cell, failed ones too: `CELL` columns, then ``status``, ``error``, ``identity``,
        ``version``, ``data_version``, ``method_version``, ``rationales`` (hashes that all cells of a table, of a
        task in it, of a method in it and of a method on a task must share),
        ``score``, ``metrics`` (dict), ``unparsable``, ``role``, ``inference``, ``uses_rationales``,
        ``params`` (dict), ``parts`` (dict), ``summary``, ``paper``, ``isolation``, ``qps``, ``examples``, ``seconds``,
        ``laps``, ``tokens_in``, ``tokens_out``, ``train`` (dict), ``energy`` (dict), ``data`` (dict), ``environment``
        (dict), ``finished``; ``scores``, the rows'
        class scores ``(n, K)`` in their order, None where there are none or the rows' differ in number.
    tasks
        `TaskInfo` by (suite, task).
    timed
        Runs in which methods were timed side by side.
    problems
        Files that could not be read.
    notes
        What else is to be known about the files.
    folder
        Where the records were read from, None for a table made in memory; audits are looked for there.
    verified
        Identities of the records that a maintainer has run again with the same predictions.
    searches
        Searches for settings whose choices were run.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame
    tasks: dict[tuple[str, str], TaskInfo]
    timed: tuple[ThroughputRecord, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    folder: Path | None = None
    verified: frozenset[str] = frozenset()
    searches: tuple[Search, ...] = ()


def long_table(records: Sequence[CellRecord]) -> LongTable:
    """Lay `records` out as a `LongTable`; nothing is dropped or merged here."""
    finished: list[Rows] = []
    places: list[int] = []
    cells: list[dict[str, object]] = []
    tasks: dict[tuple[str, str], TaskInfo] = {}
    for record in records:
        key = record.cell.model_dump()
        tasks[record.cell.suite, record.cell.task] = record.task
        timing = record.timing
        cells.append(
            {name: key[name] for name in CELL}
            | {
                "status": record.status,
                "error": record.error,
                "identity": record.identity,
                "version": record.parts.version,
                "data_version": record.parts.data_version,
                "method_version": record.parts.method_version,
                "rationales": "+".join(filter(None, (record.parts.rationales, record.parts.soft))),
                "score": record.score,
                "metrics": record.metrics,
                "unparsable": record.unparsable,
                "role": record.method.role,
                "inference": spelled(record.method.inference),
                "uses_rationales": record.method.uses_rationales,
                "params": record.parts.method.params,
                "parts": record.parts.model_dump(exclude_none=True),
                "summary": record.method.summary,
                "paper": record.method.paper,
                "isolation": record.isolation,
                "qps": timing.qps if timing else math.nan,
                "examples": timing.examples if timing else math.nan,
                "seconds": timing.seconds if timing else math.nan,
                "laps": timing.laps if timing else [],
                "tokens_in": timing.tokens_in if timing else math.nan,
                "tokens_out": timing.tokens_out if timing else math.nan,
                "train": record.train.model_dump(exclude_none=True),
                "energy": record.energy.model_dump() if record.energy else {},
                "data": record.data.model_dump() if record.data else {},
                "environment": record.environment.model_dump(exclude_none=True),
                "finished": record.finished,
                "scores": _matrix(record.rows.score) if record.rows else None,
            }
        )
        if record.status == "ok" and record.rows is not None:
            finished.append(record.rows)
            places.append(len(cells) - 1)
    frame = pd.DataFrame(cells)
    repeats = np.repeat(np.array(places, dtype=int), [len(rows.id) for rows in finished])
    # Names are stored once and pointed at: a full grid has a million rows.
    columns: dict[str, object] = {name: pd.Categorical(frame[name]).take(repeats) for name in CELL} if cells else {}
    columns |= {
        "example": _named([rows.id for rows in finished]),
        "cluster": _named([rows.cluster or rows.id for rows in finished]),
        "group": _named([rows.group or rows.id for rows in finished]),
        "label": _joined([rows.label for rows in finished]),
        "prediction": _joined([rows.prediction for rows in finished]),
    }
    return LongTable(rows=pd.DataFrame(columns), cells=frame, tasks=tasks)


def _matrix(scores: list[list[float]] | None) -> Scores | None:
    if not scores or len({len(row) for row in scores}) > 1:
        return None
    return np.array(scores, dtype=float)


def _named(columns: Sequence[list[str]]) -> pd.Categorical:
    """Join columns of names end to end; the cells of a task mostly repeat one column, which is coded once."""
    codes: dict[str, int] = {}
    seen: dict[tuple[str, ...], list[tuple[list[str], Codes]]] = {}
    parts: list[Codes] = []
    for column in columns:
        alike = seen.setdefault((*column[:1], *column[-1:], str(len(column))), [])
        coded = next((codes_of for other, codes_of in alike if other == column), None)
        if coded is None:
            coded = np.array([codes.setdefault(name, len(codes)) for name in column], dtype=np.int64)
            alike.append((column, coded))
        parts.append(coded)
    # In alphabetical order, so that nothing depends on the order of the records.
    names = sorted(codes)
    place = np.zeros(len(names), dtype=np.int64)
    place[[codes[name] for name in names]] = np.arange(len(names))
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    return pd.Categorical.from_codes(place[joined], categories=pd.Index(names, dtype=object))


def _joined(columns: Sequence[list[int]]) -> Codes:
    return np.concatenate([np.zeros(0, dtype=np.int64), *(np.array(column, dtype=np.int64) for column in columns)])
