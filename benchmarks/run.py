"""The speed table: every row against its peer, side by side in one run.

``python benchmarks/run.py`` measures all rows, each in a process of its own, merges them into
``results.json`` and writes ``RESULTS.md`` from it. ``--only NAME`` measures some rows and leaves the others as
they were. ``--quick`` shows in minutes that everything runs; its figures mean nothing and are kept apart.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from dhrd_bench import hugepages

ROWS = {
    "pooled-lora": "row_training:pooled_lora",
    "dhrd-step": "row_training:dhrd_step",
    "sft": "row_training:sft",
    "pooled-inference": "row_inference:pooled_inference",
    "label-scoring": "row_inference:label_scoring",
    "cot-decoding": "row_inference:cot_decoding",
    "reuse": "row_reuse:reuse",
    "analysis": "row_analysis:analysis",
    "scale": "row_analysis:scale",
    "start": "row_analysis:start",
}
HERE = Path(__file__).parent
PEERS = ("accelerate", "lm_eval", "trl")


def main() -> int:
    """Measure what was asked for; return 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS), help=f"comma-separated, of: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="a few rows and steps; writes to build/bench")
    parser.add_argument("--render", action="store_true", help="measure nothing, write RESULTS.md from results.json")
    parser.add_argument("--output", type=Path, help="folder of results.json and RESULTS.md")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"unknown row {unknown[0]!r}; known: {', '.join(ROWS)}")
    if options.child:
        options.child.write_text(json.dumps(measure(names[0], options.quick)), encoding="utf-8")
        return 0
    folder = options.output or (HERE.parent / "build" / "bench" if options.quick else HERE)
    folder.mkdir(parents=True, exist_ok=True)
    failed = [] if options.render else [name for name in names if not measure_apart(name, options.quick, folder)]
    render(folder)
    for name in failed:
        print(f"{name} failed; its row is as it was", file=sys.stderr)
    return 1 if failed else 0


def measure_apart(name: str, quick: bool, folder: Path) -> bool:
    """Measure a row in a process of its own and merge it into the results; return whether it went well."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    part = folder / f"{name}.tmp"
    command = [sys.executable, str(Path(__file__).resolve()), "--only", name, "--child", str(part)]
    # As the command line has it; it holds for both sides.
    surroundings = os.environ | hugepages.asking() | {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    done = subprocess.run(command + ["--quick"] * quick, env=surroundings, check=False)
    if done.returncode == 0:
        rows = read(folder)
        rows[name] = json.loads(part.read_text(encoding="utf-8"))
        ordered = {key: rows[key] for key in ROWS if key in rows}
        (folder / "results.json").write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    part.unlink(missing_ok=True)
    return done.returncode == 0


def measure(name: str, quick: bool) -> dict[str, object]:
    """Measure a row in this process."""
    import warnings

    warnings.simplefilter("ignore")
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging

    from dhrd_bench.backbones import resolve
    from dhrd_bench.backbones.loading import settle
    from dhrd_bench.grid.environment import package_version, surroundings_of
    from dhrd_bench.throughput.machine import BusyMeter

    disable_progress_bar()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    module, _, function = ROWS[name].partition(":")
    card = settle(resolve("smollm2-135m"))
    surroundings = surroundings_of(card.device, card.dtype, card.engine).model_dump(mode="json")
    surroundings["packages"] |= {peer: package_version(peer) for peer in PEERS}
    meter, started = BusyMeter(), time.perf_counter()
    row = getattr(importlib.import_module(module), function)(quick)
    return asdict(row) | {
        "claims": [asdict(claim) | {"reached": claim.reached} for claim in row.claims],
        "quick": quick,
        "seconds": time.perf_counter() - started,
        "other_load": meter.share(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": surroundings,
    }


def read(folder: Path) -> dict[str, dict[str, object]]:
    """Return the rows measured so far."""
    path = folder / "results.json"
    found: dict[str, dict[str, object]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def render(folder: Path) -> None:
    """Write RESULTS.md from the rows measured so far."""
    from rendering import markdown

    rows = read(folder)
    (folder / "RESULTS.md").write_text(markdown(rows, [name for name in ROWS if name not in rows]), encoding="utf-8")
    print(f"Wrote {folder / 'RESULTS.md'}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
