"""One registry for methods, suites, backbones and budgets.

Built-in plug-ins, a user's own folder (``--include PATH``) and installed packages (entry points) all
come in by the same door. Nothing is loaded before it is asked for, and a plug-in that fails to load
is remembered with its error and leaves the others alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import yaml

from dhrd_bench.cards import read_card
from dhrd_bench.contracts import Budget, Method
from dhrd_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from dhrd_bench.backbones.card import BackboneCard
    from dhrd_bench.data.suite import Suite

T = TypeVar("T")
M = TypeVar("M", bound=type[Method])


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing: how to get it and where it came from."""

    name: str
    load: Callable[[], T]
    origin: str


class NameTakenError(UserError):
    """Two things of one kind have one name: for the user to mend, whichever was meant."""

    def __init__(self, kind: str, name: str, places: str) -> None:
        super().__init__(f"Two {kind}s are called {name!r}: {places}.", "Rename one of them.")


class Registry(Generic[T]):
    """Names to things of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def add(self, name: str, load: Callable[[], T], origin: str) -> None:
        """Register `load` under `name`.

        Raises
        ------
        NameTakenError
            If another origin has registered the name already; both places are named.
        """
        known = self._entries.get(name)
        if known and known.origin != origin:
            raise NameTakenError(self.kind, name, f"{known.origin} and {origin}")
        self._entries[name] = Entry(name, load, origin)

    def here(self, name: str) -> Entry[T] | None:
        """Return the entry called `name` if it has been registered so far; nothing is loaded for it."""
        return self._entries.get(name)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        load_plugins()
        return sorted(self._entries)

    def entry(self, name: str) -> Entry[T]:
        """Return the entry called `name`, case aside.

        Raises
        ------
        UserError
            If there is none; the nearest name is suggested, and plug-ins that failed are named.
        """
        load_plugins()
        by_folded = {known.lower(): known for known in self._entries}
        found = by_folded.get(name.lower())
        if found is None:
            broken = f" (failed to load: {', '.join(sorted(broken_plugins))})" if broken_plugins else ""
            raise UserError(f"Unknown {self.kind} {name!r}.{broken}", did_you_mean(name, self._entries))
        return self._entries[found]

    def get(self, name: str) -> T:
        """Load and return the thing called `name`."""
        return self.entry(name).load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())


methods: Registry[type[Method]] = Registry("method")
suites: Registry[Suite] = Registry("suite")
backbones: Registry[BackboneCard] = Registry("backbone")
budgets: Registry[Budget] = Registry("budget")

broken_plugins: dict[str, str] = {}
"""Plug-ins that could not be loaded, with the reason."""


def register(cls: M) -> M:
    """Register a `Method` class under its card's name (class decorator).

    Raises
    ------
    NameTakenError
        If another class has the name, be it in another file or in the same one.
    UserError
        If a parameter has no default.
    """
    from pydantic import ValidationError

    module = sys.modules.get(cls.__module__)
    origin = str(getattr(module, "__file__", None) or cls.__module__)
    known = methods.here(cls.card.name)
    if known and known.origin == origin and (other := known.load().__qualname__) != cls.__qualname__:
        raise NameTakenError("method", cls.card.name, f"{other} and {cls.__qualname__}, both in {origin}")
    try:
        cls.Params()
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        raise UserError(f"Method {cls.card.name!r}: parameter {field!r} has no valid default.") from error
    methods.add(cls.card.name, lambda: cls, origin)
    return cls


def method(name: str) -> type[Method]:
    """Return the registered class called `name`, to write a variant of it: ``class Mine(db.method("..."))``.

    The files of a plug-in folder may refer to each other in any order.

    Raises
    ------
    UserError
        If there is no such method.
    """
    _load_builtin()
    while methods.here(name) is None and _waiting:
        _import_waiting()
    return methods.get(name)


# ---------------------------------------------------------------- plug-ins


_loaded: set[str] = set()
_waiting: list[Path] = []
"""Method files of the folders being loaded that have not had their turn."""


def load_plugins() -> None:
    """Load the built-in folders and the entry points, once."""
    _load_builtin()
    if "entry points" in _loaded:
        return
    _loaded.add("entry points")
    for group in ("dhrd_bench.methods", "dhrd_bench.suites"):
        for point in entry_points(group=group):
            origin = f"{point.dist.name if point.dist else '?'}:{point.value}"
            _guarded(origin, partial(_load_entry_point, point, group))


def _load_builtin() -> None:
    if "builtin" in _loaded:
        return
    _loaded.add("builtin")
    package = Path(__file__).parent
    include(package / "grid" / "budgets")
    include(package / "backbones" / "cards")
    for name in ("baselines", "suites"):
        # In a wheel the folders lie inside the package, in a checkout beside it.
        include(package / name if (package / name).is_dir() else package.parent / name)


def include(folder: Path) -> None:
    """Load every plug-in of `folder`: ``*.py`` (methods), ``*.yaml`` and ``*/suite.yaml`` by their ``kind``.

    Raises
    ------
    UserError
        If there is no such folder, or a plug-in takes a name that is taken.
    """
    folder = folder.resolve()
    if str(folder) in _loaded:
        return
    _loaded.add(str(folder))
    if not folder.is_dir():
        raise UserError(f"No plug-in folder at {folder}.", "Name an existing folder with --include.")
    _waiting.extend(path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_"))
    while _waiting:
        _import_waiting()
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/suite.yaml")]):
        _guarded(str(path), partial(_add_yaml, path))


def _import_waiting() -> None:
    path = _waiting.pop(0)
    _guarded(str(path), partial(_import_file, path))


def _guarded(origin: str, load: Callable[[], None]) -> None:
    """Run `load`; a name taken twice is the user's to mend, any other failure is remembered."""
    try:
        load()
    except NameTakenError:
        raise
    except UserError as error:
        broken_plugins[origin] = str(error)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == origin]
        place = f" (line {frames[-1].lineno})" if frames else ""
        broken_plugins[origin] = f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _import_file(path: Path) -> None:
    # A name of its own, so that two folders may both have a my_method.py.
    name = f"dhrd_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _load_entry_point(point: Any, group: str) -> None:
    loaded = point.load()
    if group.endswith("methods"):
        if isinstance(loaded, type) and issubclass(loaded, Method):
            register(loaded)
    else:  # a suite entry point names a module or package whose folder holds suite.yaml
        _add_yaml(Path(loaded.__file__).parent / "suite.yaml")


def _add_yaml(path: Path) -> None:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or "kind" not in raw:
        raise UserError(f"{path} has no 'kind'.", "Say kind: suite, budget or backbone.")
    kind = raw.pop("kind")
    name = str(raw.get("name", path.stem))
    if kind == "budget":
        budgets.add(name, lambda: read_card(Budget, raw, path), str(path))
    elif kind == "backbone":

        def load_backbone() -> BackboneCard:
            from dhrd_bench.backbones.card import BackboneCard

            return read_card(BackboneCard, raw, path)

        backbones.add(name, load_backbone, str(path))
    elif kind == "suite":

        def load_suite() -> Suite:
            from dhrd_bench.data.suite import Suite

            return Suite.read(path)

        suites.add(name, load_suite, str(path))
    else:
        raise UserError(f"{path}: unknown kind {kind!r}.", did_you_mean(str(kind), ["suite", "budget", "backbone"]))
