"""The ``doctor`` command: what this machine can run."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dhrd_bench import hugepages, plugins, registry
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.environment import PACKAGES, cpu_name, package_version
from dhrd_bench.progress import literal


def examine(data_dir: Path | None, *, as_json: bool) -> int:
    """Print packages, device, matrix speed by dtype, data sources and backbones.

    Returns
    -------
    int
        0 if something can be run: a suite whose data are here and a real backbone; else 1.
    """
    # Looking must not download: the hub's libraries read this when they are imported, below.
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    suites, backbones = _suites(data_dir), _backbones()
    report: dict[str, Any] = {
        "packages": {name: package_version(name) for name in PACKAGES},
        "device": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "huge_pages": hugepages.given(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "matmul_gflops": _speeds(),
        "suites": suites,
        "backbones": backbones,
        "not_loaded": plugins.state.broken,
    }
    ready = any(suite["source"] for suite in suites) and any(
        backbone["present"] not in ("", "built in") for backbone in backbones
    )
    if as_json:
        sys.stdout.write(json.dumps(report | {"ready": ready}, indent=2) + "\n")
        return 0 if ready else 1
    _print(report, ready)
    return 0 if ready else 1


def _speeds() -> dict[str, float]:
    """Return GFLOP/s of a matrix product of a small backbone's shape, by dtype, on the best device."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    speeds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(1024, 576, device=device).to(dtype), torch.randn(576, 1536, device=device).to(dtype)
        a @ b
        repeats, started = 0, time.perf_counter()
        while time.perf_counter() - started < 0.2:
            a @ b
            if device == "cuda":
                torch.cuda.synchronize()
            repeats += 1
        flops = 2 * 1024 * 576 * 1536 * repeats
        speeds[str(dtype).removeprefix("torch.")] = round(flops / (time.perf_counter() - started) / 1e9, 1)
    return speeds


def _suites(data_dir: Path | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in registry.suites:
        suite = Suite.named(name)
        try:
            loaded = suite.load(suite.task_names()[0], data_dir=data_dir)
            rows.append({"suite": name, "source": loaded.source.kind, "tasks": len(suite.task_names()), "note": ""})
        except UserError as error:
            rows.append({"suite": name, "source": "", "tasks": len(suite.task_names()), "note": str(error)})
    return rows


def _backbones() -> list[dict[str, str]]:
    from dhrd_bench.backbones.loading import settle
    from dhrd_bench.backbones.location import how_to_get, locate

    rows = []
    for name in registry.backbones:
        card = settle(registry.backbones.get(name))
        kind = locate(card).kind
        present = "" if kind == "hub" else kind
        note = "" if present else how_to_get(card)
        rows.append({"backbone": name, "present": present, "dtype": card.dtype, "device": card.device, "note": note})
    return rows


def _print(report: dict[str, Any], ready: bool) -> None:
    console = Console()
    device = report["device"]
    pages = "huge pages" if device["huge_pages"] else "no huge pages"
    what = f"{device['gpu'] or device['cpu']}, {device['cores']} cores, {device['threads']} threads, {pages}"
    console.print(f"[b]device[/]    {what}")
    speeds = ", ".join(f"{dtype} {speed:,.0f}" for dtype, speed in report["matmul_gflops"].items())
    console.print(f"[b]matmul[/]    {speeds} GFLOP/s")
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in report["packages"].items())
    console.print(f"[b]packages[/]  {packages}", highlight=False)
    for title, key in (("data", "suites"), ("backbones", "backbones")):
        table = Table(title=title, title_justify="left", show_edge=False)
        rows = report[key]
        for column in rows[0]:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(literal(str(value)) for value in row.values()))
        console.print(table)
    for origin, error in report["not_loaded"].items():
        console.print(f"[yellow]not loaded[/] {literal(f'{origin}: {error}')}", soft_wrap=True, highlight=False)
    console.print(
        "Ready: `dhrd-bench demo`, or `dhrd-bench run --help`."
        if ready
        else "Not ready: a suite's data or a backbone is missing; the notes above say how to get them.",
        highlight=False,
    )
