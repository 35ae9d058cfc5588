"""The ``list`` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from dhrd_bench import plugins, registry
from dhrd_bench.contracts import spelled
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.progress import literal


def wide_console() -> Console:
    """Return a console that does not squeeze tables into 80 columns when nobody is looking."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 120))


def show(kind: str, *, as_json: bool) -> None:
    """Print what is registered of `kind`.

    Raises
    ------
    UserError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise UserError(f"Cannot list {kind!r}.", did_you_mean(kind, KINDS))
    rows = KINDS[kind]()
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table(show_edge=False, pad_edge=False)
    for number, column in enumerate(rows[0] if rows else []):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*map(literal, row.values()))
    console = wide_console()
    console.print(table)
    for origin, error in plugins.state.broken.items():
        console.print(f"[yellow]not loaded[/] {literal(f'{origin}: {error}')}", soft_wrap=True, highlight=False)


def _methods() -> list[dict[str, str]]:
    cards = [registry.methods.get(name).card for name in registry.methods]
    return [
        {
            "method": card.name,
            "role": card.role,
            "rationales": "yes" if card.uses_rationales else "no",
            "inference": spelled(card.inference),
            "objective": card.objective,
            "paper": card.paper,
        }
        for card in cards
    ]


def _suites() -> list[dict[str, str]]:
    every = [Suite.named(name) for name in registry.suites]
    return [
        {
            "suite": suite.name,
            "version": suite.version,
            "tasks": ", ".join(suite.task_names()),
            "prompts": ", ".join(suite.prompt_names()),
        }
        for suite in every
    ]


def _tasks() -> list[dict[str, str]]:
    every = [Suite.named(name) for name in registry.suites]
    return [
        {
            "suite": suite.name,
            "task": name,
            "classes": ", ".join(task.label.names),
            "metrics": ", ".join(task.metrics),
            "licence": task.licence,
        }
        for suite in every
        for name, task in suite.card.tasks.items()
    ]


def _backbones() -> list[dict[str, str]]:
    cards = [registry.backbones.get(name) for name in registry.backbones]
    return [
        {"backbone": card.name, "parameters": card.parameters, "licence": card.licence, "hub id": card.hub_id}
        for card in cards
    ]


def _budgets() -> list[dict[str, str]]:
    cards = [registry.budgets.get(name) for name in registry.budgets]
    return [
        {
            "budget": card.name,
            "tuning": card.tuning,
            "train / dev / test rows": f"{card.train_rows or 'all'} / {card.dev_rows} / {card.test_rows or 'all'}",
            "epochs": str(card.epochs),
            "seeds": str(card.seeds),
            "description": card.description,
        }
        for card in cards
    ]


KINDS: dict[str, Callable[[], list[dict[str, str]]]] = {
    "methods": _methods,
    "suites": _suites,
    "tasks": _tasks,
    "backbones": _backbones,
    "budgets": _budgets,
}
