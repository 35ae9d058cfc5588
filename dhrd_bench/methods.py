"""Methods by reference, ``name[key=value,...]``; a method may take others for parameters and run them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, get_args

from pydantic import AfterValidator

from dhrd_bench import plugins
from dhrd_bench.cards import Reference, canonical
from dhrd_bench.contracts import Method, MethodCard, MethodParams


@dataclass(frozen=True)
class MethodSpec:
    """A method with its parameters, under its one spelling."""

    name: str
    cls: type[Method]
    params: MethodParams

    @cached_property
    def card(self) -> MethodCard:
        """The method's card under these parameters."""
        return self.cls.card_for(self.params)

    def new(self) -> Method:
        """Return an instance that has not been fitted."""
        return self.cls(self.params)

    @cached_property
    def parts(self) -> tuple[MethodSpec, ...]:
        """The methods that its parameters name, those of `MethodReference`."""
        return tuple(map(method_spec, _references(self.params)))

    @property
    def whole(self) -> Iterator[MethodSpec]:
        """The method itself and all that it is composed of, however deep."""
        yield self
        for part in self.parts:
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


def _references(params: MethodParams) -> Iterator[str]:
    for name, field in type(params).model_fields.items():
        value = getattr(params, name)
        inner = (getattr(each, "__metadata__", ()) for each in get_args(field.annotation))
        if _holds(field.metadata) or any(map(_holds, inner)):
            yield from (value,) if isinstance(value, str) else value or ()


def _holds(metadata: Any) -> bool:
    return any(each is _SPELLED for each in metadata)
