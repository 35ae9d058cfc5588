"""The folder for what can be made again: converted backbones, fitted methods, digests of files."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return where it lies (``DHRD_CACHE`` overrides the platform's default)."""
    return Path(os.environ.get("DHRD_CACHE") or platformdirs.user_cache_dir("dhrd-bench"))
