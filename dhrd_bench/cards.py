"""Cards by reference and from files: ``NAME[key=value,...]`` on the command line, YAML on disk."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, did_you_mean, first_misfit
from dhrd_bench.untrusted import parse_yaml

C = TypeVar("C", bound=Card)


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
        name, bracket, rest = text.strip().partition("[")
        pieces = _split(rest[:-1]) if rest.endswith("]") else [] if not bracket else None
        if not name.strip() or "]" in name or pieces is None:
            raise UserError(f"Cannot read {text!r}.", "Write NAME or NAME[key=value,...].")
        options: dict[str, str] = {}
        for piece in pieces:
            key, equals, value = (part.strip() for part in piece.partition("="))
            if not equals or not key or not value or key in options:
                raise UserError(f"Cannot read the setting {piece!r} of {text!r}.", "Write each once, as key=value.")
            options[key] = value
        return cls(name.strip(), tuple(sorted(options.items())))

    def __str__(self) -> str:
        inside = ",".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}[{inside}]" if inside else self.name

    def apply(self, card: C, what: str) -> C:
        """Return `card` with this reference's settings, validated; a nested card keeps what is not named.

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
        values = {key: parse_yaml(value, f"{what} {self}") for key, value in self.options}
        try:
            return type(card).model_validate(_overlay(card.model_dump(), values))
        except ValidationError as error:
            misfit = first_misfit(error)
            hint = ""
            if misfit.kind == "literal_error" and len(misfit.keys) == 1:
                kinds = get_args(known[str(misfit.keys[0])].annotation)
                choices = [each for kind in kinds for each in get_args(kind) or (kind,) if each is not type(None)]
                hint = did_you_mean(str(misfit.value), [str(choice) for choice in choices])
            raise UserError(f"{what} {self}: {misfit.message}.", hint) from error


def canonical(name: str, card: Card, default: Card) -> Reference:
    """Return the one reference that says how `card` differs from `default`, the card called `name`.

    Two spellings of one card have the same: a default that is written out is left out, numbers are
    written as the card holds them.
    """
    changes = _difference(card.model_dump(mode="json"), default.model_dump(mode="json"))
    return Reference(name, tuple(sorted((key, _setting(value)) for key, value in changes.items())))


def split_store(text: str) -> tuple[str, str | None]:
    """Split the name of a store off a method's reference: ``name[alpha=0.5]@store``; None where it names none."""
    reference, at, store = text.strip().rpartition("@")
    return (reference, store) if at and "]" not in store else (text, None)


def split_references(text: str) -> list[str]:
    """Split a comma-separated list whose items may carry ``[...]`` with commas of their own."""
    return _split(text)


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets, braces and double quotes; empty pieces are left out."""
    pieces, depth, quoted, escaped = [""], 0, False, False
    for character in text:
        quoted ^= character == '"' and not escaped
        escaped = quoted and character == "\\" and not escaped
        depth += 0 if quoted else (character in "[{") - (character in "]}")
        if character == "," and depth == 0 and not quoted:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece.strip() for piece in pieces if piece.strip()]


def _overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _overlay(base[key], value) if nested else value
    return merged


def _difference(values: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """Return what of `values` is not as in `default`, mapping by mapping."""
    changes = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(default.get(key), dict):
            if inner := _difference(value, default[key]):
                changes[key] = inner
        elif key not in default or value != default[key]:
            changes[key] = value
    return changes


def _setting(value: Any) -> str:
    """Return `value` as the text of a setting; one that is a reference itself, ``name[key=value]``, stays plain."""
    if isinstance(value, str) and re.fullmatch(r"[\w.-]+\[[\w./:@=,\[\]-]+\]", value) and _is_plain(value):
        return value if _split(value) == [value] and value.count("[") == value.count("]") else json.dumps(value)
    return _text(value)


def _text(value: Any) -> str:
    """Return `value` as YAML that is read back as the same value; a plain word stays plain."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(inner) for inner in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"[\w./:@-]+", value) and _is_plain(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    """Whether YAML reads `text` as itself; some signs alone, such as a colon, are no YAML at all."""
    try:
        return bool(parse_yaml(text, "") == text)
    except UserError:
        return False


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
        misfit = first_misfit(error)
        hint = did_you_mean(str(misfit.keys[-1]), cls.model_fields) if misfit.kind == "extra_forbidden" else ""
        raise UserError(f"{path}: {misfit}.", hint) from error
