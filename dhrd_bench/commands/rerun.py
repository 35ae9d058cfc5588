"""The ``rerun`` command."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from dhrd_bench.errors import UserError, shown
from dhrd_bench.grid.rerun import Comparison, compare, differences, plan_again
from dhrd_bench.progress import show_progress
from dhrd_bench.request import Options
from dhrd_bench.results.loading import read_cell
from dhrd_bench.results.schema import CellRecord, Surroundings
from dhrd_bench.results.store import record_path, results_of
from dhrd_bench.results.verified import Verification, predictions_digest, write_verified


def rerun_command(path: Path, options: Options, console: Console, verify: str | None = None) -> int:
    """Run the cell of the record at `path` again; nothing is written, unless somebody is to `verify` it.

    On the same machine, with the same versions and an unchanged cell, predictions are to be the same to the
    last digit; otherwise as many as is printed may differ. If they are so, the name `verify` is noted beside the
    records as that of who vouches for it.

    Returns
    -------
    int
        0 if the predictions are as they have to be, else 1.
    """
    from dhrd_bench.backbones import load
    from dhrd_bench.grid.environment import surroundings_of
    from dhrd_bench.grid.record import make_record
    from dhrd_bench.grid.run import runner_of
    from dhrd_bench.inference.engines import engine_of

    record = read_cell(path)
    plan = plan_again(record, options)
    (planned,) = plan.cells
    changed_cell = list(differences(record.parts.hashed(), planned.parts.hashed()))
    backbone = load(plan.backbone)
    surroundings = surroundings_of(str(backbone.device), plan.backbone.dtype, engine_of(backbone).label)
    if verify is not None:
        _require_verifiable(path, record, surroundings)
    changed_machine = list(
        differences(record.environment.model_dump(exclude_none=True), surroundings.model_dump(exclude_none=True))
    )
    _print_list(console, "The cell is another one now", changed_cell)
    _print_list(console, "The surroundings differ", changed_machine)
    with show_progress(console, 1, "cells") as display, runner_of(plan, backbone) as runner:
        display.begin(planned.name)
        again = make_record(runner.run(planned, display.step), backbone, plan.request, surroundings)
        display.end(f"score {again.score:5.1f}" if again.score is not None else f"failed: {again.error}")
    backbone.reset()
    if again.rows is None:
        return 1
    assert record.rows is not None
    assert record.score is not None
    assert again.score is not None
    comparison = compare(record.rows, again.rows, plan.backbone.dtype)
    console.print(f"score {record.score:.2f} in the record, {again.score:.2f} now", highlight=False)
    if comparison.identical:
        console.print(f"All {comparison.rows} predictions are identical.", highlight=False)
        _note(path, record, comparison, surroundings, verify, console)
        return 0
    # What a card has free decides how large its packs are, and their sums are rounded.
    same_packs = again.train.pack_tokens == record.train.pack_tokens
    must_be_identical = not changed_cell and not changed_machine and same_packs
    rule = (
        "nothing else differs, so they have to be identical"
        if must_be_identical
        else f"on another machine, with other versions or other packs {comparison.tolerance:.0%} may"
    )
    console.print(
        f"{comparison.flips} of {comparison.rows} predictions differ: {rule}. Scores lie up to "
        f"{comparison.distance:.2g} apart.",
        highlight=False,
        soft_wrap=True,
    )
    if must_be_identical or not comparison.close:
        return 1
    _note(path, record, comparison, surroundings, verify, console)
    return 0


def _require_verifiable(path: Path, record: CellRecord, surroundings: Surroundings) -> None:
    """Refuse before an hour of work to verify what nobody could look up."""
    if results_of(path) / record_path(Path(), record.cell) != path.resolve():
        message = f"{path} is not the place of its cell, so nothing can be noted beside it."
        raise UserError(message, f"Move it to results/{record_path(Path(), record.cell)}.")
    if surroundings.git is not None and surroundings.git.dirty:
        raise UserError("This checkout was changed, so its commit does not say what ran.", "Commit first, then verify.")


def _note(
    path: Path,
    record: CellRecord,
    comparison: Comparison,
    surroundings: Surroundings,
    verify: str | None,
    console: Console,
) -> None:
    """Note that somebody vouches for the record, if somebody does."""
    if verify is None:
        return
    assert record.rows is not None
    verification = Verification(
        predictions=predictions_digest(record.rows),
        by=verify,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=surroundings.git and surroundings.git.commit,
        machine=surroundings.gpu or surroundings.cpu,
        flips=comparison.flips,
        rows=comparison.rows,
    )
    noted = write_verified(results_of(path), record.identity, verification)
    console.print(f"noted in {noted}", highlight=False, markup=False, soft_wrap=True)


def _print_list(console: Console, title: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        console.print(f"{title}:", highlight=False)
        for line in lines:
            console.print(f"  {shown(line)}", highlight=False, markup=False, soft_wrap=True)
