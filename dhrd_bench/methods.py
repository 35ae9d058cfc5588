"""Methods by reference, ``name[key=value,...]``; a method may take others for parameters and run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator

from dhrd_bench import plugins
from dhrd_bench.cards import Reference, canonical
from dhrd_bench.contracts import Context, Method, MethodCard, MethodParams, TaskCard, TaskData
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
    default = cls.Params()
    params = reference.apply(default, "Method")
    return MethodSpec(str(canonical(cls.card.name, params, default)), cls, params)


def _spelling(text: str) -> str:
    return method_spec(text).name


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
    for name, field in type(params).model_fields.items():
        value = getattr(params, name)
        inner = (getattr(each, "__metadata__", ()) for each in get_args(field.annotation))
        if value is None or not (_holds(field.metadata) or any(map(_holds, inner))):
            continue
        if isinstance(value, str):
            found[name] = method_spec(value)
        else:
            found |= {f"{name}-{place}": method_spec(each) for place, each in enumerate(value)}
    return found


def _holds(metadata: Any) -> bool:
    return any(each is _SPELLED for each in metadata)
