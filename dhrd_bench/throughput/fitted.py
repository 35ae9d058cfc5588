"""Fitted methods on disk, by cell identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.contracts import Budget, Context, Method
from dhrd_bench.grid.plan import PlannedCell

COMPLETE = "complete"
"""Marker written last, so that a save that was cut short is done again."""


def folder_of(planned: PlannedCell) -> Path:
    """Return where the fitted method of a cell is kept."""
    return cache_folder() / "fitted" / planned.identity


def save_fitted(method: Method, planned: PlannedCell) -> Path:
    """Keep `method`, fitted for `planned`."""
    folder = folder_of(planned)
    folder.mkdir(parents=True, exist_ok=True)
    method.save(folder)
    (folder / COMPLETE).touch()
    return folder


def obtain_fitted(
    planned: PlannedCell,
    backbone: Backbone,
    budget: Budget,
    progress: Callable[[str, int, int, dict[str, float]], None] = lambda phase, done, total, figures: None,
) -> tuple[Method, bool]:
    """Load the fitted method of a cell; fit and keep it if it has not been kept before.

    Returns
    -------
    method, loaded
        Always restored from disk, so that what is timed is what was saved; `loaded` tells whether
        it had been there already.
    """
    folder = folder_of(planned)
    context = Context(backbone, budget, planned.loaded.card.name, planned.cell.seed, progress)
    present = (folder / COMPLETE).exists()
    if not present:
        backbone.reset()
        fresh = _new(planned)
        fresh.fit(planned.data, context)
        save_fitted(fresh, planned)
    method = _new(planned)
    method.load(folder, planned.loaded.card, context)
    return method, present


def _new(planned: PlannedCell) -> Method:
    return planned.method.cls(planned.method.cls.Params.model_validate(planned.method.params))
