"""What the site needs beyond mkdocs: the reference of commands, and links that lead out of docs/."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOG = logging.getLogger("mkdocs.hooks.dhrd_bench")  # a warning here fails a strict build
LINK = re.compile(r"\[([^\]\n]+)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the page that typer makes of the command line."""
    from mkdocs.structure.files import File

    words = [sys.executable, "-m", "typer", "dhrd_bench.cli", "utils", "docs", "--name", "dhrd-bench"]
    made = subprocess.run(words, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True)
    if made.returncode:
        LOG.warning("No reference of commands: %s", made.stderr)
    files.append(File.generated(config, "commands.md", content=_tidied(made.stdout)))
    return files


def _tidied(page: str) -> str:
    """Put the examples into blocks, as a terminal shows them."""
    page = page.replace("# `dhrd-bench`", "# Commands", 1)
    return re.sub(
        r"\[bold\]Examples\[/bold\]\n((?:  .*\n?)+)",
        lambda found: "**Examples**:\n\n```console\n" + re.sub(r"(?m)^  ", "", found[1]).rstrip() + "\n```\n",
        page,
    )


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show links to files of the repository as their paths: the site has docs/ only."""

    def shown(found: re.Match[str]) -> str:
        target = (ROOT / "docs" / found[2]).resolve()
        if not target.exists():
            LOG.warning("%s links to %s, which is not there", page.file.src_path, found[2])
        path = target.relative_to(ROOT).as_posix()
        return f"`{path}`" if found[1].strip("`") == path else f"{found[1]} (`{path}`)"

    return LINK.sub(shown, markdown)
