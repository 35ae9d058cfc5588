"""What an audit found, as data, as a table and as a footnote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from dhrd_bench.errors import shown
from dhrd_bench.progress import literal

if TYPE_CHECKING:
    from rich.console import RenderableType


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Thresholds(_Part):
    """From where on a store counts as unusable; shares of its rationales.

    Attributes
    ----------
    contamination
        Rationales that copy from an evaluation input.
    duplicates
        Rationales that repeat another row's.
    ngram
        Words in a row that count as copied from an evaluation input.
    jaccard, containment
        From where on MinHash comparisons count: two rationales, a rationale within an evaluation input.
    """

    contamination: float = Field(0.01, ge=0, le=1)
    duplicates: float = Field(0.05, ge=0, le=1)
    ngram: int = Field(8, ge=3)
    jaccard: float = Field(0.7, gt=0, le=1)
    containment: float = Field(0.5, gt=0, le=1)


class Remark(_Part):
    """Something to know; an ``error`` makes the store unusable."""

    level: Literal["error", "warning"]
    message: str


class Lengths(_Part):
    """Words per rationale."""

    mean: float
    shortest: int
    median: float
    longest: int


class TaskAudit(_Part):
    """One task. Shares are 0-1; None is what could not be checked without the task's rows.

    Attributes
    ----------
    rows, covered
        Train rows, and how many of them have a rationale that fits.
    rationales
        Usable lines; a row may have several.
    rejected
        Lines kept back, by reason.
    by_class, rows_by_class
        Rationales, and train rows, by class name.
    mismatched, mislabelled, absent
        Lines written for another input, with another label than the row's, for a row that is not there.
    verdicts, names
        Share that has a verdict word; that has a class name or answer word.
    predictable, base_rate
        Accuracy of reading the label from the rationale alone, and the share of the largest class.
    copied
        Mean share of a rationale's word 5-grams that stand in its own input.
    contaminated
        Rationales that copy from an evaluation input what their own input does not have.
    duplicates
        Rationales that repeat an earlier one of another row.
    languages
        Share by ISO 639-1 code.
    rationale_fingerprint
        As runs record it.
    """

    task: str
    rows: int | None = None
    covered: int | None = None
    rationales: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    by_class: dict[str, int] = Field(default_factory=dict)
    rows_by_class: dict[str, int] | None = None
    mismatched: int | None = None
    mislabelled: int | None = None
    absent: int | None = None
    words: Lengths | None = None
    verdicts: float = 0.0
    names: float = 0.0
    predictable: float | None = None
    base_rate: float | None = None
    copied: float | None = None
    contaminated: int | None = None
    duplicates: int = 0
    languages: dict[str, float] = Field(default_factory=dict)
    rationale_fingerprint: str | None = None
    problems: list[Remark] = Field(default_factory=list)

    @property
    def coverage(self) -> float | None:
        """Share of the train rows that have a rationale."""
        return None if self.rows is None or self.covered is None else self.covered / self.rows

    @property
    def usable(self) -> bool:
        """Whether no problem is an error."""
        return not any(problem.level == "error" for problem in self.problems)


class Audit(_Part):
    """All tasks of a store.

    Attributes
    ----------
    origin
        Where the rationales are: a folder, or the suite itself.
    teachers
        Who wrote them, as the store's card says.
    label_seen
        Whether the teacher was shown the gold label; None if that is unknown or differs.
    not_checked
        What could not be checked, and why.
    """

    suite: str
    origin: str
    teachers: list[str] = Field(default_factory=list)
    label_seen: bool | None = None
    thresholds: Thresholds
    tasks: list[TaskAudit]
    not_checked: list[str] = Field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether every task is."""
        return bool(self.tasks) and all(task.usable for task in self.tasks)


