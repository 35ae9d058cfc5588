"""RESULTS.md from results.json."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

BUSY = 0.1
"""Share of the processors that others may use before a row says so."""
UNSTEADY = 0.2
"""By how much a side's own rounds may differ, over the slowest, before a row says so."""

HEAD = """# Speed

Written by `make bench` (`benchmarks/run.py`); do not edit. Both sides of a row work in turns (A B A B) in one process,
on the same data, dtype, batch and threads. Figures are medians over rounds, brackets hold the smallest and the largest
round; a ratio is taken within a round. The peer runs at the best of the settings that were tried. More than 1x:
dhrd-bench is faster.
"""


def markdown(rows: Mapping[str, Mapping[str, Any]], missing: Sequence[str] = ()) -> str:
    """Return the whole document; rows that are `missing` are named."""
    table = [
        "| row | dhrd-bench | peer | | measured | target | reached |",
        "|---|---|---|---|---|---|---|",
        *(line for name, row in rows.items() for line in lines(name, row)),
    ]
    if missing:
        table += ["", f"Not measured yet: {', '.join(missing)}."]
    sections = [section(name, row) for name, row in rows.items()]
    minutes = sum(row["seconds"] for row in rows.values()) / 60
    table += ["", f"Measuring these rows took {minutes:.0f} minutes together."]
    return "\n".join([HEAD, *table, "", "## Machine", "", machines(rows), *sections])


def lines(name: str, row: Mapping[str, Any]) -> list[str]:
    """Return a line of the table a claim."""
    made = []
    for number, claim in enumerate(row["claims"]):
        first = number == 0
        figures = f"{written(row['ours'], row['unit'])} | {written(row['theirs'], row['unit'])}" if first else "|"
        value, low, high = (styled(claim[key], claim["style"]) for key in ("value", "low", "high"))
        sign = "≥" if claim["at_least"] else "≤"
        target = f"{sign} {styled(claim['target'], claim['style'])}"
        label = f"[{row['what']}](#{name})" if first else ""
        reached = "yes" if claim["reached"] else "no"
        made.append(f"| {label} | {figures} | {claim['what']} | **{value}** [{low}, {high}] | {target} | {reached} |")
    return made


def written(rates: list[float], unit: str) -> str:
    """Return the median rate with its unit; a dash where there is none."""
    if not rates:
        return "-"
    rate = statistics.median(rates)
    return f"{1 / rate:.3g} s" if unit == "s" else f"{rate:,.{0 if rate >= 100 else 2 if rate >= 1 else 4}f} {unit}"


def styled(value: float, style: str) -> str:
    """Return a figure of a claim as text."""
    return {
        "ratio": f"{value:.2f}x", "share": f"{value:.0%}", "seconds": f"{value:.2f} s", "memory": f"{value:.2f} GiB",
    }[style]  # fmt: skip


def machines(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line for each machine and set of versions, with the rows that were measured there."""
    found: dict[str, list[str]] = {}
    for name, row in rows.items():
        here = row["environment"]
        packages = ", ".join(f"{package} {version}" for package, version in here["packages"].items() if version)
        text = (
            f"{here['cpu']}, {here['threads']} threads, {here['device']} {here['dtype']}; {here['platform']}; "
            f"Python {here['python']}, {packages}"
        )
        found.setdefault(text, []).append(name)
    if len(found) == 1:
        return next(iter(found)) + ".\n"
    return "\n".join(f"- {', '.join(names)}: {text}." for text, names in found.items()) + "\n"


def section(name: str, row: Mapping[str, Any]) -> str:
    """Return what is behind a row."""
    git = row["environment"].get("git") or {}
    commit = f", commit {git['commit'][:10]}{' with changes' if git['dirty'] else ''}" if git else ""
    busy = f" **Others used {row['other_load']:.0%} of the processors.**" if row["other_load"] > BUSY else ""
    quick = " **A quick run: the figures mean nothing.**" if row["quick"] else ""
    swing = max(max(rates) / min(rates) - 1 for rates in (row["ours"], row["theirs"]))
    unsteady = f" **Rounds of one side differ by {swing:.0%}.**" if swing > UNSTEADY else ""
    parts = [
        f'<a id="{name}"></a>',
        f"## {row['what'][0].upper()}{row['what'][1:]}",
        "",
        f"Against {row['peer']}. {row['setting']}.",
        "",
        f"- measured {row['measured']} in {row['seconds']:.0f} s{commit}.{busy}{unsteady}{quick}",
        f"- ratio of each round: {', '.join(f'{a / b:.2f}' for a, b in zip(row['ours'], row['theirs'], strict=True))}",
    ]
    if row["tried"]:
        tried = "; ".join(f"{setting}: {rate}" for setting, rate in row["tried"].items())
        parts.append(f"- settings of the peer tried ({row['unit']}): {tried}")
    parts += [f"- {check}" for check in row["checks"]]
    if row["limit"] and not all(claim["reached"] for claim in row["claims"]):
        parts += ["", f"What stops it: {row['limit']}"]
    if row["profile"]:
        shares = " | ".join(f"{share:.0%}" for share in row["profile"].values())
        parts += [
            "",
            f"Where our time goes ({row['profiled']}):",
            "",
            f"| {' | '.join(row['profile'])} |",
            f"|{'---|' * len(row['profile'])}",
            f"| {shares} |",
        ]
    return "\n".join([*parts, ""])
