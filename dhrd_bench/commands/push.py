"""The ``push`` command."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console


def push_command(folder: Path, repository: str, console: Console, *, private: bool) -> int:
    """Send an exported folder to the hub."""
    from dhrd_bench.exporting.hub import push

    url = push(folder, repository, private=private)
    console.print(f"sent {folder} to {url}", highlight=False, markup=False, soft_wrap=True)
    return 0
