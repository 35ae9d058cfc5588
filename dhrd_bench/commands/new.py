"""The ``new`` command: starting files for a method or a suite of one's own."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from string import Template

from dhrd_bench import registry
from dhrd_bench.errors import UserError, did_you_mean

_TEMPLATES = Path(__file__).parent.parent / "templates"


def create(kind: str, name: str, into: Path) -> tuple[list[Path], str]:
    """Write the starting files of a ``method`` or ``suite`` called `name` into the folder `into`.

    Returns
    -------
    files, next_step
        What was written, and the command that tries it.

    Raises
    ------
    UserError
        If the kind is unknown, the name is malformed or taken, or a file is there already.
    """
    if kind not in ("method", "suite"):
        raise UserError(f"Cannot make a new {kind!r}.", did_you_mean(kind, ["method", "suite"]))
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UserError(f"{name!r} is no name.", "Use small letters, digits and single hyphens, as in my-method.")
    known = registry.methods if kind == "method" else registry.suites
    if name in known.names():
        raise UserError(f"There is a {kind} {name!r} already, at {known.entry(name).origin}.", "Choose another name.")
    contents = dict(_method(name, into) if kind == "method" else _suite(name, into))
    for path in contents:
        if path.exists():
            raise UserError(f"{path} exists already.", "Choose another name, or another folder with --into.")
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write to {into}: {error.strerror}.", "Choose another folder with --into.") from error
    if kind == "method":
        return list(contents), f"dhrd-bench check {name} --include {into}"
    methods = ",".join(name for name in registry.methods if registry.methods.get(name).card.role == "baseline")
    return list(contents), f"dhrd-bench run --suite {name} --methods {methods} --include {into}"


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
