"""The ``generate`` command: the rows of a generated suite as files, in other numbers or of other depth if wished."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dhrd_bench import registry
from dhrd_bench.cards import read_card
from dhrd_bench.commands.new import write_new
from dhrd_bench.data.cards import FilesCard, GeneratedCard, SuiteCard, TaskDefinition
from dhrd_bench.data.files import Record
from dhrd_bench.data.generated import generate
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError, did_you_mean


def generate_command(name: str, tasks: list[str] | None, output: Path, changes: dict[str, Any]) -> list[Path]:
    """Write the suite called `name` into the folder `output`, as a suite of that folder's name with files.

    Parameters
    ----------
    name
        A suite whose tasks are generated.
    tasks
        Those to write; None takes all.
    output
        Folder to make.
    changes
        Settings of `GeneratedCard` that are to differ from the suite's.

    Raises
    ------
    UserError
        If a name is unknown or taken, a task is not generated, or rows cannot be made so or written there.
    """
    suite = Suite.named(name)
    known = [task for task, definition in suite.card.tasks.items() if definition.generated]
    if not known:
        generated = [
            each for each in registry.suites if any(t.generated for t in Suite.named(each).card.tasks.values())
        ]
        raise UserError(f"The rows of suite {suite.name!r} are not generated.", did_you_mean(name, generated))
    called = output.absolute().name
    if called in registry.suites.names():
        raise UserError(f"There is a suite {called!r} already.", "Name another folder with --output.")
    contents: dict[Path, str] = {}
    definitions: dict[str, TaskDefinition] = {}
    for task in suite.resolve_tasks(tasks if tasks is not None else known):
        definition = suite.card.tasks[task]
        if definition.generated is None:
            raise UserError(f"Task {task!r} of {suite.name!r} is not generated.", did_you_mean(task, known))
        settings = {**definition.generated.model_dump(), **changes}
        splits = generate(read_card(GeneratedCard, settings, Path("command line")))
        for split, records in splits.items():
            contents[output / task / f"{split}.jsonl"] = _lines(records, reasons=split == "train")
        files = FilesCard(train=f"{task}/train.jsonl", test=f"{task}/test.jsonl")
        definitions[task] = definition.model_copy(update={"generated": None, "files": files})
    contents[output / "suite.yaml"] = _suite(suite.card, called, definitions)
    write_new(contents, output, "--output")
    return list(contents)


def _lines(records: Iterable[Record], *, reasons: bool) -> str:
    """Return JSON lines; without `reasons` no derivation, which test rows have no use for."""
    rows = ({key: value for key, value in row.items() if reasons or key != "rationale"} for _, row in records)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _suite(card: SuiteCard, name: str, tasks: dict[str, TaskDefinition]) -> str:
    # The tasks have everything that the suite says for all of them.
    update = {"name": name, "tasks": tasks, "extends": None, "generated": None, "rationale": None, "prompts": {}}
    raw = card.model_copy(update=update).model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump({"kind": "suite", **raw}, sort_keys=False, allow_unicode=True, width=120)
