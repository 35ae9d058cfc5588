"""Several processes that train one cell: the step is that of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import toy_rows
from grids import plan, registry_as_it_was, run
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dhrd_bench import registry
from dhrd_bench.backbones import load, resolve
from dhrd_bench.contracts import Budget, Context, TaskCard, TaskData
from dhrd_bench.modeling.encode import Row
from dhrd_bench.training import parallel
from dhrd_bench.training.trainer import Trainer

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses

STEPS = ([0, 1, 2, 3, 4], [5])
"""Examples of a step; of the last one a process has none."""


def gradients() -> dict[str, torch.Tensor]:
    """The losses and gradients of some steps of this process, by step and parameter."""
    card = TaskCard(
        name="toy", labels=("no", "yes"), answers=("No", "Yes"), metrics=("accuracy",), prompt="native",
        prompt_version="1.0.0", version="1.0.0",
    )  # fmt: skip
    task, cls = TaskData(card, tuple(toy_rows(12)), ()), registry.methods.get("dhrd")
    method: Any = cls(cls.Params())
    found = {}
    for tuning in ("top:1", "lora"):
        budget = Budget(
            name="test", train_rows=12, dev_rows=0, test_rows=8, epochs=1, batch_size=5, learning_rate=1e-2,
            micro_tokens=100, max_length=96, tuning=tuning,
        )  # fmt: skip
        context = Context(load(resolve("tiny[device=cpu]")), budget, "toy", 0)
        trainer = Trainer(context, task, method.rows, dict(method.weights()), "mlp")
        trainer.set_dropout(False)
        for step in STEPS:
            rows = [row for index in step for row in trainer.train[index]]
            loss = parallel.summed(trainer.backward(rows), trainer.parameters)
            found[f"{tuning} {step} loss"] = loss.clone()
            for number, parameter in enumerate(trainer.parameters):
                assert parameter.grad is not None
                found[f"{tuning} {step} {number}"] = parameter.grad.clone()
                parameter.grad = None
        trainer.close()
    return found


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    parallel.join(rank, 2, folder / "rendezvous", cpu=True)
    save_file(gradients(), folder / f"{rank}.safetensors")


def test_gradients_and_losses_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    alone = gradients()
    assert all(bool(tensor.any()) for name, tensor in alone.items() if "loss" in name)
    for rank in range(2):
        together = load_file(tmp_path / f"{rank}.safetensors")
        assert together.keys() == alone.keys()
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@given(lengths=st.lists(st.integers(1, 500), max_size=40))
def test_parts_are_the_whole_and_about_as_long(lengths: list[int]) -> None:
    rows = [Row([number] * length, length) for number, length in enumerate(lengths)]
    assert parallel.part(rows) == rows, "a process that is alone has them all, in their order"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.distributed.is_initialized", lambda: True)
        patch.setattr("torch.distributed.get_world_size", lambda: 5)
        parts = []
        for rank in range(5):
            patch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
            parts.append(parallel.part(rows))
    assert sorted(row.ids[0] for part in parts for row in part) == list(range(len(rows)))
    tokens = [sum(len(row.ids) for row in part) for part in parts]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


@pytest.mark.slow
def test_a_cell_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """Without dropout, which each process draws for itself."""
    wanted: dict[str, Any] = {"methods": "pooled[head=linear]", "tasks": "rte", "seeds": "1"}
    (alone,), (together,) = (run(plan(tmp_path / str(count), processes=count, **wanted)) for count in (1, 2))
    assert (alone.environment.processes, together.environment.processes) == (None, 2)
    assert together.error is None
    assert together.rows is not None
    assert alone.rows is not None
    assert together.rows.prediction == alone.rows.prediction
    for one, two in zip(alone.train.epochs, together.train.epochs, strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    for one, two in zip(alone.rows.score or [], together.rows.score or [], strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-4)
    assert together.isolation == "process"


def test_cells_that_draw_other_dropout_are_other_cells(tmp_path: Path) -> None:
    def identities(processes: int) -> dict[str, str]:
        wanted = plan(tmp_path, methods="pooled,majority", tasks="rte", seeds="1", processes=processes)
        return {planned.cell.method: planned.identity for planned in wanted.cells}

    one, two = identities(1), identities(2)
    assert one["pooled"] != two["pooled"]
    assert one["majority"] == two["majority"], "it trains nothing"
