"""The training sequences of a task's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dhrd_bench.contracts import LabeledExample, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.modeling.encode import Encoder, Row

Build = Callable[[LabeledExample, Encoder], list[Row]]
"""Turns an example into its training sequences."""

Curriculum = Callable[[LabeledExample, Encoder, int, int], list[Row]]
"""Turns an example into its training sequences of one epoch, counted from 0, of so many."""


@dataclass(frozen=True)
class Sequences:
    """What a task's rows become in each epoch; by `curriculum` where there is one, else by `build`."""

    task: TaskData
    encoder: Encoder
    build: Build
    curriculum: Curriculum | None

    def train(self, epoch: int) -> list[list[Row]]:
        """Return the sequences of each training example in an epoch, counted from 0."""
        return [self._rows(example, epoch) for example in self.task.train]

    def dev(self) -> list[Row]:
        """Return the sequences of all dev rows, in the form of the last epoch."""
        last = self.encoder.budget.epochs - 1
        return [row for example in self.task.dev for row in self._rows(example, last)]

    def _rows(self, example: LabeledExample, epoch: int) -> list[Row]:
        if self.curriculum is None:
            rows = self.build(example, self.encoder)
        else:
            rows = self.curriculum(example, self.encoder, epoch, self.encoder.budget.epochs)
        classes = len(self.task.card.labels)
        for row in rows:
            if row.soft is not None and len(row.soft) != classes:
                message = f"Row {example.example.id!r} has {len(row.soft)} soft targets, the task {classes} classes."
                raise UserError(message, "Give one probability a class.")
            if self.encoder.backbone.is_encoder and len(row.ids) > row.input_length:
                message = (
                    f"The sequence of row {example.example.id!r} goes on behind its input, and an encoder reads it all."
                )
                raise UserError(message, "Train on the input alone, or on a decoder.")
        return [_without_pauses(row, self.encoder.pause) for row in rows]


def _without_pauses(row: Row, pause: int) -> Row:
    """Return `row` with no loss on the fillers behind its input: they are given, and not to be learnt."""
    fillers = range(row.input_length - pause, row.input_length)
    return row.weighted(lambda position: float(position not in fillers)) if pause and row.targets else row
