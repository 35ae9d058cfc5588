"""Methods by reference, ``name[key=value,...]``; a method may take others for parameters and run them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, ValidationError

from dhrd_bench import plugins
from dhrd_bench.cards import Reference, canonical
from dhrd_bench.contracts import Budget, Card, Context, Method, MethodCard, MethodParams, TaskCard, TaskData
from dhrd_bench.errors import UserError, first_misfit
from dhrd_bench.untrusted import parse_json


@dataclass(frozen=True)
class Arm:
    """What a method is taught with.

    Attributes
    ----------
    store
        Name of a store; None is what methods read that name none.
    treatment
        What is made of it, if it is not read as it is.
    """

    store: str | None = None
    treatment: str | None = None

    def __str__(self) -> str:
        return "-".join(filter(None, (self.store, self.treatment)))


PLAIN = Arm()
"""What methods are taught with that name nothing."""


class Schedule(Card):
    """Settings of the budget that a method may have of its own, as in ``name[learning_rate=0.001]``.

    They say how it is optimised; what it is given, rows and lengths, is the same for all. A parameter of the method's
    that has one of these names goes before. None is as the budget has it.
    """

    learning_rate: float | None = Field(None, gt=0)
    epochs: int | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    warmup_steps: int | None = Field(None, ge=0)


@dataclass(frozen=True)
class MethodSpec:
    """A method with its parameters, what of the budget it has otherwise and what it is taught with, as one spelling."""

    name: str
    cls: type[Method]
    params: MethodParams
    schedule: Schedule = field(default_factory=Schedule)
    arm: Arm = PLAIN

    @property
    def settings(self) -> dict[str, Any]:
        """All parameters with their values, and what the method has of its own."""
        return self.params.model_dump(mode="json") | self.schedule.model_dump(exclude_none=True)

    def under(self, budget: Budget) -> Budget:
        """Return `budget` as it holds for this method."""
        own = self.schedule.model_dump(exclude_none=True)
        return budget.model_copy(update=own) if own else budget

    def within(self, budget: Budget) -> MethodSpec:
        """Return the method under its one spelling in tables of `budget`: what that says already goes without."""
        own = self.schedule.model_dump(exclude_none=True)
        differs = Schedule(**{key: value for key, value in own.items() if value != getattr(budget, key)})
        return replace(self, name=_spelled(self.cls, self.params, differs, self.arm), schedule=differs)

    def taught(self, arm: Arm) -> MethodSpec:
        """Return the method as it is taught with `arm`."""
        return replace(self, name=_spelled(self.cls, self.params, self.schedule, arm), arm=arm)

    def changed(self, settings: Mapping[str, Any]) -> MethodSpec:
        """Return the method under further settings, as if its reference had them.

        Raises
        ------
        UserError
            If a value does not fit.
        """
        fields = type(self.params).model_fields
        own = {name: value for name, value in settings.items() if name in fields}
        others = {name: value for name, value in settings.items() if name not in fields}
        try:
            params = type(self.params).model_validate(self.params.model_dump() | own)
            schedule = Schedule.model_validate(self.schedule.model_dump() | others)
        except ValidationError as error:
            raise UserError(f"Method {self.name}: {first_misfit(error)}.") from error
        return replace(self, name=_spelled(self.cls, params, schedule, self.arm), params=params, schedule=schedule)

    @cached_property
    def card(self) -> MethodCard:
        """The method's card under these parameters."""
        return self.cls.card_for(self.params)

    def new(self) -> Method:
        """Return an instance that has not been fitted."""
        return self.cls(self.params)

    @cached_property
    def parts(self) -> dict[str, MethodSpec]:
        """The methods that its parameters name by a `MethodReference`; see `named_methods`."""
        return named_methods(self.params)

    @property
    def whole(self) -> Iterator[MethodSpec]:
        """The method itself and all that it is composed of, however deep."""
        yield self
        for part in self.parts.values():
            yield from part.whole