def badge(audit: Audit) -> str:
    """Return one line for a leaderboard's footnotes: what the rationales behind it are."""
    total = sum(task.rationales for task in audit.tasks)
    seen = {True: "gold label shown", False: "gold label hidden", None: ""}[audit.label_seen]
    parts = [f"{total:,} for {len(audit.tasks)} task{'s' if len(audit.tasks) != 1 else ''}", seen]
    rows = [task.rows for task in audit.tasks if task.rows is not None]
    if len(rows) == len(audit.tasks):
        covered = sum(task.covered or 0 for task in audit.tasks)
        parts.append(f"{_percent(covered / max(1, sum(rows)))} of the train rows")
    parts.append(
        f"{_percent(sum(task.verdicts * task.rationales for task in audit.tasks) / max(1, total))} with a verdict word"
    )
    read = [
        (task.predictable, task.base_rate) for task in audit.tasks if task.predictable is not None and task.base_rate
    ]
    if read:
        accuracy, base_rate = (sum(values) / len(read) for values in zip(*read, strict=True))
        parts.append(f"label read from them alone {accuracy:.2f} (largest class {base_rate:.2f})")
    checked = [task.contaminated for task in audit.tasks if task.contaminated is not None]
    copies = f"{sum(checked)} copied from evaluation inputs" if len(checked) == len(audit.tasks) else ""
    parts.append(copies or "evaluation overlap not checked")
    state = "audit passed" if audit.usable else "audit FAILED"
    return f"Rationales: {', '.join(filter(None, parts))}; {state}."


# ---------------------------------------------------------------- tables


_HELD: list[tuple[str, Literal["left", "right"]]] = [
    ("task", "left"), ("n", "right"), ("coverage", "right"), ("by class", "left"),
    ("words", "right"), ("rejected", "right"), ("misfits", "right"), ("", "left"),
]  # fmt: skip
_GIVEN: list[tuple[str, Literal["left", "right"]]] = [
    ("task", "left"), ("verdict", "right"), ("names", "right"), ("label read", "right"),
    ("own input", "right"), ("eval", "right"), ("repeats", "right"), ("lang", "left"),
]  # fmt: skip
_CAPTION = (
    "verdict, names: share with a verdict word, with a class name or answer word. label read: accuracy of a "
    "bag-of-words classifier on the rationale alone, 5-fold (share of the largest class). own input: mean share of "
    "word 5-grams copied from it. eval: rationales with {n} words in a row, or half their text, from an evaluation "
    "input. ?: not checked."
)


def tables(audit: Audit) -> list[RenderableType]:
    """Lay the audit out for a terminal."""
    from rich.table import Table
    from rich.text import Text

    held = Table(title=literal(f"Rationales of {audit.suite} ({audit.origin}): what is there"))
    given = Table(
        title="What they give away", caption=_CAPTION.format(n=audit.thresholds.ngram), caption_justify="left"
    )
    for table, columns in ((held, _HELD), (given, _GIVEN)):
        for column, justify in columns:
            table.add_column(column, justify=justify)
    for task in audit.tasks:
        words = task.words
        held.add_row(
            literal(task.task),
            f"{task.rationales:,}",
            "?" if task.coverage is None else f"{_percent(task.coverage)} of {task.rows:,}",
            literal(", ".join(f"{count} {name}" for name, count in task.by_class.items())),
            f"{words.mean:.0f} ({words.shortest}-{words.longest})" if words else "-",
            str(sum(task.rejected.values())),
            "?" if task.mismatched is None else str(task.mismatched + (task.mislabelled or 0) + (task.absent or 0)),
            Text("ok", "green") if task.usable else Text("UNUSABLE", "bold red"),
        )
        given.add_row(
            literal(task.task),
            _percent(task.verdicts),
            _percent(task.names),
            "?" if task.predictable is None else f"{task.predictable:.2f} ({task.base_rate:.2f})",
            "?" if task.copied is None else _percent(task.copied),
            "?" if task.contaminated is None else str(task.contaminated),
            str(task.duplicates),
            ", ".join(code if share == 1 else f"{code} {_percent(share)}" for code, share in task.languages.items()),
        )
    return [held, given, *_lines(audit)]


def _lines(audit: Audit) -> list[RenderableType]:
    from rich.text import Text

    lines: list[RenderableType] = []
    for task in audit.tasks:
        for problem in task.problems:
            style = "bold red" if problem.level == "error" else "yellow"
            lines.append(Text.assemble((f"{problem.level}: ", style), shown(f"{task.task}: {problem.message}")))
    lines += [Text.assemble(("not checked: ", "yellow"), shown(reason)) for reason in audit.not_checked]
    lines.append(Text(shown(badge(audit))))
    return lines


def _percent(share: float) -> str:
    """Return a share as a percentage that is 0 or 100 only where it is exactly that."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(100 * share, 0.1), 99.9):.1f}%"
