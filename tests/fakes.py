"""Records of made-up runs, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dhrd_bench.metrics import METRICS
from dhrd_bench.results.schema import (
    BackboneIdentity,
    Cell,
    CellRecord,
    Data,
    IdentityParts,
    MethodIdentity,
    MethodInfo,
    Rows,
    SuiteIdentity,
    Surroundings,
    TaskIdentity,
    TaskInfo,
    Timing,
)
from dhrd_bench.results.store import record_path
from dhrd_bench.results.table import LongTable, long_table
from dhrd_bench.results.timed import Figure, Measurement, ThroughputRecord


@dataclass(frozen=True)
class FakeTask:
    """A made-up task: `clusters` texts of `per_cluster` rows, `per_group` rows to a question."""

    name: str
    rows: int
    metrics: tuple[str, ...] = ("accuracy",)
    classes: int = 2
    per_cluster: int = 1
    per_group: int = 1

    def labels(self) -> np.ndarray:
        return np.random.default_rng(len(self.name) + self.rows).integers(0, self.classes, self.rows)

    def ids(self) -> list[str]:
        return [f"{self.name}-{i:05d}" for i in range(self.rows)]


@dataclass(frozen=True)
class FakeMethod:
    """A made-up method: right with probability `accuracy`, `qps` rows a second, `tokens` read of each."""

    name: str
    accuracy: float = 0.8
    role: str = "method"
    inference: str = "pooled"
    qps: float = 100.0
    tokens: int = 50
    unparsable: float = 0.0
    by_task: Mapping[str, float] = field(default_factory=dict)


SMALL = (
    FakeTask("alpha", 60, ("f1_macro", "accuracy"), classes=3),
    FakeTask("beta", 100),
    FakeTask("gamma", 120, ("f1a", "exact_match"), per_cluster=12, per_group=3),
)
FULL = (
    FakeTask("boolq", 3270),
    FakeTask("cb", 56, ("f1_macro", "accuracy"), classes=3),
    FakeTask("copa", 100),
    FakeTask("multirc", 4848, ("f1a", "exact_match"), per_cluster=58, per_group=5),
    FakeTask("rte", 277),
    FakeTask("wic", 638),
    FakeTask("wsc", 104),
)
THREE = (
    FakeMethod("base", 0.80, role="baseline"),
    FakeMethod("better", 0.86),
    FakeMethod("slow", 0.75, role="reference", inference="generate", qps=2.0, unparsable=0.05),
)


def parts(version: str = "v1", data_version: str = "", method_version: str = "") -> IdentityParts:
    """Return identity parts of which only the versions matter."""
    return IdentityParts(
        harness="1.0",
        suite=SuiteIdentity(name="fake", version="1.0.0"),
        task=TaskIdentity(name="t", version="1.0.0", prompt="native", prompt_version="1.0.0", fingerprint="f"),
        rows="r",
        method=MethodIdentity(name="m", version="1.0.0", params={}, code="c"),
        backbone=BackboneIdentity(revision="r", dtype="float32"),
        budget={},
        seed=0,
        version=version,
        data_version=data_version,
        method_version=method_version,
    )


def record(task: FakeTask, method: FakeMethod, seed: int, **changes: Any) -> CellRecord:
    """Return one cell's record; `changes` replace its fields."""
    labels = task.labels()
    shared = np.random.default_rng([7, task.rows, seed])  # what methods have in common at a seed
    own = np.random.default_rng([len(method.name), sum(map(ord, method.name)), task.rows, seed])
    hard = np.random.default_rng(task.rows).random(task.rows)
    luck = 0.6 * hard + 0.2 * shared.random(task.rows) + 0.2 * own.random(task.rows)
    wanted = method.by_task.get(task.name, method.accuracy)
    right = luck <= np.quantile(luck, wanted)
    prediction = np.where(right, labels, (labels + own.integers(1, task.classes, task.rows)) % task.classes)
    prediction = np.where(own.random(task.rows) < method.unparsable, -1, prediction)
    together = [str(i // task.per_group) for i in range(task.rows)]
    metrics = {
        name: 100 * METRICS[name].measure(prediction, labels, together, task.classes)
        if name in METRICS
        else float(100 * np.mean(prediction == labels))
        for name in task.metrics
    }
    batches = np.array_split(np.arange(task.rows), max(1, task.rows // 32))
    laps = [(float(len(b)), float(len(b) / method.qps * own.normal(1, 0.05))) for b in batches]
    seconds = sum(s for _, s in laps)
    fields: dict[str, Any] = {
        "identity": f"{method.name}-{task.name}-{seed}",
        "parts": parts(),
        "cell": Cell(suite="fake", task=task.name, method=method.name, backbone="tiny", budget="smoke", seed=seed),
        "status": "ok",
        "method": MethodInfo(role=method.role, inference=method.inference, uses_rationales=False),
        "task": TaskInfo(labels=[str(k) for k in range(task.classes)], metrics=list(task.metrics)),
        "data": Data(
            source="fake", fingerprint="f", rationale_fingerprint="r", rationale_coverage=1.0,
            train_rows=100, dev_rows=10, test_rows=task.rows,
        ),
        "metrics": metrics,
        "score": float(np.mean(list(metrics.values()))),
        "unparsable": float(np.mean(prediction == -1)),
        "rows": Rows(
            id=task.ids(),
            label=labels.tolist(),
            prediction=prediction.tolist(),
            cluster=[f"c{i // task.per_cluster}" for i in range(task.rows)] if task.per_cluster > 1 else None,
            group=[f"g{i // task.per_group}" for i in range(task.rows)] if task.per_group > 1 else None,
        ),
        "timing": Timing(
            examples=task.rows, seconds=seconds, qps=task.rows / seconds, laps=laps,
            tokens_in=task.rows * method.tokens, tokens_out=0,
        ),
        "finished": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return CellRecord(**(fields | changes))


def throughput(
    task: FakeTask, methods: Sequence[FakeMethod] = THREE, scenario: str = "offline", seed: int = 0, **changes: Any
) -> ThroughputRecord:
    """Return the record of a throughput run; `changes` replace its fields."""
    roles = {method.role: method for method in methods}

    def ratio(method: FakeMethod, role: str) -> Figure | None:
        if role not in roles or roles[role] is method:
            return None
        value = method.qps / roles[role].qps
        return Figure(value=value, low=0.98 * value, high=1.02 * value)

    measurements = [
        Measurement(
            method=method.name, identity=f"{method.name}-{task.name}-{seed}", inference=method.inference,
            engine="transformers", batch_policy="by length",
            qps=Figure(value=method.qps, low=0.9 * method.qps, high=1.1 * method.qps),
            ratio=ratio(method, "reference"), ratio_to_baseline=ratio(method, "baseline"),
            equivalent_p=0.01 if ratio(method, "baseline") else None,
        )
        for method in methods
    ]  # fmt: skip
    names = {role: method.name for role, method in roles.items()}
    fields: dict[str, Any] = {
        "scenario": scenario,
        "cell": Cell(suite="fake", task=task.name, method=methods[0].name, backbone="tiny", budget="smoke", seed=seed),
        "baseline": names.get("baseline"), "reference": names.get("reference"), "margin": 5.0, "examples": task.rows,
        "peak_flops": 1e9, "other_load": 0.0, "measurements": measurements,
        "environment": Surroundings(), "finished": "2026",
    }  # fmt: skip
    return ThroughputRecord(**(fields | changes))


def failed(task: FakeTask, method: FakeMethod, seed: int, error: str = "out of memory") -> CellRecord:
    """Return the record of a cell that failed."""
    return record(task, method, seed, status="failed", error=error, rows=None, score=None, timing=None, metrics={})


def records(
    tasks: Sequence[FakeTask] = SMALL, methods: Sequence[FakeMethod] = THREE, seeds: Sequence[int] = (0, 1, 2)
) -> list[CellRecord]:
    """Return the records of a whole grid."""
    return [record(task, method, seed) for task in tasks for method in methods for seed in seeds]


def table(
    tasks: Sequence[FakeTask] = SMALL, methods: Sequence[FakeMethod] = THREE, seeds: Sequence[int] = (0, 1, 2)
) -> LongTable:
    """Return the long table of a whole grid."""
    return long_table(records(tasks, methods, seeds))


def write(root: Path, made: Sequence[CellRecord]) -> Path:
    """Write records below `root` and return it; without the store's care for a crash, which takes time."""
    for one in made:
        path = record_path(root, one.cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.model_dump_json(exclude_none=True), encoding="utf-8")
    return root


def with_rows(one: CellRecord, **columns: Any) -> CellRecord:
    """Return the record with some columns of its rows replaced."""
    body = json.loads(one.model_dump_json())
    body["rows"] |= columns
    return CellRecord.model_validate(body)
