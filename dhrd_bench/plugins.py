"""Loading plug-ins: the built-in folders, a user's own (``--include PATH``), installed packages (entry points).

All come in by the same door. Nothing is loaded before a registry is asked, and a plug-in that fails to
load is remembered with its error and leaves the others alone.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from dhrd_bench import registry
from dhrd_bench.errors import UserError, did_you_mean, first_misfit

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from dhrd_bench.contracts import BackboneCard, Budget, Method

    M = TypeVar("M", bound=type[Method])
    G = TypeVar("G", bound=registry.Generator)

PACKAGE = Path(__file__).parent


@dataclass
class State:
    """What has been loaded in this process.

    Attributes
    ----------
    loaded
        Folders, and the words ``builtin`` and ``entry points``.
    folders
        Plug-in folders by the name of the package that their files were imported as.
    waiting
        Method files of the folders being loaded that have not had their turn.
    broken
        Plug-ins that could not be loaded, with the reason.
    """

    loaded: set[str] = field(default_factory=set)
    folders: dict[str, Path] = field(default_factory=dict)
    waiting: list[Path] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


state = State()


@contextmanager
def isolated() -> Iterator[State]:
    """Give back the registries and the state, when the block ends, as they were before it."""
    before = State(set(state.loaded), dict(state.folders), list(state.waiting), dict(state.broken))
    entries = [dict(kind.entries) for kind in registry.REGISTRIES]
    try:
        yield state
    finally:
        vars(state).update(vars(before))
        for kind, known in zip(registry.REGISTRIES, entries, strict=True):
            kind.entries.clear()
            kind.entries.update(known)


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
    name = cls.card.name
    known = registry.methods.entries.get(name)
    if known and known.origin == origin and (other := known.load().__qualname__) != cls.__qualname__:
        raise registry.NameTakenError("method", name, f"{other} and {cls.__qualname__}, both in {origin}")
    try:
        cls.Params()
    except ValidationError as error:
        parameter = first_misfit(error).keys[0]
        raise UserError(f"Method {name!r}: parameter {parameter!r} has no valid default.") from error
    registry.methods.add(name, lambda: cls, origin)
    return cls


def generator(make: G) -> G:
    """Register a function that makes rows under its own name (decorator); see `GeneratedRow`.

    Raises
    ------
    NameTakenError
        If a function of another file has the name.
    """
    registry.generators.add(make.__name__, lambda: make, make.__code__.co_filename)
    return make


def method(name: str) -> type[Method]:
    """Return the registered class called `name`, to write a variant of it: ``class Mine(db.method("..."))``.

    The files of a plug-in folder may refer to each other in any order.

    Raises
    ------
    UserError
        If there is no such method.
    """
    _load_builtin()
    while name not in registry.methods.entries and state.waiting:
        _import_next()
    return registry.methods.get(name)


def load_all() -> Mapping[str, str]:
    """Load the built-in folders and the entry points, once; return what could not be loaded, with the reason."""
    _load_builtin()
    if "entry points" not in state.loaded:
        from importlib.metadata import entry_points

        state.loaded.add("entry points")
        for group in ("dhrd_bench.methods", "dhrd_bench.suites"):
            for point in entry_points(group=group):
                origin = f"{point.dist.name if point.dist else '?'}:{point.value}"
                _guarded(origin, partial(_load_entry_point, point))
    return state.broken


def include(folder: Path) -> None:
    """Load every plug-in of `folder`: ``*.py`` (methods), ``*.yaml`` and ``*/suite.yaml`` by their ``kind``.

    ``generators.py`` beside a ``suite.yaml`` holds the generators of its rows.

    The files are imported as modules of one package, so ``from . import _helpers`` works; files whose
    name begins with an underscore are helpers and not plug-ins.

    Raises
    ------
    UserError
        If there is no such folder, or a plug-in takes a name that is taken.
    """
    folder = folder.resolve()
    if str(folder) in state.loaded:
        return
    if not folder.is_dir():
        raise UserError(f"No plug-in folder at {folder}.", "Name an existing folder with --include.")
    state.loaded.add(str(folder))
    state.waiting.extend(path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_"))
    state.waiting.extend(sorted(folder.glob("*/generators.py")))
    while state.waiting:
        _import_next()
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/suite.yaml")]):
        _guarded(str(path), partial(_add_yaml, path))


def builtin_folder(name: str) -> Path:
    """Return the folder of the built-in ``baselines`` or ``suites``: in a wheel inside the package, else beside it."""
    return PACKAGE / name if (PACKAGE / name).is_dir() else PACKAGE.parent / name


# ---------------------------------------------------------------- one plug-in


def _load_builtin() -> None:
    if "builtin" in state.loaded:
        return
    state.loaded.add("builtin")
    include(PACKAGE / "grid" / "budgets")
    include(PACKAGE / "backbones" / "cards")
    include(builtin_folder("baselines"))
    include(builtin_folder("suites"))


def _import_next() -> None:
    path = state.waiting.pop(0)
    _guarded(str(path), partial(_import_file, path))


def _guarded(origin: str, load: Callable[[], None]) -> None:
    """Run `load`; a name taken twice is the user's to mend, any other failure is remembered."""
    try:
        load()
    except registry.NameTakenError:
        raise
    except UserError as error:
        state.broken[origin] = str(error)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == origin]
        place = f" (line {frames[-1].lineno})" if frames else ""
        state.broken[origin] = f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _import_file(path: Path) -> None:
    # A package of its own for each folder, so that two folders may both have a my_method.py.
    package = f"dhrd_plugin_{hashlib.sha256(str(path.parent).encode()).hexdigest()[:12]}"
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(path.parent)]
    state.folders[package] = path.parent
    importlib.invalidate_caches()
    importlib.import_module(f"{package}.{path.stem}")


