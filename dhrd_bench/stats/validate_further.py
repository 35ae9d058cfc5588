"""Put the further statistics to the test on made-up data with known truth.

``python -m dhrd_bench.stats.validate_further --write docs/statistics.md`` replaces what stands between
the two marks in that file. Each line says how often something happened that is wanted that often.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dhrd_bench.stats.simulations import SIMULATIONS
from dhrd_bench.stats.validate import Entry, write_between

BEGIN, END = "<!-- further: begin -->", "<!-- further: end -->"


def run(trials: int, chosen: Sequence[str] = ()) -> dict[tuple[str, str], Entry]:
    """Run the simulations, all or those `chosen`; return hits by what was looked at and how often it is wanted."""
    total: dict[tuple[str, str], list[int]] = {}
    for name, made in SIMULATIONS.items():
        if chosen and name not in chosen:
            continue
        once = made()
        for number in range(trials):
            for what, wanted, happened in once(np.random.default_rng([number, sum(map(ord, name))])):
                hits = total.setdefault((what, wanted), [0, 0])
                hits[0] += bool(happened)
                hits[1] += happened is not None
    return {key: Entry(*hits) for key, hits in total.items() if hits[1]}


def as_markdown(entries: dict[tuple[str, str], Entry]) -> str:
    """Return the entries as a table, each with its Monte-Carlo band."""
    lines = ["| what | wanted, % | found, % | band | of |", "|---|---:|---:|---:|---:|"]
    for (what, wanted), entry in entries.items():
        low, high = entry.band()
        lines.append(f"| {what} | {wanted} | {entry.rate:.1f} | {low:.1f}-{high:.1f} | {entry.trials:,} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulations, print the table and, if asked, write it into a file."""
    parser = argparse.ArgumentParser(description="The further statistics on made-up data.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=[*SIMULATIONS], default=())
    parser.add_argument("--write", type=Path, help=f"file in which to replace what stands between {BEGIN} and {END}")
    options = parser.parse_args(arguments)
    text = as_markdown(run(options.trials, options.only))
    sys.stdout.write(text)
    if options.write:
        write_between(options.write, BEGIN, END, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
