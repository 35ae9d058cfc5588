"""Which row of a suite a sample is of, and which class it was given; or rows made of the samples themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dhrd_bench.data.rows import Layout, SourceRow, label_key, read_rows
from dhrd_bench.data.sources import DataFolder, find
from dhrd_bench.data.suite import LoadedTask, Suite
from dhrd_bench.errors import UserError
from dhrd_bench.importing.logs import Log, Sample

UNREAD = -1
MOST_ROWS = 1_000_000
LONG_NAME = 40
"""Characters from which on a choice is a text, and no name of a class."""


@dataclass(frozen=True)
class Answered:
    """A row and what it was given.

    `choice` is the position of what was taken, and `gold` that of what is right, where the log tells both.
    """

    row: str
    right: bool
    gold: int | None
    choice: int | None
    scores: tuple[float, ...] | None
    said: str


@dataclass
class Taken:
    """What was taken of one repetition of a log; `left` counts what was not, by the reason."""

    answers: dict[str, Answered] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)


class Target(Protocol):
    """Whose rows samples are of."""

    def row_of(self, sample: Sample) -> str | None:
        """Return the name of the sample's row, None if it is none of them."""


def take(log: Log, rows: Target) -> dict[int, Taken]:
    """Return what a log answers, by repetition.

    A sample that is of no row, that was not scored, or whose row was answered before is left out and counted.

    Raises
    ------
    UserError
        If the log cannot be read, or holds too much.
    """
    taken: defaultdict[int, Taken] = defaultdict(Taken)
    for number, sample in enumerate(log.samples()):
        if number >= MOST_ROWS:
            raise UserError(f"{log.path} has more than {MOST_ROWS:,} samples.", "Divide it.")
        here = taken[sample.epoch]
        row = rows.row_of(sample)
        reason = (
            "were not scored" if sample.right is None
            else "are none of the test rows" if row is None
            else "are of a row that was answered before" if row in here.answers
            else ""
        )  # fmt: skip
        if reason or row is None or sample.right is None:
            here.left[reason] += 1
            here.first.setdefault(reason, sample.place)
            continue
        told = sample.told
        here.answers[row] = Answered(
            row, sample.right, sample.gold if told else None, sample.chosen if told else None, sample.scores,
            sample.said,
        )  # fmt: skip
    return dict(taken)


# ---------------------------------------------------------------- rows of a suite


class SuiteRows:
    """The test rows of a suite's task.

    A sample is of a row if its document is that row's, by the suite's own way of reading it; or if it has the row's
    name and the row's texts stand in what was asked. One of the two is not enough where samples are numbered.
    """

    def __init__(self, suite: Suite, loaded: LoadedTask, data_dir: Path | None) -> None:
        self.loaded = loaded
        self._task = suite.card.tasks[loaded.card.name]
        where = DataFolder(data_dir, alone=True) if loaded.source.kind == "data-dir" and data_dir else None
        located = find(suite.card, loaded.card.name, suite.path.parent, where)
        self._layouts = [Layout.of(self._task)]
        if self._task.hub is not None:
            self._layouts.append(Layout.of(self._task, self._task.hub))
        layout = self._layouts[-1 if located.source.kind == "hub" else 0]
        split = located.splits.get("test") or located.splits["all"]
        tested = set(loaded.test.ids)
        self._label_of = dict(zip(loaded.test.ids, loaded.test.labels, strict=True))
        self._rows = {row.id: row for row in read_rows(split, self._task, layout) if row.id in tested}
        self._by_hash: defaultdict[str, list[str]] = defaultdict(list)
        for row in self._rows.values():
            self._by_hash[row.input_hash].append(row.id)

    def row_of(self, sample: Sample) -> str | None:
        """Return the id of the sample's row, None if it is of none or it is not sure of which."""
        for layout in self._layouts:
            # Its class is not compared: a log may number what the suite has names for.
            doc = {**sample.doc, layout.label: layout.values[0]}
            try:
                found = read_rows([(sample.place, doc)], self._task, layout)
            except UserError:
                continue
            if len(found) == 1:
                return self._same(found[0])
        row = self._rows.get(sample.name)
        return row.id if row is not None and self._asks(sample.text, row) else None

    def _same(self, row: SourceRow) -> str | None:
        own = self._rows.get(row.id) if self._task.id else None
        if own is not None and own.input_hash == row.input_hash:
            return own.id
        alike = self._by_hash.get(row.input_hash, [])
        return alike[0] if len(alike) == 1 else None

    def _asks(self, asked: str, row: SourceRow) -> bool:
        """Whether all of a row's texts stand in what was asked."""
        texts = [str(row.fields[name]).strip() for name in self._task.hash or self._task.fields]
        return all(text in asked for text in texts) and any(texts)

    def classes(self, answers: Iterable[Answered]) -> dict[int, int] | None:
        """Return the class of each choice, as the right ones tell it; None if they tell no one order.

        One that is never right is the class that is left, if one is.
        """
        found: dict[int, int] = {}
        for answer in answers:
            label = self._label_of[answer.row]
            if answer.gold is None or found.setdefault(answer.gold, label) != label:
                return None
        every = range(len(self.loaded.test.classes))
        if len(set(found.values())) < len(found) or not set(found) <= set(every):
            return None
        places, labels = (sorted(set(every) - set(seen)) for seen in (found, found.values()))
        return found | dict(zip(places, labels, strict=True)) if len(places) < 2 else None

    def predicted(self, answer: Answered, classes: Mapping[int, int] | None) -> int:
        """Return the class that was answered: by its choice, by its words, or, of a right one, the row's own."""
        if classes is not None and answer.choice is not None:
            return classes.get(answer.choice, UNREAD)
        if answer.right:
            return self._label_of[answer.row]
        said = label_key(answer.said)
        for names in (self.loaded.test.classes, self.loaded.card.answers):
            known = [label_key(name) for name in names]
            if len(names) == len(self.loaded.test.classes) and said in known:
                return known.index(said)
        return UNREAD


# ---------------------------------------------------------------- rows of the log itself


class OwnRows:
    """Rows made of the samples: one a document, by its name and the digest of its content."""

    def row_of(self, sample: Sample) -> str:
        """Return the name of the sample's row."""
        return f"{sample.name[:60]}-{sample.digest[:12]}"


def own_classes(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Return the classes of a log's rows: its choices if every sample tells what was taken, else wrong and right.

    Choices that are the same throughout have their names, others their numbers.
    """
    every: set[tuple[str, ...]] = set()
    most = 0
    for sample in samples:
        if sample.right is None:
            continue
        if not sample.told:
            return WRONG_OR_RIGHT
        most = max(most, len(sample.choices))
        if len(every) < 2:
            every.add(sample.choices)
    if most < 2:
        return WRONG_OR_RIGHT
    (names, *others) = every
    plain = not others and len(set(names)) == len(names) and all(0 < len(name) <= LONG_NAME for name in names)
    return names if plain else tuple(str(number) for number in range(1, most + 1))


WRONG_OR_RIGHT = ("wrong", "right")
"""The classes where it is only known whether an answer is right: every row is of the second one."""


def in_order(rows: Sequence[str], answers: Mapping[str, Answered]) -> list[Answered]:
    """Return the answers in the order of `rows`."""
    return [answers[row] for row in rows if row in answers]
