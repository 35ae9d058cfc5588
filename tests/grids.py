"""Small grids on the random backbone, and what of a record does not depend on the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dhrd_bench import plugins
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.grid.run import run_plan
from dhrd_bench.progress import Display
from dhrd_bench.request import RunRequest
from dhrd_bench.results.schema import CellRecord

FAST = "smoke[train_rows=8,dev_rows=3,test_rows=8,epochs=1,tuning=top:1,max_length=96]"


def plan(results: Path, **changes: Any) -> Plan:
    wanted: dict[str, Any] = {
        "suite": "mini7", "methods": "pooled,dhrd", "tasks": "copa,rte",
        "backbone": "tiny", "budget": FAST, "seeds": "2",
    }  # fmt: skip
    return make_plan(RunRequest(results=results, **(wanted | changes)))


def run(wanted: Plan) -> list[CellRecord]:
    return run_plan(wanted, Display(Console(quiet=True), len(wanted.missing)))


def outcome(record: CellRecord) -> tuple[Any, ...]:
    """All of a record that does not depend on the clock."""
    assert record.rows is not None
    return record.identity, record.metrics, record.rows.model_dump(), record.train.epochs


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """What a test registers is gone after it."""
    plugins.load_all()
    with plugins.isolated():
        yield
