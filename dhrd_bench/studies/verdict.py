"""What the records of a folder say of a study; nothing else is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from dhrd_bench.errors import UserError
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import find, read_below, record_path
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.contrasts import Ruling, Seen, rule
from dhrd_bench.stats.design import Selection
from dhrd_bench.stats.equivalence import difference_within
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pairing import Pairing
from dhrd_bench.stats.power import detectable
from dhrd_bench.stats.tested import TestedGrid
from dhrd_bench.stats.usable import usable
from dhrd_bench.studies.frozen import Comparison, Frozen, FrozenCell, before, group_of, shortened
from dhrd_bench.studies.study import Study

RESAMPLES, RANDOM_SEED = 10_000, 0
CellKey = tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What the records of a look say of one comparison.

    Attributes
    ----------
    seen
        The difference with its tests.
    score, baseline
        Of the method and of the baseline: mean over tasks and seeds.
    seeds
        How many both have.
    rows, taught
        Train rows of the method, and how many of them had a rationale, a task and seed.
    """

    seen: Seen
    score: Estimate
    baseline: Estimate
    seeds: int
    rows: float
    taught: float


@dataclass(frozen=True)
class Verdict:
    """What is said of one comparison.

    Attributes
    ----------
    ruling, evidence
        None as long as they are withheld.
    detectable
        Smallest true difference in points that is found with 80 % power, corrected for the contrasts, at the variance
        seen; None where there is none.
    """

    comparison: Comparison
    ruling: Ruling | None = None
    evidence: Evidence | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Judged:
    """A study's verdicts.

    Attributes
    ----------
    look
        Number of seeds up to which there are verdicts; None as long as not even the first look can be taken.
    stopped
        Whether no more cells are to be run: all primary contrasts are decided, or the last look was taken.
    done, wanted
        Cells that have a record and that are to have one, up to the look that is to be taken next, or else the last.
    exploratory
        Why nothing here is confirmatory; empty if it is.
    notes
        What else is to be known.
    """

    study: Study
    frozen: Frozen
    look: int | None
    stopped: bool
    done: int
    wanted: int
    primary: tuple[Verdict, ...]
    secondary: tuple[Verdict, ...]
    exploratory: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def status(self) -> Literal["confirmatory", "exploratory"]:
        """Whether it found what it had said that it would look for."""
        return "exploratory" if self.exploratory else "confirmatory"


