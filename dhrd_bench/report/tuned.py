"""The table of what methods were tuned with: their score on dev rows against the trials spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dhrd_bench.report.figures import NONE, many, number
from dhrd_bench.report.layout import Column, Table, TableCell
from dhrd_bench.request import Sampler
from dhrd_bench.results.tuned import Search
from dhrd_bench.stats.best_of import best_so_far, chance, expected_best


def spent(search: Search, method: str) -> list[float]:
    """Return the score to be expected of the best of n trials of a method, for each n that it has finished."""
    scores = search.scores(method)
    if not scores:
        return []
    return expected_best(scores) if search.sampler == "random" else best_so_far(scores)


def within_chance(search: Search, method: str) -> int:
    """Return how many trials are no more than a standard error of the best one below it."""
    scores = search.scores(method)
    best = max(scores)
    return sum(score >= best - chance(best, search.rows) for score in scores)


def trials_table(search: Search) -> Table:
    """Lay out, by method, the dev score against trials spent, and what was chosen."""
    shown = _shown(search.trials)
    rows = []
    for name, method in search.methods.items():
        best = spent(search, name)
        figures = [TableCell(number(best[n - 1]) if n <= len(best) else NONE) for n in shown]
        near = TableCell(f"{within_chance(search, name)} of {len(best)}" if best else NONE)
        rows.append((TableCell(name), *figures, near, TableCell(method.choice)))
    heads = (
        Column("Method", "left"), *(Column(many(n, "trial")) for n in shown), Column("Within chance"),
        Column("Chosen", "left"),
    )  # fmt: skip
    rows_said = ", ".join(f"{rows} of {task}" for task, rows in search.dev_rows.items())
    hows: dict[Sampler, str] = {
        "random": "Expected dev score of the best of so many trials, the method's own settings being the first and the "
        "others drawn at random (Dodge et al. 2019; mean over all subsets).",
        "grid": "Best dev score of so many trials, the method's own settings and then the combinations of a grid.",
        "tpe": "Best dev score of so many trials, drawn one after the other where earlier ones were good (TPE).",
    }
    caption = (
        f"{hows[search.sampler]} It is that of the rows it was chosen by, so too high for the settings chosen.",
        f"dev rows: {rows_said}, at {many(len(search.seeds), 'seed')}. Within chance: trials less than a standard "
        "error of the best score below it, by the number of rows; which of these was chosen is mostly luck.",
    )
    return Table("Score against trials", heads, tuple(rows), caption)


def tuned_note(search: Search, methods: Sequence[str]) -> str | None:
    """Say which of `methods` have settings that a search has chosen; None if none has."""
    choices = {found.choice: name for name, found in search.methods.items()}
    tuned = [method for method in methods if method in choices]
    if not tuned:
        return None
    rest = [method for method in methods if method not in choices]
    others = f" Not tuned there: {', '.join(rest)}." if rest else ""
    return f"Tuned on dev rows, {many(search.trials, 'trial')} each: {', '.join(tuned)}.{others}"


def tuned_figures(search: Search) -> dict[str, Any]:
    """Return a search as a report's JSON has it."""
    return {
        "suite": search.suite,
        "tasks": search.tasks,
        "dev_rows": search.dev_rows,
        "seeds": search.seeds,
        "sampler": search.sampler,
        "trials": search.trials,
        "methods": {
            name: {"choice": found.choice, "trials": found.trials, "scores": search.scores(name),
                   "best_of": spent(search, name)}
            for name, found in search.methods.items()
        },
    }  # fmt: skip


def _shown(trials: int) -> list[int]:
    """Return the numbers of trials that a table has room for: doubling, and all."""
    return sorted({n for n in (1, 2, 4, 8, 16, 32, 64) if n < trials} | {trials})
