"""Which methods have passed the conformance kit on this machine: a stamp each, by their code."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.grid.identity import digest, method_identity
from dhrd_bench.methods import MethodSpec


def mark_checked(spec: MethodSpec, *, passed: bool) -> None:
    """Note that the method as it stands has passed, or has not. A cache that takes nothing is no error here."""
    with suppress(OSError):
        path = _stamp(spec)
        if passed:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.unlink(missing_ok=True)


def has_passed(spec: MethodSpec) -> bool:
    """Whether the method has passed as it stands: with this code and these parameters."""
    return _stamp(spec).is_file()


def _stamp(spec: MethodSpec) -> Path:
    return cache_folder() / "checked" / digest(method_identity(spec).model_dump(mode="json"))
