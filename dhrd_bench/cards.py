"""Cards by reference and from files: ``NAME[key=value,...]`` on the command line, YAML on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, did_you_mean

C = TypeVar("C", bound=Card)

_REFERENCE = re.compile(r"^(?P<name>[^\[\]]+?)(?:\[(?P<options>[^\[\]]*)\])?$")


@dataclass(frozen=True)
class Reference:
    """A name with settings, as in ``name[alpha=0.5,beta=1]``."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``name[key=value,...]``.

        Raises
        ------
        UserError
            If the text has another form or sets a key twice.
        """
        match = _REFERENCE.match(text.strip())
        if not match:
            raise UserError(f"Cannot read {text!r}.", "Write NAME or NAME[key=value,...].")
        options: dict[str, str] = {}
        for part in filter(None, (piece.strip() for piece in (match["options"] or "").split(","))):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not key or not value or key in options:
                raise UserError(f"Cannot read the setting {part!r} of {text!r}.", "Write each once, as key=value.")
            options[key] = value
        return cls(match["name"].strip(), tuple(sorted(options.items())))

    def __str__(self) -> str:
        inside = ",".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}[{inside}]" if inside else self.name

    def apply(self, card: C, what: str) -> C:
        """Return `card` with this reference's settings, validated.

        Raises
        ------
        UserError
            If a setting is unknown or has a value that does not fit.
        """
        if not self.options:
            return card
        known = type(card).model_fields
        for key, _ in self.options:
            if key not in known:
                raise UserError(f"{what} {self.name!r} has no setting {key!r}.", did_you_mean(key, known))
        try:
            values = {key: yaml.safe_load(value) for key, value in self.options}
            return type(card).model_validate(card.model_dump() | values)
        except (ValidationError, yaml.YAMLError) as error:
            hint, reason = "", str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                reason = first["msg"]
                if first["type"] == "literal_error" and len(first["loc"]) == 1:
                    choices = get_args(known[str(first["loc"][0])].annotation)
                    hint = did_you_mean(str(first["input"]), [str(choice) for choice in choices])
            raise UserError(f"{what} {self}: {reason}.", hint) from error


def split_references(text: str) -> list[str]:
    """Split a comma-separated list whose items may carry ``[...]`` with commas of their own."""
    return [piece.strip() for piece in re.split(r",(?![^\[]*\])", text) if piece.strip()]


def read_card(cls: type[C], raw: dict[str, Any], path: Path) -> C:
    """Validate `raw`, read from `path`, as a `cls`.

    Raises
    ------
    UserError
        With the file, the key and the cure.
    """
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        known = did_you_mean(str(first["loc"][-1]), cls.model_fields) if first["type"] == "extra_forbidden" else ""
        raise UserError(f"{path}: {place}: {first['msg']}.", known) from error
