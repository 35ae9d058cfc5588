"""What the settings of a trial are drawn from, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

from dhrd_bench import registry
from dhrd_bench.cards import Reference, read_card
from dhrd_bench.contracts import Budget, Range, Setting, Space, derive_seed
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.methods import MethodSpec, Schedule
from dhrd_bench.untrusted import read_yaml

Settings = dict[str, Any]
"""Values by the names that a reference has them under."""


def read_space(path: Path) -> Space:
    """Read a file of what to draw from.

    Raises
    ------
    UserError
        If it is none.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict) or raw.pop("kind", "space") != "space":
        raise UserError(f"{path} is no search space.", "Start with 'kind: space'.")
    return read_card(Space, raw, path)


def default_space(budget: Budget) -> dict[str, Setting]:
    """Return what is drawn for every method that is fine-tuned, if nobody says otherwise.

    The learning rate is that of `budget`, up to ten times less or more; epochs are as many, half or twice as many.
    """
    rate, epochs = budget.learning_rate, budget.epochs
    return {
        "learning_rate": Range(low=float(f"{rate / 10:.3g}"), high=float(f"{rate * 10:.3g}"), log=True),
        "epochs": tuple(dict.fromkeys((max(1, epochs // 2), epochs, 2 * epochs))),
    }


def space_of(spec: MethodSpec, budget: Budget, named: Space | None) -> dict[str, Setting]:
    """Return what is drawn for a method: what all share, and its own.

    A setting that its reference sets stays as it is. What a method derives from has a say in its own space.

    Parameters
    ----------
    spec
        The method.
    budget
        What it is tuned under.
    named
        What the user named; what that says nothing of is as plug-ins and `default_space` have it.

    Raises
    ------
    UserError
        If the method has no such setting.
    """
    trains = spec.card.trains and bool(spec.card.kinds)
    shared = named.all if named and named.all else default_space(budget)
    has = set(type(spec.params).model_fields) | (set(Schedule.model_fields) if trains else set())
    space = {name: setting for name, setting in shared.items() if name in has}
    own = _own(spec, named)
    for name in own:
        if name not in has:
            raise UserError(f"Method {spec.name!r} has no setting {name!r} to search.", did_you_mean(name, has))
    fixed = {name for name, _ in Reference.parse(spec.name).options}
    return {name: setting for name, setting in (space | own).items() if name not in fixed}


def _own(spec: MethodSpec, named: Space | None) -> dict[str, Setting]:
    name = spec.cls.card.name
    if named and name in named.methods:
        return named.methods[name]
    registry.spaces.names()  # looks for them
    for base in spec.cls.__mro__:
        card = getattr(base, "card", None)
        if card is not None and card.name in registry.spaces.entries:
            fields = type(spec.params).model_fields
            own = registry.spaces.get(card.name)
            return {key: setting for key, setting in own.items() if base is spec.cls or key in fields}
    return {}


def drawn(space: Mapping[str, Setting], random_seed: int, trial: int) -> Settings:
    """Return the settings of a trial, drawn at random.

    A value depends on the trial and its own name alone: methods that have a setting in common try the same values.
    """
    streams = {name: Random(derive_seed("search", str(random_seed), str(trial), name)) for name in space}
    return {name: _value(setting, streams[name]) for name, setting in space.items()}


def combined(space: Mapping[str, Setting], trial: int) -> Settings:
    """Return the settings of a trial from 1 on: the combinations of all values in their order, then from the start.

    Raises
    ------
    UserError
        If a setting has a range, which has no values to go through.
    """
    lists: list[tuple[Any, ...]] = []
    for name, setting in space.items():
        if isinstance(setting, Range):
            message = f"A grid cannot go through the range of {name!r}."
            raise UserError(message, "List its values in the file of --space, or take --sampler random.")
        lists.append(setting)
    place = (trial - 1) % math.prod(map(len, lists))
    return dict(zip(space, next(islice(product(*lists), place, None)), strict=True))


def _value(setting: Setting, stream: Random) -> Any:
    if not isinstance(setting, Range):
        return stream.choice(setting)
    low, high = (math.log(setting.low), math.log(setting.high)) if setting.log else (setting.low, setting.high)
    value = stream.uniform(low, high)
    return rounded(setting, math.exp(value) if setting.log else value)


def rounded(setting: Range, value: float) -> int | float:
    """Return a value of a range as a reference has it: a whole number, or three digits, within the ends."""
    whole = isinstance(setting.low, int) and isinstance(setting.high, int)
    short = round(value) if whole else float(f"{value:.3g}")
    return min(max(short, setting.low), setting.high)