def method_spec(text: str) -> MethodSpec:
    """Return the method that a reference such as ``name[alpha=0.5]`` names.

    Raises
    ------
    UserError
        If it names a method or parameter that does not exist, or has another form.
    """
    reference = Reference.parse(text)
    cls = plugins.method(reference.name)
    own = tuple(option for option in reference.options if option[0] not in cls.Params.model_fields)
    own = tuple(option for option in own if option[0] in Schedule.model_fields)
    rest = tuple(option for option in reference.options if option not in own)
    params = Reference(reference.name, rest).apply(cls.Params(), "Method")
    schedule = Reference(reference.name, own).apply(Schedule(), "Method")
    card = cls.card_for(params)
    if own and not (card.trains and card.kinds):
        raise UserError(f"Method {reference.name!r} fine-tunes nothing, so it has no {own[0][0]!r}.", "Leave it out.")
    return MethodSpec(_spelled(cls, params, schedule), cls, params, schedule)


def _spelled(cls: type[Method], params: MethodParams, schedule: Schedule, arm: Arm = PLAIN) -> str:
    options = (*canonical("", params, cls.Params()).options, *canonical("", schedule, Schedule()).options)
    reference = str(Reference(cls.card.name, tuple(sorted(options))))
    return reference if arm == PLAIN else f"{reference}@{arm}"


def _spelling(text: str) -> str:
    spec = method_spec(text)
    if spec.schedule != Schedule():
        message = f"{text}: a method that runs others trains them under one budget."
        raise UserError(message, "Give the setting to the whole: NAME[part=...,learning_rate=0.001].")
    return spec.name


_SPELLED = AfterValidator(_spelling)

MethodReference = Annotated[str, _SPELLED]
"""A parameter whose value is a method, as ``name[key=value]``, kept in its one spelling.

What it names is part of the identity of the cells, code included. A field may also be a tuple of them, or optional.
"""


CHOSEN = "chosen.json"


class Composed(Method):
    """A method that runs others: those that its parameters name by a `MethodReference`.

    Subclasses implement `predict`. Each part is fitted on the rows of the whole unless they override `fit`; saving and
    loading come for free, and so does what the card says of training, rationales and inference.

    Attributes
    ----------
    parts
        The others, by the names of the parameters; ``members-0``, ``members-1`` where one holds several.
    chosen
        Numbers that the whole itself settles when it is fitted, as a threshold; they are saved with the parts.
    """

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.chosen: dict[str, float] = {}
        self.parts: dict[str, Method] = {name: spec.new() for name, spec in named_methods(self.params).items()}

    @classmethod
    def card_for(cls, params: Any) -> MethodCard:
        """Return the card with what the parts do."""
        return cls.card.over([spec.card for spec in named_methods(params).values()])

    def fit(self, task: TaskData, context: Context) -> None:
        """Fit each part, one after the other."""
        for name, part in self.parts.items():
            part.fit(task, context.inner(name))

    def save(self, folder: Path) -> None:
        """Write each part's state into a folder of its own, and what was chosen beside them."""
        chosen = {name: str(value) for name, value in self.chosen.items()}  # JSON knows no infinity
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHOSEN).write_text(json.dumps(chosen), encoding="utf-8")
        for name, part in self.parts.items():
            (folder / name).mkdir(exist_ok=True)
            part.save(folder / name)

    def load(self, folder: Path, task: TaskCard, context: Context) -> None:
        """Read what `save` wrote."""
        chosen = parse_json((folder / CHOSEN).read_bytes())
        self.chosen = {name: float(value) for name, value in chosen.items()}
        for name, part in self.parts.items():
            part.load(folder / name, task, context.inner(name))


def named_methods(params: MethodParams) -> dict[str, MethodSpec]:
    """Return the methods that parameters name, by parameter; several of one are numbered, as ``members-0``."""
    found: dict[str, MethodSpec] = {}
    for name, declared in type(params).model_fields.items():
        value = getattr(params, name)
        inner = (getattr(each, "__metadata__", ()) for each in get_args(declared.annotation))
        if value is None or not (_holds(declared.metadata) or any(map(_holds, inner))):
            continue
        if isinstance(value, str):
            found[name] = method_spec(value)
        else:
            found |= {f"{name}-{place}": method_spec(each) for place, each in enumerate(value)}
    return found


def _holds(metadata: Any) -> bool:
    return any(each is _SPELLED for each in metadata)
