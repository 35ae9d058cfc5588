"""Bringing records of an earlier release under today's identities.

Until schema 1.0.0 the digest of a method's source was taken from the text of its syntax tree, which each
minor version of Python writes in its own way. A record whose method has not changed since is the same
cell under another name; the name is computed anew here, and nothing else of the record is touched.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dhrd_bench import registry
from dhrd_bench.cards import Reference
from dhrd_bench.contracts import Method
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import digest, method_code, method_version
from dhrd_bench.plugins import PACKAGE
from dhrd_bench.results.schema import SCHEMA_VERSION, CellRecord
from dhrd_bench.results.store import read_below, record_path, superseded_path, text_of, write_text_atomically
from dhrd_bench.results.timed import read_timed, timed_path, write_timed

OLD = "1.0.0"
"""The schema version whose records are brought up to date."""


@dataclass(frozen=True)
class Migration:
    """What became of one record's file.

    Attributes
    ----------
    state
        ``migrated``; ``current``: nothing to do; ``changed``: its method has another source now, or this is
        another minor version of Python than made it, so it cannot be told; ``unreadable``.
    path
        The file, where it lies now.
    reason
        Why, where nothing was done.
    """

    state: Literal["migrated", "current", "changed", "unreadable"]
    path: Path
    reason: str = ""


def migrate(root: Path, *, write: bool) -> Iterator[Migration]:
    """Go through the records below `root`, superseded ones too; with `write`, bring them up to date.

    Raises
    ------
    UserError
        If there is no such folder, or it cannot be written to.
    """
    if not root.is_dir():
        raise UserError(f"No results folder at {root}.", "Name the folder with --results.")
    identities: dict[str, str] = {}
    for path in sorted(root.rglob("seed-*.json")):
        try:
            record = read_below(root, path)
        except ValueError as error:
            yield Migration("unreadable", path, str(error))
            continue
        if record.schema_version != OLD:
            yield Migration("current", path)
        elif (reason := _why_not(record)) is not None:
            yield Migration("changed", path, reason)
        else:
            renamed = _renamed(record)
            identities[record.identity] = renamed.identity
            yield Migration("migrated", _replace(root, path, renamed, write=write))
    yield from _timings(root, identities, write=write)


def _timings(root: Path, identities: Mapping[str, str], *, write: bool) -> Iterator[Migration]:
    """Have throughput records name the cells that they timed by today's identities."""
    records, _ = read_timed(root)
    for record in records:
        measurements = [
            measurement.model_copy(update={"identity": identities.get(measurement.identity, measurement.identity)})
            for measurement in record.measurements
        ]
        path = timed_path(root, record)
        if measurements == record.measurements:
            yield Migration("current", path)
            continue
        if write:
            write_timed(root, record.model_copy(update={"measurements": measurements}))
        yield Migration("migrated", path)


def _why_not(record: CellRecord) -> str | None:
    """Say why the source of the record's method is not known to be today's; None if it is."""
    try:
        name = Reference.parse(record.cell.method).name
        cls = registry.methods.get(name)
    except UserError as error:
        return error.message
    if record.parts.method.code not in (syntax_tree_code(cls), method_code(cls)):
        return f"method {name!r} has another source now, or the record is of another Python than this"
    return None


def _renamed(record: CellRecord) -> CellRecord:
    cls = registry.methods.get(Reference.parse(record.cell.method).name)
    method = record.parts.method.model_copy(update={"code": method_code(cls)})
    parts = record.parts.model_copy(update={"method": method})
    parts = parts.model_copy(update={"method_version": method_version(parts)})
    update = {"parts": parts, "identity": digest(parts.hashed()), "schema_version": SCHEMA_VERSION}
    return record.model_copy(update=update)


def _replace(root: Path, path: Path, record: CellRecord, *, write: bool) -> Path:
    current = record_path(root, record.cell)
    target = path if path.name == current.name else superseded_path(path.parent / current.name, record.identity)
    if write:
        write_text_atomically(target, text_of(record))
        if target != path:
            path.unlink()
    return target


def syntax_tree_code(cls: type[Method]) -> str:
    """Return the digest of a method's source as schema 1.0.0 had it, on this version of Python."""
    sources: list[str] = []
    for base in cls.__mro__:
        if base.__module__ in ("builtins", "abc", "typing") or base.__module__.startswith("dhrd_bench."):
            continue
        path = inspect.getsourcefile(base)
        if path is None or (PACKAGE in Path(path).parents and (PACKAGE / "baselines") not in Path(path).parents):
            continue
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
                node.body = node.body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        sources.append(ast.dump(tree))
    return digest(sorted(set(sources)))