def _load_entry_point(point: EntryPoint) -> None:
    from dhrd_bench.contracts import Method

    target: Any = point.load()
    if point.group.endswith("methods"):
        if isinstance(target, type) and issubclass(target, Method):
            register(target)
    else:  # a suite entry point names a module or package whose folder holds suite.yaml
        _add_yaml(Path(target.__file__).parent / "suite.yaml")


def _add_yaml(path: Path) -> None:
    from dhrd_bench.cards import read_card
    from dhrd_bench.contracts import BackboneCard, Budget, Space
    from dhrd_bench.untrusted import read_yaml

    raw = read_yaml(path)
    if not isinstance(raw, dict) or "kind" not in raw:
        raise UserError(f"{path} has no 'kind'.", "Say kind: suite, budget, backbone or space.")
    kind = raw.pop("kind")
    name = str(raw.get("name", path.stem))
    if kind == "budget":

        def budget() -> Budget:
            return read_card(Budget, raw, path)

        registry.budgets.add(name, budget, str(path))
    elif kind == "backbone":

        def backbone() -> BackboneCard:
            card = read_card(BackboneCard, raw, path)
            if card.trust_remote_code:
                hint = f"Who trusts it writes --backbone '{name}[trust_remote_code=true]'."
                raise UserError(f"{path}: a card cannot have code of the hub run.", hint)
            return card

        registry.backbones.add(name, backbone, str(path))
    elif kind == "suite":
        registry.suites.add(name, lambda: path, str(path))
    elif kind == "space":
        space = read_card(Space, raw, path)
        if space.all:
            raise UserError(f"{path}: a plug-in has no say in what is drawn for all methods.", "Name it with --space.")
        for method_name, settings in space.methods.items():
            registry.spaces.add(method_name, partial(dict, settings), str(path))
    else:
        kinds = ["suite", "budget", "backbone", "space"]
        raise UserError(f"{path}: unknown kind {kind!r}.", did_you_mean(str(kind), kinds))


registry.Registry.discover = staticmethod(load_all)
