"""A suite: tasks read from a ``suite.yaml``, loaded into what methods and scoring need."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from dhrd_bench import registry
from dhrd_bench.contracts import Example, LabeledExample, TaskCard, derive_seed
from dhrd_bench.data.cards import SplitCard, SuiteCard, TaskDefinition, Value
from dhrd_bench.data.overlap import Overlap
from dhrd_bench.data.prompts import Renderer
from dhrd_bench.data.rationales import Rationale, RationaleStore
from dhrd_bench.data.rationales import read_rows as read_rationales
from dhrd_bench.data.rows import (
    Joined,
    Layout,
    SourceRow,
    empty_texts,
    fingerprint,
    join_rationales,
    partly_marked,
    read_rows,
)
from dhrd_bench.data.soft import digest_of, soft_labels
from dhrd_bench.data.sources import DataFolder, Source, find
from dhrd_bench.data.suitefile import read_suite
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.untrusted import leads_out

_log = logging.getLogger(__name__)

YES = 1
"""Label id of yes where a row is asked one candidate at a time."""


@dataclass(frozen=True, slots=True)
class TrainRow:
    """A train row of the suite with the examples made from it (one, or one a candidate).

    `label` is the row's class, `answer` the class that the rationale's writer gave, if it did; `counterfactuals` argue
    for other classes, each behind the class; `fields` and `input_hash` serve teachers. `beside_test` rows share their
    cluster's text with test rows.
    """

    id: str
    cluster: str
    label: int
    rationale: str | None
    examples: tuple[LabeledExample, ...]
    fields: Mapping[str, Value]
    input_hash: str
    answer: int | None = None
    counterfactuals: tuple[tuple[int, str], ...] = ()
    beside_test: bool = False


@dataclass(frozen=True, slots=True)
class TestSplit:
    """The test rows. A method is given `examples` only; the rest is for scoring.

    Attributes
    ----------
    examples
        ``(n * candidates,)`` inputs; those of a row follow each other.
    classes
        Names of the rows' classes by label id; what the metrics are over. They differ from the
        card's labels where a row is asked one candidate at a time.
    ids, labels
        ``(n,)`` names and label ids of the rows.
    clusters, groups
        ``(n,)`` or None where every row is its own.
    candidates
        Examples per row: 1, or the number of classes.
    rationales
        By row id, where the row itself has one. They are for readers; they argue for the label.
    """

    __test__: ClassVar[bool] = False  # not a test class of pytest's

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    clusters: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    candidates: int = 1
    rationales: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def texts(self) -> list[tuple[str, ...]]:
        """Return what is read of each row: its inputs' texts."""
        texts = [example.prompt.text for example in self.examples]
        return [tuple(texts[at : at + self.candidates]) for at in range(0, len(texts), self.candidates)]

    def take(self, rows: Sequence[int]) -> TestSplit:
        """Return the split of these rows, by position."""
        return TestSplit(
            examples=tuple(self.examples[row * self.candidates + k] for row in rows for k in range(self.candidates)),
            classes=self.classes,
            ids=tuple(self.ids[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
            clusters=self.clusters and tuple(self.clusters[row] for row in rows),
            groups=self.groups and tuple(self.groups[row] for row in rows),
            candidates=self.candidates,
            rationales=self.rationales,
        )


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """All rows of a task, asked with one prompt.

    Attributes
    ----------
    card
        The task as methods see it.
    train, test
        All rows of the source.
    source
        Where they came from.
    fingerprint, rationale_fingerprint, soft_fingerprint
        Digests of the rows, and of the rationales and soft labels used with their row ids; the last is empty if there
        are none.
    table_fingerprint
        Of the rationales that the cells of a table have in common; empty where it is `rationale_fingerprint`.
    rationale_coverage
        Share of the train rows that have a rationale.
    notes
        What was odd and is no error: rationales not used, empty texts, test rows that stand in train.
    overlap
        Ids of the test rows that have a text, or their cluster's text, of train rows.
    """

    card: TaskCard
    train: tuple[TrainRow, ...]
    test: TestSplit
    source: Source
    fingerprint: str
    rationale_fingerprint: str
    rationale_coverage: float
    notes: tuple[str, ...] = ()
    overlap: frozenset[str] = frozenset()
    soft_fingerprint: str = ""
    table_fingerprint: str = ""

    def rationales(self) -> dict[str, str]:
        """Return the rationales by row id."""
        return {row.id: row.rationale for row in self.train if row.rationale is not None}

    def taught(self, texts: Mapping[str, str]) -> LoadedTask:
        """Return the task with these rationales, by row id, and no others."""
        train = tuple(
            replace(
                row,
                rationale=texts.get(row.id),
                examples=tuple(replace(labeled, rationale=texts.get(row.id)) for labeled in row.examples),
            )
            for row in self.train
        )
        used = [(row.id, texts[row.id]) for row in train if row.id in texts]
        other = [(row.id, str(label), text) for row in train for label, text in row.counterfactuals]
        digest = hashlib.sha256("\x1e".join(map("\x1f".join, [*used, *other])).encode())
        return replace(
            self,
            train=train,
            rationale_fingerprint=digest.hexdigest()[:16],
            rationale_coverage=len(used) / len(train),
        )


class Suite:
    """A suite as its ``suite.yaml`` says; it knows no task by itself."""

    def __init__(self, card: SuiteCard, path: Path) -> None:
        self.card = card
        self.path = path

    @classmethod
    def read(cls, path: Path) -> Suite:
        """Read a ``suite.yaml``.

        Raises
        ------
        UserError
            With file, line, key and cure.
        """
        return cls(read_suite(path), path)

    @classmethod
    def named(cls, name: str) -> Suite:
        """Read the registered suite called `name`.

        Raises
        ------
        UserError
            If there is none, or its file has a mistake.
        """
        return cls.read(registry.suites.get(name))

    @property
    def name(self) -> str:
        """Name of the suite."""
        return self.card.name

    @property
    def version(self) -> str:
        """Semantic version of the suite."""
        return self.card.version

    def task_names(self) -> list[str]:
        """Return the names of the tasks in the order of the file."""
        return list(self.card.tasks)

    def resolve_tasks(self, names: Sequence[str] | None) -> list[str]:
        """Return the tasks called `names`, case aside and each once; all of them for None.

        Raises
        ------
        UserError
            If there is no such task, or the list is empty.
        """
        if names is None:
            return self.task_names()
        by_folded = {known.casefold(): known for known in self.card.tasks}
        for name in names:
            if name.casefold() not in by_folded:
                raise UserError(f"Suite {self.name!r} has no task {name!r}.", did_you_mean(name, self.card.tasks))
        if not names:
            raise UserError("No task was named.", f"Known: {', '.join(self.card.tasks)}.")
        return list(dict.fromkeys(by_folded[name.casefold()] for name in names))

    def prompt_names(self) -> list[str]:
        """Return the names of the prompts that every task has, the default one first."""
        shared = set.intersection(*(set(task.prompts) for task in self.card.tasks.values()))
        return sorted(shared, key=lambda name: (name != self.card.prompt, name))

    def store(self, reference: str | Path) -> RationaleStore:
        """Open a store: one that the suite names, or a folder; either may be pinned, as in ``NAME@FINGERPRINT``.

        Raises
        ------
        UserError
            If there is no such store, or its fingerprint is not the pinned one.
        """
        name, at, pin = str(reference).partition("@")
        if name in self.card.stores:
            return RationaleStore.open(f"{self.path.parent / self.card.stores[name]}{at}{pin}")
        try:
            return RationaleStore.open(reference)
        except UserError as error:
            if not self.card.stores or Path(name).exists():
                raise
            raise UserError(error.message, f"{did_you_mean(name, self.card.stores)} {error.hint}") from None

    def load(
        self,
        task: str,
        *,
        prompt: str | None = None,
        data_dir: Path | None = None,
        rationales: str | Path | None = None,
        alone: bool = False,
        unshared: bool = False,
    ) -> LoadedTask:
        """Read and check all rows of `task`.

        Parameters
        ----------
        task
            Name of the task, case aside.
        prompt
            Name of the prompt; None takes the suite's default.
        data_dir
            Folder that holds the task's files, see `dhrd_bench.data.sources.find`; it is read or refused. None
            takes the environment's ``DHRD_DATA_DIR`` if that is set.
        rationales
            A store to take the rationales from, see `store`; None takes the suite's own.
        alone
            Whether no other task is read from `data_dir`, so that the files may lie in it without a folder.
        unshared
            Whether train rows that share their cluster's text with test rows are left out.

        Raises
        ------
        UserError
            If the task or the prompt is unknown, no source has the rows, a row is malformed, or the store
            is not there, has changed since it was pinned, or has nothing of this task.
        """
        (name,) = self.resolve_tasks([task])
        definition = self.card.tasks[name]
        asked = prompt or self.card.prompt
        if asked not in definition.prompts:
            hint = did_you_mean(asked, definition.prompts)
            raise UserError(f"Task {name!r} of {self.name!r} has no prompt {asked!r}.", hint)
        where = DataFolder(data_dir, alone=alone) if data_dir is not None else None
        if where is None and (folder := os.environ.get("DHRD_DATA_DIR")):
            where = DataFolder(Path(folder), named=False)
        located = find(self.card, name, self.path.parent, where)
        layout = Layout.of(definition, definition.hub if located.source.kind == "hub" else None)
        splits = {split: read_rows(records, definition, layout) for split, records in located.splits.items()}
        if "all" in splits:
            assert definition.split is not None
            splits = _divide(splits["all"], definition.split)
        for split in ("train", "test"):
            if not splits[split]:
                raise UserError(f"The {split} split of task {name!r} of {self.name!r} has no rows.")
        if rationales is None:
            lines = self._own_rationales(name, definition)
        else:
            lines = _lines_of(self.store(rationales), name)
            splits["train"] = [replace(row, rationale=None) for row in splits["train"]]
        joined = join_rationales(splits["train"], definition, lines)
        notes = []
        if joined.mismatched:
            notes.append(f"{joined.mismatched} rationales were written for another input or label and are not used")
        if joined.absent:
            notes.append(f"{joined.absent} rationales belong to rows that this source does not have")
        for note in notes:
            _log.warning("%s, %s: %s.", self.name, name, note)
        for split, rows in splits.items():
            notes += [f"{count} {split} rows have an empty {field!r}" for field, count in empty_texts(rows).items()]
            notes += [f"{split}: {odd}"] if (odd := partly_marked(rows, definition)) else []
        known, apart = _keep_apart(self.name, splits, definition, unshared=unshared)
        loaded = _build(name, definition, asked, splits, joined, located.source, (*notes, *apart))
        loaded = loaded.taught(joined.texts)
        train = [tuple(labeled.example.prompt.text for labeled in row.examples) for row in loaded.train]
        texts = Overlap.of(train, loaded.test.ids, loaded.test.texts())
        overlap = frozenset((*known, *texts.same, *texts.alike))
        soft = soft_labels(splits["train"], definition, lines)
        return replace(
            loaded, notes=(*loaded.notes, *texts.notes()), overlap=overlap, soft_fingerprint=digest_of(soft),
            train=tuple(_with_soft(row, soft.get(row.id)) for row in loaded.train),
        )  # fmt: skip

    def _own_rationales(self, task: str, definition: TaskDefinition) -> list[Rationale]:
        if definition.rationale is None or definition.rationale.file is None:
            return []
        path = self.path.parent / definition.rationale.file.replace("{task}", task)
        if not path.is_file():
            hint = "Put the file there, or take 'rationale.file' away."
            raise UserError(f"No rationales of task {task!r} at {path}.", hint)
        if leads_out(path, self.path.parent):
            message = f"{path} is a link that leads out of the suite's folder."
            raise UserError(message, "Name the store where it lies with --rationales.")
        return read_rationales(path)


def _with_soft(row: TrainRow, soft: tuple[float, ...] | None) -> TrainRow:
    """Return `row` with soft labels; where it is asked one candidate at a time, those of each candidate."""
    if soft is None:
        return row
    alone = len(row.examples) == 1
    each = [soft] if alone else [(1 - share, share) for share in soft]
    examples = (replace(example, soft=own) for example, own in zip(row.examples, each, strict=True))
    return replace(row, examples=tuple(examples))


def _keep_apart(
    suite: str, splits: dict[str, list[SourceRow]], definition: TaskDefinition, *, unshared: bool
) -> tuple[list[str], list[str]]:
    """Return which test rows share their cluster's text with train rows, and notes on that.

    If the splits are to be `unshared`, those train rows are taken away, and no test row shares anything.
    """
    both = set.intersection(*({row.shared for row in rows if row.shared} for rows in splits.values()))
    if not both:
        return [], []
    train, test = ([row for row in splits[split] if row.shared in both] for split in ("train", "test"))
    what = " and ".join(definition.cluster)
    if not unshared:
        note = f"{len(test)} of {len(splits['test'])} test rows share their {what} with {len(train)} train rows"
        return [row.id for row in test], [f"{note}; '{suite}[unshared=true]' trains without these"]
    splits["train"] = [row for row in splits["train"] if row.shared not in both]
    if not splits["train"]:
        message = f"All {len(train)} train rows share their {what} with test rows."
        raise UserError(message, "Leave 'unshared' out, or divide the data by whole clusters.")
    return [], [f"{len(train)} train rows are left out, as they share their {what} with test rows"]


def _lines_of(store: RationaleStore, task: str) -> list[Rationale]:
    lines = store.rows(task)
    if not lines:
        raise UserError(
            f"The store at {store.folder} has no rationales of task {task!r}.", did_you_mean(task, store.tasks())
        )
    if not any(line.usable or line.opinion for line in lines):
        raise UserError(
            f"The store at {store.folder} has no usable rationale of task {task!r}: all {len(lines)} are rejected.",
            "'dhrd-bench rationales audit' says why.",
        )
    return lines


def own_store(suite: Suite) -> RationaleStore | None:
    """Return the store beside ``suite.yaml`` that the suite's tasks name; None if its rationales stand in its rows."""
    for task, definition in suite.card.tasks.items():
        if definition.rationale and definition.rationale.file:
            path = suite.path.parent / definition.rationale.file.replace("{task}", task)
            if path.name == f"{task}.jsonl" and path.is_file():
                return RationaleStore(path.parent)
    return None


def seeded_order(names: Sequence[str], seed: int) -> list[str]:
    """Return the distinct `names` in an order drawn by `seed`.

    Each name's place comes from a hash of the seed and the name, so the order is the same on every
    machine, and the order of any two names does not depend on which others there are.
    """
    return sorted(dict.fromkeys(names), key=lambda name: (derive_seed(str(seed), name), name))


def _divide(rows: list[SourceRow], rule: SplitCard) -> dict[str, list[SourceRow]]:
    """Divide rows into train and test by whole clusters; both get at least one."""
    order = seeded_order([row.cluster for row in rows], rule.seed)
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.cluster] = sizes.get(row.cluster, 0) + 1
    test: set[str] = set()
    taken = 0
    for cluster in order[:-1]:
        if taken >= rule.test_fraction * len(rows):
            break
        test.add(cluster)
        taken += sizes[cluster]
    return {
        "train": [row for row in rows if row.cluster not in test],
        "test": [row for row in rows if row.cluster in test],
    }


def _build(
    name: str,
    definition: TaskDefinition,
    prompt: str,
    splits: Mapping[str, Sequence[SourceRow]],
    joined: Joined,
    source: Source,
    notes: tuple[str, ...],
) -> LoadedTask:
    """Return the task without rationales, but with what else `joined` has of its rows."""
    card = definition.prompts[prompt]
    classes = definition.label.names
    labels = ("no", "yes") if card.candidates else classes
    answers = card.answers or labels
    renderer = Renderer(card, answers)

    def examples(row: SourceRow) -> list[Example]:
        texts = renderer.render(row.fields, row.place)
        if not card.candidates:
            return [Example(row.id, texts[0])]
        return [Example(f"{row.id}:{which}", text) for which, text in zip(classes, texts, strict=True)]

    def train_row(row: SourceRow) -> TrainRow:
        other = joined.counterfactuals.get(row.id, ())
        labeled = tuple(
            _labeled(example, which if card.candidates else None, row.label, other)
            for which, example in enumerate(examples(row))
        )
        answer, beside_test = joined.answers.get(row.id), row.shared in tested
        return TrainRow(
            row.id, row.cluster, row.label, None, labeled, row.fields, row.input_hash, answer, other, beside_test
        )  # fmt: skip

    train, test = splits["train"], splits["test"]
    tested = {row.shared for row in test if row.shared}
    return LoadedTask(
        card=TaskCard(
            name=name,
            labels=labels,
            answers=answers,
            reason=card.reason,
            answer=card.answer,
            instruction=renderer.instruction,
            metrics=definition.metrics,
            prompt=prompt,
            prompt_version=renderer.version,
            version=definition.version,
            description=definition.description,
            licence=definition.licence,
            paper=definition.paper,
        ),
        train=tuple(train_row(row) for row in train),
        test=TestSplit(
            examples=tuple(example for row in test for example in examples(row)),
            classes=classes,
            ids=tuple(row.id for row in test),
            labels=tuple(row.label for row in test),
            clusters=tuple(row.cluster for row in test) if len({row.cluster for row in test}) < len(test) else None,
            groups=tuple(row.group for row in test) if definition.group else None,
            candidates=len(card.candidates) or 1,
            rationales={row.id: row.rationale for row in test if row.rationale},
        ),
        source=source,
        fingerprint=fingerprint({"train": train, "test": test}, classes),
        rationale_fingerprint="",
        rationale_coverage=0.0,
        notes=notes,
    )


def _labeled(
    example: Example,
    candidate: int | None,
    label: int,
    counterfactuals: tuple[tuple[int, str], ...],
) -> LabeledExample:
    """Return what is learnt of a row of class `label`, or of one of its candidates: whether it is the right one."""
    if candidate is None:
        return LabeledExample(example, label, None, counterfactuals)
    own = int(candidate == label)
    told = ((int(candidate == other), text) for other, text in counterfactuals)
    # Of three candidates one may be wrong in both worlds: what argues for another tells nothing against that.
    return LabeledExample(example, own, None, tuple(pair for pair in told if pair[0] != own))
