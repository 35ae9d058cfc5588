"""What both sides work on: rows of RTE, and SmolLM2-135M from the same folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dhrd_bench import Context, Example, LabeledExample, Method, TaskCard, registry
from dhrd_bench.backbones import Backbone, load, resolve
from dhrd_bench.contracts import Budget
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import LoadedTask, Suite

BACKBONE = "smollm2-135m"
TASK = "RTE"
LENGTH = 1024
"""Limit of the input in tokens; no row of RTE comes near it, so neither side truncates."""


def load_task() -> tuple[LoadedTask, str]:
    """Return RTE and where it came from: SuperGLUE if ``DHRD_DATA_DIR`` is set, else the built-in miniature."""
    folder = os.environ.get("DHRD_DATA_DIR")
    suite = "superglue7" if folder else "mini7"
    loaded = Suite.named(suite).load(TASK, data_dir=Path(folder) if folder else None)
    return loaded, f"{TASK} of {'SuperGLUE' if folder else 'mini7'}"


@dataclass(frozen=True)
class Material:
    """Rows and backbone.

    Attributes
    ----------
    source
        Name of the data, for the table.
    train, test
        Rows with rationales, and inputs.
    """

    source: str
    card: TaskCard
    train: tuple[LabeledExample, ...]
    test: tuple[Example, ...]
    backbone: Backbone

    @classmethod
    def load(cls, train: int, test: int) -> Material:
        """Return so many training rows and so many inputs."""
        loaded, source = load_task()
        budget = Budget(name="rows", train_rows=train, dev_rows=0, test_rows=test)
        data, held_out = split(loaded, budget, 0)
        return cls(source, loaded.card, data.train, tuple(held_out.examples), load(resolve(BACKBONE)))

    @property
    def folder(self) -> str:
        """Where the backbone lies as Hugging Face files; what the peer loads."""
        return str(self.backbone.model.name_or_path)

    @property
    def dtype(self) -> torch.dtype:
        """Compute dtype of both sides."""
        return self.backbone.dtype

    @property
    def setting(self) -> str:
        """What is the same on both sides, for the table."""
        return f"{self.source}, {BACKBONE}, {str(self.dtype).removeprefix('torch.')}"

    def context(
        self,
        budget: Budget,
        progress: Callable[[str, int, int, dict[str, float]], None] = lambda phase, done, total, figures: None,
    ) -> Context:
        """Return the context of a cell under `budget`."""
        return Context(self.backbone, budget, self.card.name, 0, progress)


def method(name: str, **params: object) -> Method:
    """Return a method by name."""
    cls = registry.methods.get(name)
    return cls(cls.Params.model_validate(params))
