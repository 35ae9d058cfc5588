"""Where a suite's rows meet a store: what a teacher is shown, and what a line is joined by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.errors import UserError
from dhrd_bench.rationales.generate import TeacherRow

if TYPE_CHECKING:
    from dhrd_bench.data.cards import TaskDefinition, Value
    from dhrd_bench.data.suite import LoadedTask, Suite


def load_rows(suite: Suite, task: str, data_dir: Path | None, rationales: Path | None = None) -> LoadedTask:
    """Load `task` with the first of its prompts that asks about the whole row at once.

    A rationale belongs to a row; a prompt that asks one candidate at a time shows less than that.

    Raises
    ------
    UserError
        As `Suite.load`, or if there is no such prompt.
    """
    (name,) = suite.resolve_tasks([task])
    prompts = suite.card.tasks[name].prompts
    whole = sorted(
        (prompt for prompt in prompts if not prompts[prompt].candidates), key=lambda p: p != suite.card.prompt
    )
    if not whole:
        raise UserError(
            f"Every prompt of {name!r} asks one candidate at a time.", "Add one that shows the whole row to the suite."
        )
    return suite.load(name, prompt=whole[0], data_dir=data_dir, rationales=rationales)


def raw_labels(definition: TaskDefinition) -> tuple[Value, ...]:
    """Return the classes as the data set writes them, by label id."""
    return definition.label.values or definition.label.names


def label_ids(definition: TaskDefinition) -> dict[str, int]:
    """Return label ids by raw value; see `label_key`."""
    from dhrd_bench.data.rows import label_key

    return {label_key(value): label for label, value in enumerate(raw_labels(definition))}


def teacher_rows(suite: Suite, loaded: LoadedTask) -> list[TeacherRow]:
    """Return the train rows of `loaded` as a teacher is shown them."""
    labels = raw_labels(suite.card.tasks[loaded.card.name])
    return [
        TeacherRow(
            idx=int(row.id) if row.id.isdecimal() and str(int(row.id)) == row.id else row.id,
            input_hash=row.input_hash,
            text=row.examples[0].example.prompt.text,
            label=row.label,
            raw_label=labels[row.label],
        )
        for row in loaded.train
    ]
