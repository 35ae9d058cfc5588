"""Filling a store: which rows still need a rationale, asking for them, keeping every reply."""

from __future__ import annotations

import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from dhrd_bench.contracts import derive_seed
from dhrd_bench.data.rationales import Idx, Rationale, RationaleStore, example_key
from dhrd_bench.errors import UserError
from dhrd_bench.rationales.card import Recipe, read_store_card, recipe_of, write_card
from dhrd_bench.rationales.prompts import Ask, TeacherPrompt
from dhrd_bench.rationales.teachers.teacher import Failure, Reply, Teacher


@dataclass(frozen=True, slots=True)
class TeacherRow:
    """A train row as a teacher sees it.

    Attributes
    ----------
    idx, input_hash
        What the rationale will be joined by.
    text
        The input.
    label, raw_label
        Label id, and the gold label as the data set writes it.
    """

    idx: Idx
    input_hash: str
    text: str
    label: int
    raw_label: bool | int | float | str

    @property
    def key(self) -> tuple[str, str]:
        """As `Rationale.key`."""
        return example_key(self.idx), self.input_hash


@dataclass(slots=True)
class Summary:
    """What one call did.

    Attributes
    ----------
    present
        Rows that had all they need before.
    usable, rejected, failed
        New lines that may be trained on, new lines that may not by reason, rows without a reply.
    tokens_in, tokens_out, cost
        Of the new lines; `cost` by currency.
    open
        Rows that still lack a rationale and have a try left.
    stopped
        Why the teacher took no more, or None.
    """

    present: int = 0
    usable: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    open: int = 0
    stopped: str | None = None

    @property
    def received(self) -> int:
        """Replies received."""
        return self.usable + self.rejected.total()

    @property
    def acceptance(self) -> float | None:
        """Share of the replies that may be used."""
        return self.usable / self.received if self.received else None


