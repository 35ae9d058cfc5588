"""What makes two cells the same cell."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dhrd_bench import plugins, registry
from dhrd_bench.contracts import Budget, Method, TaskData
from dhrd_bench.data.suite import LoadedTask, TestSplit
from dhrd_bench.errors import UserError
from dhrd_bench.grid.source import imported_files, read_source, source_digest
from dhrd_bench.inference.answers import ANSWERS_VERSION
from dhrd_bench.methods import MethodSpec
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


def method_identity(spec: MethodSpec) -> MethodIdentity:
    """Return what of a method can change an outcome: of those that it is composed of, too."""
    return MethodIdentity(
        name=spec.name,
        version=spec.card.version,
        params=spec.settings,
        code=method_code(*(each.cls for each in spec.whole)),
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
    processes: int = 1,
) -> IdentityParts:
    """Return what a cell's identity is a digest of.

    The parts hold what can change the outcome and nothing else: a budget's name is not among them, nor
    the decoding settings of a method that generates nothing. `tokens` is `CellTexts.version`; `processes` train it
    together, and each draws dropout of its own.
    """
    card = loaded.card
    generates = "generate" in method.card.kinds
    trains = method.card.trains and bool(method.card.kinds)
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
        rows=rows_digest(data, test),
        rationales=loaded.rationale_fingerprint if method.card.uses_rationales else None,
        kept=budget.rationales if method.card.uses_rationales and budget.rationales < 1 else None,
        soft=loaded.soft_fingerprint if method.card.uses_soft_labels else None,
        spare=digest([(row.example.id, row.label) for row in data.spare]) if method.card.uses_spare else None,
        method=method_identity(method),
        backbone=backbone,
        budget=relevant_budget(budget, generates=generates),
        answers=ANSWERS_VERSION if generates else None,
        tokens=tokens,
        processes=processes if processes > 1 and trains else None,
        seed=seed,
    )
    common = loaded.table_fingerprint or loaded.rationale_fingerprint
    return with_versions(parts, relevant_budget(budget, generates=False), common)


def rows_digest(data: TaskData, test: TestSplit) -> str:
    """Return the digest of the rows that a cell was given."""
    rows = {
        "train": [(row.example.id, row.label) for row in data.train],
        "dev": [row.example.id for row in data.dev],
        "test": test.ids,
    }
    return digest(rows)


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
    # Which rows keep their rationales matters to methods that read them alone: that is a part by itself.
    values = budget.model_dump(mode="json", exclude={"name", "version", "description", "seeds", "rationales"})
    if not budget.gradient_checkpointing:  # with it, adapters on a CPU draw other dropout
        del values["gradient_checkpointing"]
    if budget.optimizer == "adamw":
        del values["optimizer"]
    del values["decoding"]["batch_size"]
    if not generates:
        del values["decoding"]
    if not budget.tuning.startswith("lora"):
        del values["lora"]
    return values


# ---------------------------------------------------------------- the code of a method


def method_code(*classes: type[Method]) -> str:
    """Return a digest of the source that method classes consist of; see `source_digest`.

    It covers the files of a class and of its bases and what may help them: all modules of the package
    that they come from, or of their plug-in folder, less the files of other methods that they do not
    import. This package itself is covered by `HARNESS_VERSION`. So an edited method is a new method, not
    an old record.

    Raises
    ------
    UserError
        If the source cannot be had.
    """
    return source_digest(source for cls in classes for source in _sources(cls))


def _sources(cls: type[Method]) -> Iterator[str]:
    for base in cls.__mro__:
        room = base.__module__.partition(".")[0]
        # The standard library differs between versions of Python, and no method is to differ with it.
        if room in sys.stdlib_module_names or base.__module__.startswith("dhrd_bench."):
            continue
        file = inspect.getsourcefile(base)
        if file is None or not Path(file).is_file():
            yield _typed_in(base)
        elif issubclass(base, Method):
            yield from map(read_source, _with_helpers(Path(file).resolve(), base.__module__))
        else:  # what a library lends: its file will do, its whole package has thousands
            yield read_source(Path(file))


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
