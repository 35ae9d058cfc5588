"""The command line as a user meets it: each command in a process of its own.

A new interpreter spends seconds on importing torch. A server that has imported it forks the commands
instead; what a command does to its process is gone with it all the same. Where processes cannot be forked, and where
a test is about starting one, a command gets an interpreter of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any
from unittest.mock import patch

SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
HEAVY = ["torch", "transformers", "pandas", "scipy.stats", "dhrd_bench.commands.run", "dhrd_bench.commands.report"]
"""What the server imports."""


def dhrd(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``dhrd-bench`` with `arguments` in the folder `cwd`."""
    variables = os.environ | SETTINGS | environment
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return in_a_new_interpreter(*arguments, cwd=cwd, **environment)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(HEAVY)
    with patch.dict(os.environ, SETTINGS):  # what it imports reads them, and threads could not be forked
        ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        process = server.Process(target=_command, args=(arguments, variables, str(cwd or Path.cwd()), folder))
        process.start()
        process.join()
        out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
    assert process.exitcode is not None
    return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def in_a_new_interpreter(
    *arguments: str, python: str = sys.executable, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m dhrd_bench.cli`` with `arguments` in the folder `cwd`."""
    command, variables = [python, "-m", "dhrd_bench.cli", *arguments], os.environ | SETTINGS | environment
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False, cwd=cwd)


def _command(arguments: tuple[str, ...], variables: dict[str, str], cwd: str, folder: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        with Path(folder, name).open("wb") as stream:
            os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = (_writer(number) for number in (1, 2))
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = ["dhrd-bench", *arguments]
    from dhrd_bench.cli import main

    main()


def _writer(number: int) -> Any:
    return open(number, "w", encoding="utf-8", closefd=False)


def leaves(group: Any, before: str = "") -> dict[str, Any]:
    """Return the commands of `group` and of the groups in it, by the words that call them."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if not command.hidden:
            found |= leaves(command, f"{before}{name} ") if hasattr(command, "commands") else {before + name: command}
    return found


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear line, exit code 2, no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    for word in words:
        assert word in line