def choose(rows: Sequence[TeacherRow], limit: int | None, *names: str) -> list[TeacherRow]:
    """Return `limit` of `rows`: shuffled by a seed from `names`, so that a larger limit extends a smaller one."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return sorted(rows, key=lambda row: derive_seed("rationales", *names, *row.key))[:limit]


@dataclass(frozen=True)
class Job:
    """One task's rationales from one teacher and one prompt.

    Attributes
    ----------
    answers
        The words that stand for the classes, by label id.
    input_prompt
        Name and version of the suite's prompt that made the rows' texts.
    samples
        Usable rationales wanted a row.
    attempts
        Replies asked for a row at most, usable or not.
    """

    store: RationaleStore
    task: str
    rows: Sequence[TeacherRow]
    answers: Sequence[str]
    prompt: TeacherPrompt
    teacher: Teacher
    input_prompt: str = ""
    samples: int = 1
    attempts: int = 1

    @property
    def recipe(self) -> Recipe:
        """How the lines of this job are made."""
        return Recipe(
            teacher=self.teacher.name,
            prompt=self.prompt.identity,
            label_seen=self.prompt.label_seen,
            parameters=self.teacher.parameters | {"input": self.input_prompt},
        )

    def todo(self) -> list[tuple[TeacherRow, int]]:
        """Return (row, sample number) of the next reply that each unfinished row needs.

        Raises
        ------
        UserError
            If the store has lines that were made otherwise, or from other inputs.
        """
        card = read_store_card(self.store)
        tries: Counter[tuple[str, str]] = Counter()
        usable: Counter[tuple[str, str]] = Counter()
        hashes = {row.key[0]: row.key[1] for row in self.rows}
        for line in self.store.rows(self.task):
            place = self.store.path(self.task)
            if (made := recipe_of(line, card)) != self.recipe:
                raise UserError(
                    f"{place} was made otherwise ({_difference(made, self.recipe)}).",
                    "Choose another --output for this, and join the two with 'rationales merge'.",
                )
            if hashes.get(line.key[0], line.key[1]) != line.key[1]:
                raise UserError(
                    f"{place}: row {line.key[0]} was made from another input than the data have now.",
                    "Choose another --output, or restore the data.",
                )
            tries[line.key] = max(tries[line.key], line.sample + 1)
            usable[line.key] += line.factual
        most = max(self.samples, self.attempts)
        return [(row, tries[row.key]) for row in self.rows if usable[row.key] < self.samples and tries[row.key] < most]

    def run(self, progress: Callable[[Summary], None] = lambda summary: None) -> Summary:
        """Ask until no row is open or the teacher stops; every reply is on the disk before the next is counted.

        The first Ctrl-C stops the teacher and still waits for what is under way.

        Raises
        ------
        UserError
            As the teacher does. What was received until then is in the store, and its card is up to date.
        """
        todo = self.todo()
        summary = Summary(present=len(self.rows) - len(todo), open=len(todo))
        if not todo:
            return summary
        try:
            with self.store.writer(self.task) as writer, first_interrupt(self.teacher.stop):
                while todo:
                    asks = (self.ask(row, sample) for row, sample in todo)
                    failed = len(summary.failed)
                    for position, outcome in self.teacher.replies(asks):
                        row, sample = todo[position]
                        if isinstance(outcome, Failure):
                            summary.failed.append(f"{example_key(row.idx)}: {outcome.reason}")
                        else:
                            line = self._line(row, sample, outcome)
                            writer.append(line)
                            _count(summary, line)
                        progress(summary)
                    summary.stopped = self.teacher.stopped
                    if summary.stopped or len(summary.failed) > failed:
                        break
                    todo = self.todo()  # rows whose reply was rejected and that have a try left
        finally:
            summary.open = len(self.todo())
            write_card(self.store)
        return summary

    def ask(self, row: TeacherRow, sample: int) -> Ask:
        """Return what the teacher is sent about `row`."""
        return replace(self.prompt.render(row.text, self.answers, row.label), sample=sample)

    def _line(self, row: TeacherRow, sample: int, reply: Reply) -> Rationale:
        reading = self.prompt.read(reply.text, self.answers)
        rejected = self._rejection(reply, reading.rationale, reading.closed, reading.answer, row.label)
        return Rationale(
            idx=row.idx,
            label=row.raw_label,
            rationale=reply.text if rejected else reading.rationale,
            input_sha256_16=row.input_hash,
            sample=sample,
            **self.recipe.model_dump(),
            answer=None if reading.answer is None else self.answers[reading.answer],
            rejected=rejected,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=reply.cost,
            currency=reply.currency,
            seconds=round(reply.seconds, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            model=reply.model,
        )

    def _rejection(self, reply: Reply, rationale: str, closed: bool, answer: int | None, label: int) -> str | None:
        """Return why a reply must not be used. A teacher that saw the label is held to its form only."""
        if reply.finish == "refused":
            return "refused"
        if reply.finish == "length" and not closed:
            return "cut off"
        if not rationale:
            return "empty"
        if self.prompt.label_seen:
            return None
        return "no answer" if answer is None else None if answer == label else "other label"


@contextmanager
def first_interrupt(call: Callable[[], None]) -> Iterator[None]:
    """Have the first Ctrl-C run `call` instead of breaking off; the second breaks off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, previous)
        call()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _count(summary: Summary, line: Rationale) -> None:
    if line.rejected:
        summary.rejected[line.rejected] += 1
    else:
        summary.usable += 1
    summary.tokens_in += line.tokens_in or 0
    summary.tokens_out += line.tokens_out or 0
    if line.cost is not None and line.currency:
        summary.cost[line.currency] += line.cost


def _difference(made: Recipe, wanted: Recipe) -> str:
    parts = [
        f"{name} {getattr(made, name)} instead of {getattr(wanted, name)}"
        for name in Recipe.model_fields
        if getattr(made, name) != getattr(wanted, name)
    ]
    return "; ".join(parts)
