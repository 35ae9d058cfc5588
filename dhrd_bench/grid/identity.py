"""What makes two cells the same cell."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dhrd_bench import plugins, registry
from dhrd_bench.contracts import Budget, Method, MethodCard, MethodParams, TaskData
from dhrd_bench.data.suite import LoadedTask, TestSplit
from dhrd_bench.data.treatments import PLAIN, Arm
from dhrd_bench.errors import UserError
from dhrd_bench.grid.source import imported_files, read_source, source_digest
from dhrd_bench.inference.answers import ANSWERS_VERSION
from dhrd_bench.results.schema import (
    BackboneIdentity,
    IdentityParts,
    MethodIdentity,
    SuiteIdentity,
    TaskIdentity,
)

HARNESS_VERSION = "1.0"
"""Version of everything in the harness that decides an outcome: the training loop, inference, splits,
scoring. It changes when records of before and after must not stand in one table."""


@dataclass(frozen=True)
class MethodSpec:
    """A method with its parameters and what it is taught with, under its one spelling."""

    name: str
    cls: type[Method]
    params: MethodParams
    arm: Arm = PLAIN

    @cached_property
    def card(self) -> MethodCard:
        """The method's card under these parameters."""
        return self.cls.card_for(self.params)

    def new(self) -> Method:
        """Return an instance that has not been fitted."""
        return self.cls(self.params)

    @cached_property
    def identity(self) -> MethodIdentity:
        """What of the method can change an outcome."""
        return MethodIdentity(
            name=self.name,
            version=self.card.version,
            params=self.params.model_dump(mode="json"),
            code=method_code(self.cls),
        )


def digest(value: Any) -> str:
    """Return a 16-digit hash of a JSON-like value; key order does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity_parts(
    suite: SuiteIdentity,
    loaded: LoadedTask,
    data: TaskData,
    test: TestSplit,
    method: MethodSpec,
    backbone: BackboneIdentity,
    budget: Budget,
    seed: int,
    tokens: str | None = None,
    compared: str | None = None,
) -> IdentityParts:
    """Return what a cell's identity is a digest of.

    The parts hold what can change the outcome and nothing else: a budget's name is not among them, nor
    the decoding settings of a method that generates nothing. `tokens` is `CellTexts.version`; `compared` is the
    fingerprint of the rationales that the cells of the table have in common, if `loaded` has others.
    """
    card = loaded.card
    rows = {
        "train": [(row.example.id, row.label) for row in data.train],
        "dev": [row.example.id for row in data.dev],
        "test": test.ids,
    }
    generates = method.card.inference == "generate"
    parts = IdentityParts(
        harness=HARNESS_VERSION,
        suite=suite,
        task=TaskIdentity(
            name=card.name,
            version=card.version,
            prompt=card.prompt,
            prompt_version=card.prompt_version,
            fingerprint=loaded.fingerprint,
        ),
        rows=digest(rows),
        rationales=loaded.rationale_fingerprint if method.card.uses_rationales else None,
        method=method.identity,
        backbone=backbone,
        budget=relevant_budget(budget, generates=generates),
        answers=ANSWERS_VERSION if generates else None,
        tokens=tokens,
        seed=seed,
    )
    return with_versions(parts, relevant_budget(budget, generates=False), compared or loaded.rationale_fingerprint)


def with_versions(parts: IdentityParts, budget: dict[str, Any], rationales: str) -> IdentityParts:
    """Return `parts` with the digests that tell which cells go into one table.

    Parameters
    ----------
    parts
        Of one cell.
    budget
        The settings that matter to every method: how long texts may get splits no table.
    rationales
        Fingerprint of the task's rationales where no store is named, be they read by this method or not.
    """
    hashed = parts.hashed()
    return parts.model_copy(
        update={
            "version": digest([hashed["harness"], hashed["suite"], hashed["backbone"], budget]),
            "data_version": digest([hashed["task"], rationales]),
            "method_version": method_version(parts),
        }
    )


def method_version(parts: IdentityParts) -> str:
    """Return the digest that all cells of one method in a table share."""
    how = [parts.method.model_dump(mode="json"), parts.budget.get("decoding")]
    return digest(how if parts.answers is None else [*how, parts.answers])


def relevant_budget(budget: Budget, *, generates: bool) -> dict[str, Any]:
    """Return the settings of `budget` that can change what a method does that generates text or does not.

    Names and the default number of seeds change nothing, nor does how many rows are decoded at a time.
    """
    values = budget.model_dump(mode="json", exclude={"name", "version", "description", "seeds"})
    if not budget.gradient_checkpointing:  # with it, adapters on a CPU draw other dropout
        del values["gradient_checkpointing"]
    del values["decoding"]["batch_size"]
    if not generates:
        del values["decoding"]
    if not budget.tuning.startswith("lora"):
        del values["lora"]
    return values


# ---------------------------------------------------------------- the code of a method


def method_code(cls: type[Method]) -> str:
    """Return a digest of the source that a method class consists of; see `source_digest`.

    It covers the files of the class and of its bases and what may help them: all modules of the package
    that they come from, or of their plug-in folder, less the files of other methods that they do not
    import. This package itself is covered by `HARNESS_VERSION`. So an edited method is a new method, not
    an old record.

    Raises
    ------
    UserError
        If the source cannot be had.
    """
    sources: list[str] = []
    for base in cls.__mro__:
        room = base.__module__.partition(".")[0]
        # The standard library differs between versions of Python, and no method is to differ with it.
        if room in sys.stdlib_module_names or base.__module__.startswith("dhrd_bench."):
            continue
        file = inspect.getsourcefile(base)
        if file is None or not Path(file).is_file():
            sources.append(_typed_in(base))
        elif issubclass(base, Method):
            sources += map(read_source, _with_helpers(Path(file).resolve(), base.__module__))
        else:  # what a library lends: its file will do, its whole package has thousands
            sources.append(read_source(Path(file)))
    return source_digest(sources)


def _typed_in(cls: type) -> str:
    """Return the source of a class that stands in no file, as one in a notebook."""
    try:
        return textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError) as error:
        message = (
            f"The source of method class {cls.__qualname__} cannot be read, so its records could not be told apart."
        )
        raise UserError(message, "Write it into a file and name the folder with --include.") from error


def _with_helpers(path: Path, module: str) -> set[Path]:
    """Return the file at `path` and the files that may help it."""
    root = _root(module)
    if root is None:
        return {path}
    others = {Path(entry.origin).resolve() for entry in registry.methods.entries.values()}
    files = {path}
    waiting = [path, *(file for file in _modules(root) if file not in others)]
    while waiting:
        file = waiting.pop()
        files.add(file)
        waiting += imported_files(file, root) - files
    return files


def _root(module: str) -> Path | None:
    """Return the folder of the plug-in or package that `module` is part of; None for a module by itself."""
    top = module.partition(".")[0]
    if top in plugins.state.folders:
        return plugins.state.folders[top].resolve()
    paths = getattr(sys.modules.get(top), "__path__", None)
    return Path(next(iter(paths))).resolve() if paths else None


def _modules(folder: Path) -> Iterator[Path]:
    """Yield the modules in `folder` and in the packages below it; a folder that is no package is not entered."""
    yield from folder.glob("*.py")
    for package in folder.glob("*/__init__.py"):
        yield from _modules(package.parent)
