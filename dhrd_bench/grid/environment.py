"""What a record says of the machine and the software. No paths, no host names, no secrets."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dhrd_bench import hugepages
from dhrd_bench.results.schema import Revision, Surroundings

PACKAGES = (
    "dhrd-bench",
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "datasets",
    "numpy",
    "scipy",
    "scikit-learn",
    "vllm",
    "bitsandbytes",
)


def surroundings_of(device: str, dtype: str, engine: str) -> Surroundings:
    """Return versions, hardware, threads and the git revision the harness runs from."""
    import torch

    return Surroundings(
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        packages={name: installed for name in PACKAGES if (installed := package_version(name))},
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        huge_pages=hugepages.given(),
        gpu=torch.cuda.get_device_name() if device.startswith("cuda") else None,
        device=device,
        dtype=dtype,
        git=git_revision(),
        engine=engine,
    )


def package_version(name: str) -> str:
    """Return the installed version of `name`, or an empty string."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def git_revision() -> Revision | None:
    """Return the commit of the checkout the harness runs from, and whether it was changed since."""
    folder = Path(__file__).parent.parent.parent
    if not (folder / ".git").exists():
        return None
    # Records and what is made of them are outcomes, not causes: they do not make a checkout dirty.
    outcomes = ("results", "LEADERBOARD.md", "benchmarks/results.json", "benchmarks/RESULTS.md")
    unchanged = ["--", ".", *(f":(exclude){path}" for path in outcomes)]
    commit = _git(folder, "rev-parse", "HEAD")
    dirty = _git(folder, "status", "--porcelain", *unchanged)
    return Revision(commit=commit, dirty=bool(dirty)) if commit else None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