def judge(study: Study, frozen: Frozen, results: Path) -> Judged:
    """Judge `study` by the records in the folder `results`.

    Raises
    ------
    UserError
        If there is no such folder.
    """
    if not results.is_dir():
        raise UserError(f"No results folder at {results}.", "Run the study first, or name the folder with --results.")
    found, notes = _records(frozen, results)
    left_out: list[str] = []
    looked: list[int] = []
    evidence: dict[str, list[list[Evidence]]] = {"primary": [], "secondary": []}
    rulings: dict[str, list[Ruling]] = {"primary": [], "secondary": []}
    comparisons = {"primary": frozen.primary, "secondary": frozen.secondary}
    wanted: tuple[FrozenCell, ...] = ()
    decided = False
    for look in frozen.looks:
        wanted = frozen.stage(look)
        if decided or any(each.key not in found for each in wanted):
            break
        looked.append(look)
        records = [found[each.key] for each in wanted]
        for family, taken in evidence.items():
            taken.append([_evidence(each, records, study.margin, left_out) for each in comparisons[family]])
            rulings[family] = rule([[each.seen for each in one] for one in taken], frozen.looks, study.alpha)
        decided = all(ruling.finding != "undecided" for ruling in rulings["primary"])
    stopped = decided or looked == [*frozen.looks]
    if stopped:
        wanted = frozen.stage(looked[-1])
    primary, secondary = (
        _verdicts(comparisons[family], rulings[family], dict(zip(looked, evidence[family], strict=True)), study.alpha)
        for family in evidence
    )
    return Judged(
        study=study,
        frozen=frozen,
        look=looked[-1] if looked else None,
        stopped=stopped,
        done=sum(each.key in found for each in wanted),
        wanted=len(wanted),
        primary=primary,
        secondary=secondary,
        exploratory=tuple(_exploratory(study, frozen, [found[key] for key in sorted(found)], left_out)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _records(frozen: Frozen, results: Path) -> tuple[dict[CellKey, CellRecord], list[str]]:
    """Return the finished records of the study's cells, and say which cells have other ones."""
    found: dict[CellKey, CellRecord] = {}
    notes: list[str] = []
    others: list[str] = []
    for each in frozen.cells:
        record = find(results, each.cell, each.identity)
        if record is not None:
            found[each.key] = record
            continue
        name = f"{each.cell.task} seed {each.cell.seed} {each.cell.method}"
        try:
            other = read_below(results, record_path(results, each.cell))
        except ValueError:
            continue
        if other.identity == each.identity:
            notes.append(f"Failed: {name}: {other.error}")
        else:
            others.append(name)
    if others:
        notes.append(
            f"{len(others)} cells have the record of another identity only, which is none of this study (code, data or "
            f"settings are others): {others[0]}{', ...' if len(others) > 1 else ''}"
        )
    return found, notes


def _evidence(comparison: Comparison, records: Sequence[CellRecord], margin: float, left_out: list[str]) -> Evidence:
    """Compare two methods on the cells that the study plans for both; say in `left_out` what cannot be compared."""
    group, names = comparison.group, (comparison.baseline, comparison.method)
    records = [
        record
        for record in records
        if record.cell.method in names and record.cell.task in comparison.tasks and group_of(record.cell) == group
    ]
    table = long_table(records)
    pairing = Pairing(table, group)
    cells = usable(pairing, table.cells, left_out)
    have: dict[str, dict[str, set[int]]] = {name: {} for name in names}
    for method, task, seed in zip(cells["method"], cells["task"], cells["seed"], strict=True):
        have[str(method)].setdefault(str(task), set()).add(int(seed))
    grid = pairing.grid(have, left_out)
    tested = TestedGrid(Selection(group, grid, {}, cells, comparison.baseline, None, ()), grid, RESAMPLES, RANDOM_SEED)
    difference, test = tested.suite.difference(1, 0), tested.test(1)
    shared = [int(task.shared([0, 1]).sum()) for task in grid.tasks]
    # That two trained models are alike says little of two methods: it takes two seeds.
    within = difference_within(difference, margin) if min(shared) > 1 else None
    rows, taught = zip(*(_rows(each) for each in records if each.cell.method == comparison.method), strict=True)
    seen = Seen(difference, None if test is None else test.p, within)
    return Evidence(seen, tested.suite.score(1), tested.suite.score(0), min(shared), fmean(rows), fmean(taught))


def _rows(record: CellRecord) -> tuple[int, int]:
    """Return the train rows of a cell, and how many of them had a rationale that its method reads."""
    data = record.data
    if data is None or not record.method.uses_rationales:
        return (data.train_rows if data else 0), 0
    return data.train_rows, data.train_rows if data.taught_rows is None else data.taught_rows


def _verdicts(
    comparisons: Sequence[Comparison],
    rulings: Sequence[Ruling],
    evidence: Mapping[int, Sequence[Evidence]],
    alpha: float,
) -> tuple[Verdict, ...]:
    if not rulings:
        return tuple(map(Verdict, comparisons))
    return tuple(
        Verdict(
            comparison,
            ruling,
            evidence[ruling.look][number],
            detectable(ruling.seen.difference, alpha / len(comparisons)),
        )
        for number, (comparison, ruling) in enumerate(zip(comparisons, rulings, strict=True))
    )


def _exploratory(study: Study, frozen: Frozen, records: Sequence[CellRecord], left_out: Sequence[str]) -> list[str]:
    """Return why a study is exploratory, as far as the file, what was frozen of it and the records tell."""
    if not frozen.time:
        return ["It was not frozen before it was run."]
    why = [
        f"The plan was changed on {each.time[:10]}, {each.why}: {shortened(list(each.changed)) or 'in its words'}."
        for each in frozen.amendments
    ]
    if changed := frozen.changes(frozen.model_copy(update={"content": study.content()})):
        why.append(f"The file has been changed since it was frozen: {shortened(changed)}.")
    early = [record for record in records if before(record.finished, frozen.time)]
    if early:
        cell = early[0].cell
        why.append(
            f"{len(early)} of {len(records)} records were made before it was frozen, as {cell.task} seed {cell.seed} "
            f"{cell.method}."
        )
    return [*why, *(f"Not all that was planned could be compared: {each}" for each in dict.fromkeys(left_out))]
