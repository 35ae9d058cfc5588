"""Is a store fit to train on? `audit` measures what decides it; `badge` says it in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.data.rationales import Rationale, RationaleStore
from dhrd_bench.errors import UserError
from dhrd_bench.rationales.audit.report import Audit, TaskAudit, Thresholds, badge, tables
from dhrd_bench.rationales.card import read_store_card, recipe_of

if TYPE_CHECKING:
    from dhrd_bench.data.suite import LoadedTask, Suite

__all__ = ["Audit", "TaskAudit", "Thresholds", "audit", "badge", "tables"]


def audit(
    suite: Suite,
    *,
    tasks: Sequence[str] | None = None,
    store: RationaleStore | None = None,
    data_dir: Path | None = None,
    without_rows: bool = False,
    thresholds: Thresholds | None = None,
    progress: Callable[[str], None] = lambda task: None,
) -> Audit:
    """Audit the rationales of `suite`.

    Parameters
    ----------
    tasks
        Names of tasks; all that have rationales if None.
    store
        A store of the user's; the suite's own rationales if None.
    data_dir
        Where the rows are; see `Suite.load`.
    without_rows
        Look at the rationales alone.
    progress
        Called with each task's name before it is looked at.

    Raises
    ------
    UserError
        If there are no rationales, or a line of them cannot be read.
    """
    from dhrd_bench.data.suite import own_store
    from dhrd_bench.rationales.audit.task import audit_task
    from dhrd_bench.rationales.rows import load_rows

    limits = thresholds or Thresholds()
    held = store or own_store(suite)
    names = suite.resolve_tasks(tasks)
    if store is not None and tasks is None:
        names = [name for name in names if name in store.tasks()]
    result = Audit(
        suite=suite.name, origin=_name(held.folder) if held else "in the suite's rows", thresholds=limits, tasks=[]
    )
    language = read_store_card(held).language if held else "en"
    unreachable = "--without-rows" if without_rows else ""
    for name in names:
        progress(name)
        loaded: LoadedTask | None = None
        if not unreachable:
            try:
                loaded = load_rows(suite, name, data_dir, store.folder if store else None)
            except UserError as error:
                if held is None or data_dir is not None:
                    raise
                unreachable = str(error)  # no source has it; trying the others would only take time
        lines = held.rows(name) if held else inline(suite, loaded)
        result.tasks.append(audit_task(name, suite.card.tasks[name], lines, loaded, language, limits))
    if unreachable:
        missing = "coverage, misfits, copying from inputs and from evaluation inputs, for want of the rows"
        result.not_checked.append(f"{missing} ({unreachable})")
    if held:
        card, all_lines = read_store_card(held), (line for name in held.tasks() for line in held.rows(name))
        recipes = [recipe_of(line, card) for line in all_lines if not line.counterfactual]  # those are not looked at
        seen = {recipe.label_seen for recipe in recipes}
        result.teachers = sorted({recipe.teacher for recipe in recipes})
        result.label_seen = seen.pop() if len(seen) == 1 else None
    return result


def inline(suite: Suite, loaded: LoadedTask | None) -> list[Rationale]:
    """Return the rationales that stand in the rows of `loaded`."""
    from dhrd_bench.rationales.rows import raw_labels

    assert loaded is not None, "rationales that stand in the rows come with the rows"
    labels = raw_labels(suite.card.tasks[loaded.card.name])
    return [
        Rationale(idx=row.id, label=labels[row.label], rationale=row.rationale, input_sha256_16=row.input_hash)
        for row in loaded.train
        if row.rationale is not None
    ]


def _name(folder: Path) -> str:
    """Name a store by the end of its path: an audit is passed on, the machine's folders are nobody's business."""
    return "/".join(folder.resolve().parts[-2:])
