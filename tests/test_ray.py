"""Cells on a Ray cluster: its room, and records that are those of one machine whatever is lost on the way."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from grids import outcome, plan, registry_as_it_was, run
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dhrd_bench.commands.run import run_command
from dhrd_bench.errors import UserError
from dhrd_bench.grid import cluster
from dhrd_bench.grid.cluster import NodeProcess, Share, shares
from dhrd_bench.grid.plan import PlannedCell
from dhrd_bench.grid.run import run_plan
from dhrd_bench.progress import Display
from dhrd_bench.request import RunRequest
from dhrd_bench.results.store import read_records

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


class TwoNodes:
    """A cluster of two nodes of one processor each, on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster(initialize_head=True, head_node_args=NODE)
        self.second: Any = self.cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    def kill_one(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoNodes]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)  # sums of several threads are rounded otherwise
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    nodes = TwoNodes()
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    yield nodes
    nodes.cluster.shutdown()
    torch.set_num_threads(threads)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each actor that is given up while its cell is not finished."""
    seen: list[int] = []
    drop = NodeProcess._drop

    def noted(process: NodeProcess) -> None:
        if not process._ended:
            seen.append(1)
        drop(process)

    monkeypatch.setattr(NodeProcess, "_drop", noted)
    return seen


def outcomes(results: Path) -> dict[str, Any]:
    """What the table is made of, less what the clock says."""
    records, problems = read_records(results)
    assert not problems
    return {record.identity: outcome(record) for record in records}


def when_finished(results: Path, count: int, act: Callable[[], None]) -> threading.Thread:
    """Act as soon as so many cells have a record."""

    def watch() -> None:
        while sum(1 for _ in results.rglob("seed-*.json")) < count:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


# ---------------------------------------------------------------- room


@pytest.mark.parametrize(
    ("nodes", "most", "workers", "expected"),
    [
        ([(8, 0)], Share(0, 8, 0), None, Share(1, 8, 0)),  # a cell has as many threads as this process
        ([(8, 0), (8, 0)], Share(0, 4, 0), None, Share(4, 4, 0)),
        ([(8, 0), (2, 0)], Share(0, 4, 0), 5, Share(5, 2, 0)),  # 4 + 1 of two processors each
        ([(8, 0)], Share(0, 16, 0), 20, Share(20, 1, 0)),  # twelve wait
        ([(16, 4), (4, 0)], Share(0, 8, 1), None, Share(4, 4, 1)),  # a card each
        ([(16, 1)], Share(0, 8, 1), 2, Share(2, 8, 0.5)),  # two share a card
        ([(16, 4)], Share(0, 8, 2), None, Share(2, 8, 2)),  # two processes, two cards
    ],
)
def test_what_a_worker_gets(
    nodes: list[tuple[float, float]], most: Share, workers: int | None, expected: Share
) -> None:
    assert shares(nodes, most, workers) == expected


@given(
    nodes=st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=5),
    threads=st.integers(1, 64),
    gpus=st.integers(0, 2),
)
def test_as_many_workers_as_asked_for_by_none_fit_at_once(
    nodes: list[tuple[int, int]], threads: int, gpus: int
) -> None:
    if not any(cards >= gpus for _, cards in nodes):
        with pytest.raises(UserError, match="GPU"):
            shares(nodes, Share(0, threads, gpus), None)
        return
    found = shares(nodes, Share(0, threads, gpus), None)
    places = [min(cpus // found.cpus, cards // gpus if gpus else cpus) for cpus, cards in nodes]
    assert sum(places) >= found.workers >= 1
    assert found.cpus <= threads
    assert found.gpus == gpus


def test_ray_that_is_not_installed_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"dhrd-bench\[ray\]"):
        run(plan(tmp_path, methods="majority", executor="ray"))


def test_an_unknown_executor_has_a_nearest_one() -> None:
    with pytest.raises(UserError, match="ray"):
        RunRequest(executor="rai")  # type: ignore[arg-type]


# ---------------------------------------------------------------- runs


@pytest.mark.slow
def test_a_node_that_is_lost_costs_nothing_and_what_was_saved_comes_home(
    tmp_path: Path, two_nodes: TwoNodes, losses: list[int]
) -> None:
    import ray

    wanted: dict[str, Any] = {"methods": "pooled,majority", "tasks": "copa,rte", "seeds": "3"}
    kept: dict[str, list[str]] = {}

    def keep(save: Callable[[Path], object], planned: PlannedCell) -> None:
        save(target := tmp_path / planned.identity)
        kept[planned.cell.method] = sorted(path.name for path in target.iterdir())

    run(plan(tmp_path / "one", **wanted))
    killer = when_finished(tmp_path / "ray", 4, two_nodes.kill_one)
    records = run_plan(plan(tmp_path / "ray", executor="ray", **wanted), Display(Console(quiet=True), 12), keep)
    killer.join()
    assert len(records) == 12
    assert outcomes(tmp_path / "ray") == outcomes(tmp_path / "one")
    assert {record.environment.executor for record in records} == {"ray"}
    assert {record.isolation for record in records} <= {"process", "none"}
    assert any(name.endswith(".safetensors") for name in kept["pooled"])
    assert len(losses) == 1, "the worker of the node that was killed"
    assert not ray.is_initialized(), "what is timed afterwards has no worker beside it"


@pytest.mark.slow
def test_a_node_of_another_version_is_refused_in_one_line(
    tmp_path: Path, two_nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "__version__", "0.0.1")
    records = run(plan(tmp_path, methods="majority", tasks="rte", seeds="1", executor="ray"))
    assert [record.status for record in records] == ["failed"]
    assert "not 0.0.1" in (records[0].error or "")


@pytest.mark.chaos
def test_the_table_of_a_cluster_that_loses_a_node_is_that_of_one_machine(
    tmp_path: Path, two_nodes: TwoNodes, losses: list[int]
) -> None:
    def asked(name: str, **changes: Any) -> RunRequest:
        return RunRequest(
            methods="pooled,dhrd", suite="mini7", backbone="tiny", budget="smoke", seeds="5",  # type: ignore[arg-type]
            results=tmp_path / name, **changes,
        )  # fmt: skip

    killer = when_finished(tmp_path / "ray", 20, two_nodes.kill_one)
    assert run_command(asked("ray", executor="ray"), Console(quiet=True)) == 0
    killer.join()
    assert losses, "a worker was lost with its node"
    for workers in (1, 2):
        assert run_command(asked(str(workers), workers=workers), Console(quiet=True)) == 0
    found = outcomes(tmp_path / "ray")
    assert len(found) == 70
    assert found == outcomes(tmp_path / "1") == outcomes(tmp_path / "2")
