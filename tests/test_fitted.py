"""What fitting leaves does not depend on the process it is read in, nor on what the process did before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from conftest import toy_rows

import dhrd_bench as db
from dhrd_bench.backbones import resolve
from dhrd_bench.backbones.loading import load_fresh, settle
from dhrd_bench.contracts import Context, TaskData
from dhrd_bench.training import loop
from dhrd_bench.training.trainer import Trainer

KINDS = [
    ("dhrd", "lora"),
    ("dhrd", "full"),
    ("dhrd", "top:1"),
    ("dhrd", "head"),
    ("label-lm", "lora"),
    ("cot", "top:1"),
]
EXAMPLES = [row.example for row in toy_rows(8, 16)]


def test_a_fresh_process_predicts_with_what_was_saved(toy: TaskData, context: Context, tmp_path: Path) -> None:
    """Heads, adapters, whole weights and the top blocks; logits, scores and texts, to the last digit."""
    (tmp_path / "task.json").write_text(toy.card.model_dump_json())
    expected: dict[str, Any] = {}
    for name, tuning in KINDS:
        here = replace(context, budget=context.budget.model_copy(update={"tuning": tuning}), train_log={})
        method = db.method(name)()
        method.fit(toy, here)
        predicted = method.predict(EXAMPLES, here)
        place = tmp_path / f"{name}+{tuning.replace(':', '')}"
        place.mkdir()
        (place / "budget.json").write_text(here.budget.model_dump_json())
        method.save(place / "fitted")
        expected[place.name] = [predicted.labels, predicted.scores, predicted.texts]
    folder = Path(__file__).parent
    search = os.pathsep.join([str(folder), str(folder.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, str(folder / "read_fitted.py"), str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


def test_a_cell_is_the_same_alone_and_after_others(toy: TaskData, context: Context, monkeypatch: Any) -> None:
    """Head before the first step, weights after the last, and predictions; whatever was trained here before."""
    heads: list[dict[str, torch.Tensor]] = []

    def noting(trainer: Trainer, *args: Any) -> Any:
        heads.append({name: value.clone() for name, value in trainer.head.state_dict().items()} if trainer.head else {})
        return run_epochs(trainer, *args)

    run_epochs = loop.run_epochs
    monkeypatch.setattr(loop, "run_epochs", noting)

    def cell(name: str, tuning: str, in_context: Context, seed: int = 0) -> list[Any]:
        budget = in_context.budget.model_copy(update={"tuning": tuning})
        here = replace(in_context, budget=budget, seed=seed, train_log={})
        method: Any = db.method(name)()
        method.fit(toy, here)
        predicted = method.predict(EXAMPLES, here)
        return [predicted.labels, predicted.scores, predicted.texts, here.train_log["epochs"]]

    for tuning in ("lora", "top:1"):
        alone = cell("dhrd", tuning, replace(context, backbone=load_fresh(settle(resolve("tiny")))))
        initial = heads[-1]
        shared = replace(context, backbone=load_fresh(settle(resolve("tiny"))))
        torch.manual_seed(99)
        for name, other in (("cot", "lora"), ("dhrd", "full"), ("pooled", "top:1")):
            cell(name, other, shared, seed=5)
        assert cell("dhrd", tuning, shared) == alone
        assert heads[-1].keys() == initial.keys()
        assert all(torch.equal(heads[-1][name], value) for name, value in initial.items())
