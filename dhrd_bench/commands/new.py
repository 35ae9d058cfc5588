"""The ``new`` command: starting files for a method or a suite of one's own, or a suite made from a table."""

from __future__ import annotations

import keyword
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from dhrd_bench import registry
from dhrd_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from dhrd_bench.data.from_table import Table

KINDS = ("method", "suite")
_TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class Made:
    """What was written, what is to be known about it, and the command that comes next."""

    files: list[Path]
    notes: tuple[str, ...]
    next_step: str


def create(kind: str, name: str, into: Path, table: Table | None = None) -> Made:
    """Write the files of a ``method`` or ``suite`` called `name` into the folder `into`.

    Without a `table` they are commented starting files; a suite of a table is read once more as it was written.

    Raises
    ------
    UserError
        If the kind is unknown, the name is malformed or taken, a file is there already, or the table cannot be used.
    """
    if kind not in KINDS:
        raise UserError(f"Cannot make a new {kind!r}.", did_you_mean(kind, KINDS))
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UserError(f"{name!r} is no name.", "Use small letters, digits and single hyphens, as in my-method.")
    if table is not None and kind != "suite":
        raise UserError(f"A {kind} is not made from a table.", "Leave --from out, or make a suite.")
    known = registry.methods if kind == "method" else registry.suites
    if name in known.names():
        raise UserError(f"There is a {kind} {name!r} already, at {known.entry(name).origin}.", "Choose another name.")
    notes: tuple[str, ...] = ()
    if table is not None:
        from dhrd_bench.data.from_table import suite_from_table

        made = suite_from_table(name, table)
        contents = {into / name / file: text for file, text in made.files.items()}
        notes = made.notes
    else:
        contents = dict(_method(name, into) if kind == "method" else _suite(name, into))
    write_new(contents, into, "--into")
    if table is not None:
        _read_again(into / name / "suite.yaml")
    if kind == "method":
        return Made(list(contents), notes, f"dhrd-bench check {name} --include {shlex.quote(str(into))}")
    methods = ",".join(name for name in registry.methods if registry.methods.get(name).card.role == "baseline")
    include = shlex.quote(str(into))
    return Made(list(contents), notes, f"dhrd-bench run --suite {name} --methods {methods} --include {include}")


def write_new(contents: dict[Path, str], into: Path, option: str) -> None:
    """Write files that are not there yet; `option` is the one that names the folder `into`.

    Raises
    ------
    UserError
        If one is there, or cannot be written.
    """
    for path in contents:
        if path.exists():
            raise UserError(f"{path} exists already.", f"Choose another name, or another folder with {option}.")
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Cannot write to {into}: {error.strerror}.", f"Choose another folder with {option}."
        ) from error


def _read_again(path: Path) -> None:
    """Load what was written as a run will: a mistake is told now, with its line in the new files."""
    from dhrd_bench.data.suite import Suite

    suite = Suite.read(path)
    for task in suite.task_names():
        suite.load(task)


def _method(name: str, into: Path) -> Iterator[tuple[Path, str]]:
    class_name = "".join(part.capitalize() for part in name.split("-"))
    if not class_name.isidentifier() or keyword.iskeyword(class_name):
        class_name = f"Method{class_name}"
    template = Template((_TEMPLATES / "method.py.template").read_text(encoding="utf-8"))
    yield into / f"{name.replace('-', '_')}.py", template.substitute(name=name, class_name=class_name)


def _suite(name: str, into: Path) -> Iterator[tuple[Path, str]]:
    folder = _TEMPLATES / "suite"
    template = Template((folder / "suite.yaml.template").read_text(encoding="utf-8"))
    yield into / name / "suite.yaml", template.substitute(name=name)
    for file in ("train.jsonl", "test.jsonl"):
        yield into / name / file, (folder / file).read_text(encoding="utf-8")
