"""One board of a leaderboard: all there is to show of one suite, backbone and budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from dhrd_bench.report.cascades import cascades_table, without_frontier
from dhrd_bench.report.costs import accuracy_and_throughput, costs_a_point
from dhrd_bench.report.figures import many
from dhrd_bench.report.further import aggregates, equivalences
from dhrd_bench.report.layout import Section, Table
from dhrd_bench.report.leakage import Leakage, leakage_table
from dhrd_bench.report.paper import Comparison, PublishedFigures, claims_table
from dhrd_bench.report.scores import gains_by_task, main_table, scores_by_task
from dhrd_bench.report.taught import taught_notes
from dhrd_bench.report.timed import TimedMethod, timed_table
from dhrd_bench.report.tuned import trials_table, tuned_note
from dhrd_bench.report.verdict import Verdict, verdict
from dhrd_bench.report.verified import verified_share, with_marks
from dhrd_bench.results.table import LongTable
from dhrd_bench.results.tuned import Search
from dhrd_bench.stats.analysis import Analysis
from dhrd_bench.stats.cascade import Frontier, frontiers
from dhrd_bench.stats.claims import shared_machine
from dhrd_bench.stats.probabilities import Probabilities, probabilities


@dataclass(frozen=True, eq=False)
class Board:
    """What is known of one suite, backbone and budget.

    Attributes
    ----------
    analysis
        Every figure of the scored cells.
    timed
        Methods that were timed side by side, one a method and run.
    published, claims
        A paper's figures, and its claims beside ours; None and none if no paper was asked about.
    badges
        What the rationales that the methods were trained on are.
    leakages
        What the rationales of methods that were taught with several stores give away.
    searches
        Searches whose choices are among the methods.
    table
        The records that the analysis is of, for what they say of single rows.
    """

    analysis: Analysis
    timed: tuple[TimedMethod, ...] = ()
    published: PublishedFigures | None = None
    claims: tuple[Comparison, ...] = ()
    badges: tuple[str, ...] = ()
    leakages: tuple[Leakage, ...] = ()
    searches: tuple[Search, ...] = ()
    table: LongTable | None = field(default=None, repr=False)

    def section(self) -> Section:
        """Lay the board out."""
        group = self.analysis.selection.group
        title = f"{group.suite} · {group.backbone} · {group.budget}"
        methods = [line.method for line in self.analysis.lines]
        tuned = filter(None, (tuned_note(search, methods) for search in self.searches))
        taught = taught_notes(self.analysis.selection.cells)
        lacking = without_frontier(self.analysis.selection, self.frontiers)
        notes = (*self.analysis.notes, *lacking, *tuned, *self._beside_others(), *taught, *self.badges)
        return Section(title, self._about(), self.verdict.sentences, tuple(self._tables()), notes)

    @cached_property
    def verdict(self) -> Verdict:
        """What the tests show, by claims and in plain words: what every form of a report opens with."""
        return verdict(self.analysis, self.timed)

    @cached_property
    def probabilities(self) -> list[Probabilities]:
        """The class probabilities of the ranked methods by task; none without the records."""
        return [] if self.table is None else probabilities(self.table, self.analysis.selection)

    @cached_property
    def frontiers(self) -> list[Frontier]:
        """What handing on from a fast method to a slow one would give."""
        analysis = self.analysis
        return frontiers(self.probabilities, analysis.selection, analysis.speed, analysis.resamples, analysis.seed)

    def _beside_others(self) -> Iterator[str]:
        """Say of cells that were timed while others ran."""
        cells = self.analysis.selection.cells
        many_at_a_time = shared_machine(self.analysis)
        if many_at_a_time:
            yield (
                f"{many_at_a_time} of {len(cells)} cells ran beside others (--workers): their QPS is that of a shared "
                "machine. Take speeds from `dhrd-bench throughput`."
            )

    def _about(self) -> str:
        tasks = self.analysis.selection.grid.tasks
        seeds = sorted({len(task.seeds) for task in tasks})
        count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
        rows = sum(len(task.labels) for task in tasks)
        metrics = {tuple(task.info.metrics) for task in tasks}
        alone = next(iter(metrics)) if len(metrics) == 1 else ()
        by = f" scored by {alone[0]}" if len(alone) == 1 else ""
        return (
            f"{many(len(tasks), 'task')}{by}, {count} {'seed' if seeds[-1] == 1 else 'seeds'} each, {rows:,} test "
            f"examples; {self.analysis.resamples:,} resamples, random seed {self.analysis.seed}"
        )

    def _tables(self) -> Iterator[Table]:
        analysis = self.analysis
        verified = verified_share(analysis.selection.cells, self.table.verified) if self.table else {}
        yield with_marks(main_table(analysis), verified)
        yield scores_by_task(analysis)
        if any(line.versus for line in analysis.lines):
            yield gains_by_task(analysis)
        if self.leakages:
            yield leakage_table(self.leakages, analysis.selection.baseline)
        yield accuracy_and_throughput(analysis, self.frontiers)
        if analysis.selection.baseline is not None:
            yield costs_a_point(analysis)
        if self.frontiers:
            yield cascades_table(analysis.selection, self.frontiers)
        if analysis.margin is not None:
            yield equivalences(analysis)
        if self.timed:
            yield timed_table(self.timed)
        if self.published is not None:
            yield claims_table(self.claims, analysis, self.published)
        yield from map(trials_table, self.searches)
        yield aggregates(analysis)
