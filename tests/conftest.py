from __future__ import annotations

import pytest

from dhrd_bench.backbones import Backbone, load, resolve
from dhrd_bench.contracts import Budget, Context, Decoding, Example, LabeledExample, Prompt, TaskCard, TaskData

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty"]


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return load(resolve("tiny"))


@pytest.fixture
def card() -> TaskCard:
    return TaskCard(
        name="toy",
        labels=("no", "yes"),
        answers=("No", "Yes"),
        metrics=("accuracy",),
        prompt="native",
        prompt_version="1.0.0",
        version="1.0.0",
    )


def toy_rows(count: int, start: int = 0) -> list[LabeledExample]:
    """Rows of varied length whose class is told by their first word."""
    rows = []
    for i in range(start, start + count):
        passage = " ".join(WORDS[(i * 7 + j) % 10] for j in range(2 + i % 5))
        example = Example(f"r{i}", Prompt("Text: ", passage, "\nIs it even?"))
        rows.append(LabeledExample(example, int(i % 2 == 0), f"The word {WORDS[i * 7 % 10]} comes first."))
    return rows


@pytest.fixture
def toy(card: TaskCard) -> TaskData:
    return TaskData(card, tuple(toy_rows(12)), tuple(toy_rows(4, 12)))


@pytest.fixture
def budget() -> Budget:
    return Budget(
        name="test",
        train_rows=12,
        dev_rows=4,
        test_rows=8,
        epochs=2,
        batch_size=5,
        learning_rate=1e-2,
        micro_tokens=200,
        max_length=96,
        tuning="top:1",
        decoding=Decoding(max_new_tokens=12, batch_size=4),
    )


@pytest.fixture
def context(tiny: Backbone, budget: Budget) -> Context:
    tiny.reset()
    tiny.frozen_states.clear()
    return Context(backbone=tiny, budget=budget, task="toy", seed=0)
