"""Fitted methods on disk, by cell identity."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.backbones.fingerprint import damaged_files, file_digests
from dhrd_bench.contracts import Method
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import PlannedCell, Step
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.untrusted import parse_json

_log = logging.getLogger(__name__)

COMPLETE = "complete.json"
"""Digests of the files by name; written last, so that a save that was cut short is done again."""


def folder_of(planned: PlannedCell) -> Path:
    """Return where the fitted method of a cell is kept."""
    return cache_folder() / "fitted" / planned.identity


def save_fitted(save: Callable[[Path], object], planned: PlannedCell) -> Path:
    """Keep the method fitted for `planned`, which `save` writes into a folder.

    It is written elsewhere and moved to its place: whoever reads there finds all of it or nothing.

    Raises
    ------
    UserError
        If the cache cannot be written.
    """
    folder = folder_of(planned)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=folder.name, dir=folder.parent, ignore_cleanup_errors=True) as made:
            new = Path(made, "new")
            new.mkdir()
            save(new)
            write_text_atomically(new / COMPLETE, json.dumps(file_digests(new, ("*",))))
            with suppress(FileNotFoundError):
                folder.rename(Path(made, "old"))
            with suppress(FileExistsError):  # another run has just kept its own, which is the same
                new.rename(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"Cannot keep what was fitted for {planned.name} in the cache {folder}: {reason}."
        raise UserError(message, "Set DHRD_CACHE to a folder that can be written and has room.") from error
    return folder


def is_kept(planned: PlannedCell) -> bool:
    """Whether the fitted method of a cell lies on disk as it was written; what is damaged is named in a warning."""
    folder = folder_of(planned)
    try:
        digests = parse_json((folder / COMPLETE).read_bytes())
        damaged = damaged_files(folder, digests)
    except (OSError, ValueError, AttributeError):
        return False
    if damaged:
        _log.warning("Damaged in %s: %s. %s is fitted anew.", folder, ", ".join(damaged), planned.name)
    return not damaged


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
    present = is_kept(planned)
    if not present:
        backbone.reset()
        fresh = planned.method.new()
        fresh.fit(planned.data, context)
        save_fitted(fresh.save, planned)
    method = planned.method.new()
    method.load(folder, planned.loaded.card, context)
    return method, present
