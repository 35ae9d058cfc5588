"""Names to things: methods, suites, generators of rows, backbones, budgets and search spaces.

A registry is a dictionary that knows who put a thing in. It loads nothing by itself: before it is first
asked it calls `discover`, which `dhrd_bench.plugins` puts there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from dhrd_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from random import Random

    from dhrd_bench.contracts import BackboneCard, Budget, GeneratedRow, Method, Setting

T = TypeVar("T")
Generator: TypeAlias = "Callable[[Random, int], Sequence[GeneratedRow]]"
"""Makes the rows of one world from a source of chance and a number of hops; see `contracts.GeneratedRow`."""


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
    """Names to things of one kind.

    Attributes
    ----------
    kind
        What the things are called in messages.
    entries
        What has been registered so far, by name.
    """

    discover: Callable[[], Mapping[str, str]] = staticmethod(dict)
    """Registers what there is to be found, once, and returns the plug-ins that could not be loaded."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entries: dict[str, Entry[T]] = {}

    def add(self, name: str, load: Callable[[], T], origin: str) -> None:
        """Register `load` under `name`.

        Raises
        ------
        NameTakenError
            If another origin has registered the name already; both places are named.
        """
        known = self.entries.get(name)
        if known and known.origin != origin:
            raise NameTakenError(self.kind, name, f"{known.origin} and {origin}")
        self.entries[name] = Entry(name, load, origin)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        Registry.discover()
        return sorted(self.entries)

    def entry(self, name: str) -> Entry[T]:
        """Return the entry called `name`, case aside.

        Raises
        ------
        UserError
            If there is none; the nearest name is suggested, and plug-ins that failed are named.
        """
        broken = Registry.discover()
        by_folded = {known.lower(): known for known in self.entries}
        known_as = by_folded.get(name.lower())
        if known_as is None:
            # It may be in a file that could not be loaded: the reason is what the user has to mend.
            reasons = [reason if reason.startswith(file) else f"{file}: {reason}" for file, reason in broken.items()]
            failed = f" Not loaded: {'; '.join(sorted(reasons))}" if reasons else ""
            raise UserError(f"Unknown {self.kind} {name!r}.{failed}", did_you_mean(name, self.entries))
        return self.entries[known_as]

    def get(self, name: str) -> T:
        """Load and return the thing called `name`."""
        return self.entry(name).load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())


methods: Registry[type[Method]] = Registry("method")
suites: Registry[Path] = Registry("suite")
"""Where each suite's ``suite.yaml`` lies; `dhrd_bench.data.suite.Suite.named` reads it."""
generators: Registry[Generator] = Registry("generator")
backbones: Registry[BackboneCard] = Registry("backbone")
budgets: Registry[Budget] = Registry("budget")
spaces: Registry[dict[str, Setting]] = Registry("search space")
"""What is drawn from for a method, by its name."""

REGISTRIES: tuple[Registry[Any], ...] = (
    methods,
    suites,
    generators,
    backbones,
    budgets,
    spaces,
)
