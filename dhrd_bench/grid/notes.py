"""What is odd about a cell and known before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dhrd_bench.contracts import Budget, Example, MethodCard, TaskData
from dhrd_bench.data.rationales import Rationale, RationaleStore
from dhrd_bench.data.suite import Suite, TestSplit
from dhrd_bench.errors import UserError

TOO_LONG = 4
"""An input that cannot be cut is kept whole up to this many times the budget's length; beyond, it would take hours."""

KINDS: dict[str, Callable[[Rationale], bool]] = {
    "rationale": lambda line: line.factual,
    "counterfactual rationale": lambda line: line.usable and line.counterfactual,
    "soft label": lambda line: line.opinion,
}
"""What methods learn from, and which lines of a store have it."""


def teacher_notes(method: str, card: MethodCard, data: TaskData) -> list[str]:
    """Say that a method which learns from rationales or soft labels is not given one a row: it is another one then."""
    with_one, soft, count = _with_rationale(data), sum(row.soft is not None for row in data.train), len(data.train)
    short = card.uses_soft_labels and soft < count
    notes = [f"{method}: {soft} of {count} train rows have soft labels; the others have their label"] if short else []
    if not card.uses_rationales or with_one == count:
        return notes
    note = f"{method}: {with_one} of {count} train rows have a rationale"
    return [*notes, note if with_one else f"{note}; it learns from none, as its form without rationales does"]


def missing_rationales(card: MethodCard, data: TaskData) -> str:
    """Return the kind of rationale of which the method needs some and is given none, which makes it another one."""
    if card.uses_rationales and not card.rationales_optional and not _with_rationale(data):
        return "rationale"
    if card.uses_counterfactuals and not any(row.counterfactuals for row in data.train):
        return "counterfactual rationale"
    return ""


def store_with(kind: str, suite: Suite, tasks: list[str]) -> str:
    """Return by which options a run on `tasks` reads a store of its suite that has this kind; empty if none has."""
    for name, folder in suite.card.stores.items():
        store = RationaleStore(suite.path.parent / folder)
        having = [task for task in tasks if any(map(KINDS[kind], store.rows(task)))]
        if having:
            fewer = f"--tasks {','.join(having)} " if len(having) < len(tasks) else ""
            return f"{fewer}--rationales {name}"
    return ""


def _with_rationale(data: TaskData) -> int:
    return sum(row.rationale is not None for row in data.train)


def length_notes(data: TaskData, test: TestSplit, budget: Budget) -> list[str]:
    """Say how many inputs are longer than the budget allows and have nothing that may be cut.

    A word is at least one token, so the words of what cannot be cut are a lower bound without a tokenizer.

    Raises
    ------
    UserError
        If one is so long that it must not be kept whole.
    """
    counts = {example.id: _uncut_words(example) for example in _examples(data, test)}
    long = {name: words for name, words in counts.items() if words > budget.max_length}
    if not long:
        return []
    worst = max(long, key=lambda name: long[name])
    message = (
        f"{len(long)} inputs have more words than the budget's max_length of {budget.max_length} and the prompt names "
        f"nothing that may be cut (the longest: row {worst!r}, {long[worst]} words)"
    )
    if long[worst] > TOO_LONG * budget.max_length:
        hint = "Name the field that may be cut with 'truncate' in the prompt, or raise max_length of the budget."
        raise UserError(f"Task {data.card.name!r}: {message}.", hint)
    return [f"{message}; they are kept whole"]


def _examples(data: TaskData, test: TestSplit) -> Iterable[Example]:
    yield from (row.example for row in (*data.train, *data.dev))
    yield from test.examples


def _uncut_words(example: Example) -> int:
    return sum(len(text.split()) for text, cut in example.prompt.pieces if cut is None)
