"""Which teacher a name means."""

from __future__ import annotations

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.rationales.teachers.teacher import Teacher, TeacherSettings


def make_teacher(name: str, settings: TeacherSettings, *, dry_run: bool = False) -> Teacher:
    """Return the teacher called `name`; with `dry_run` one that will be asked nothing and needs no key.

    Raises
    ------
    UserError
        If the name has another form, or what the teacher needs is not there.
    """
    kind, colon, model = name.partition(":")
    if not colon or not model:
        raise UserError(f"Cannot read the teacher {name!r}.", "Write openai:MODEL or local:BACKBONE.")
    if kind == "openai":
        from dhrd_bench.rationales.teachers.openai import OpenAITeacher

        return OpenAITeacher(model, settings, dry_run=dry_run)
    if kind == "local":
        from dhrd_bench.rationales.teachers.local import LocalTeacher

        return LocalTeacher(model, settings)
    raise UserError(f"Unknown kind of teacher {kind!r}.", did_you_mean(kind, ["openai", "local"]))
