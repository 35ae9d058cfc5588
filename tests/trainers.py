"""Trainers as a method's `fit` makes them, before the first step and without dropout."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

import dhrd_bench as db
from dhrd_bench import registry
from dhrd_bench.contracts import Context, TaskData
from dhrd_bench.training.trainer import Trainer


def trainer(name: str, task: TaskData, context: Context, **params: Any) -> tuple[Any, Trainer]:
    cls = registry.methods.get(name)
    made: Any = cls(cls.Params(**params))
    prepared = made.prepare(task, context)
    head = getattr(made.params, "head", "mlp") if made.weights().get("cls") else None
    pause = getattr(made.params, "pause", 0)
    trained = Trainer(
        context, prepared, made.rows, dict(made.weights()), head, pool=made.pool(context), pause=pause
    )  # fmt: skip
    trained.set_dropout(False)
    return made, trained


def trained(made: Any, task: db.TaskData, context: db.Context) -> Trainer:
    """The trainer as the method's `fit` makes it, before the first step and without dropout."""
    kept: list[Trainer] = []

    class KeptError(Exception):
        pass

    def keep(trainer: Trainer, *_: Any) -> None:
        kept.append(trainer)
        raise KeptError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dhrd_bench.training.loop.run_epochs", keep)
        patch.setattr(Trainer, "close", lambda self: None)
        with pytest.raises(KeptError):
            made.fit(task, context)
    kept[0].set_dropout(False)
    return kept[0]


def new(text: str) -> Any:
    return db.method_spec(text).new()


def flat(trainer: Trainer) -> list[db.Row]:
    return [row for rows in trainer.train for row in rows]


def gradients(trainer: Trainer) -> list[Tensor]:
    return [p.grad.clone() for p in trainer.parameters if p.grad is not None]
