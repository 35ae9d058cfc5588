"""Fitted methods on disk, by cell identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.contracts import Method
from dhrd_bench.grid.plan import PlannedCell, Step

COMPLETE = "complete"
"""Marker written last, so that a save that was cut short is done again."""


def folder_of(planned: PlannedCell) -> Path:
    """Return where the fitted method of a cell is kept."""
    return cache_folder() / "fitted" / planned.identity


def save_fitted(save: Callable[[Path], object], planned: PlannedCell) -> Path:
    """Keep the method fitted for `planned`, which `save` writes into a folder."""
    folder = folder_of(planned)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder)
    (folder / COMPLETE).touch()
    return folder


def obtain_fitted(planned: PlannedCell, backbone: Backbone, step: Step) -> tuple[Method, bool]:
    """Load the fitted method of a cell; fit and keep it if it has not been kept before.

    Returns
    -------
    method, loaded
        Always restored from disk, so that what is timed is what was saved; `loaded` tells whether
        it had been there already.
    """
    folder = folder_of(planned)
    context = planned.context(backbone, step)
    present = (folder / COMPLETE).exists()
    if not present:
        backbone.reset()
        fresh = planned.method.new()
        fresh.fit(planned.data, context)
        save_fitted(fresh.save, planned)
    method = planned.method.new()
    method.load(folder, planned.loaded.card, context)
    return method, present
