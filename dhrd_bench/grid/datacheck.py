"""What the rows of a plan are like, looked at before anything is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Example
from dhrd_bench.grid.plan import Plan, PlannedCell
from dhrd_bench.modeling.encode import Encoder

SAMPLE = 512
"""So many inputs of a split are tokenised."""


@dataclass(frozen=True)
class DataCheck:
    """The rows of one task, as the first seed that is to be run draws them.

    Attributes
    ----------
    train, dev, test
        Numbers of rows.
    test_clusters
        How many texts the test rows stand on: what intervals draw.
    train_classes, test_classes
        Rows by class.
    overlap
        Test rows that have a text, or their cluster's text, of the task's train rows.
    rationales
        Train rows that have a rationale.
    cut_train, cut_test
        Share of the inputs that are longer than the budget allows and lose the end of their passage, of `SAMPLE`.
    """

    task: str
    seed: int
    train: int
    dev: int
    test: int
    test_clusters: int
    train_classes: dict[str, int]
    test_classes: dict[str, int]
    overlap: int
    rationales: int
    cut_train: float
    cut_test: float


def check_data(plan: Plan, backbone: Backbone) -> list[DataCheck]:
    """Look at the rows of every task of `plan` that has a cell to run."""
    first: dict[str, PlannedCell] = {}
    for planned in plan.missing:
        first.setdefault(planned.cell.task, planned)
    return [_check(planned, backbone) for planned in first.values()]


def _check(planned: PlannedCell, backbone: Backbone) -> DataCheck:
    data, test, loaded = planned.data, planned.test, planned.loaded
    rows = {each.example.id: row for row in loaded.train for each in row.examples}
    train = {(row := rows[each.example.id]).id: row for each in data.train}
    labels = {"train": [row.label for row in train.values()], "test": list(test.labels)}
    classes = {split: Counter(test.classes[label] for label in of) for split, of in labels.items()}

    def cut(examples: Sequence[Example]) -> float:
        encoder = Encoder(backbone, planned.budget, loaded.card)
        sample = examples[:: max(1, -(-len(examples) // SAMPLE))]
        for example in sample:
            encoder.input(example)
        return len(encoder.truncated) / len(sample)

    return DataCheck(
        task=planned.cell.task,
        seed=planned.cell.seed,
        train=len(train),
        dev=len(data.dev) // test.candidates,
        test=len(test),
        test_clusters=len(set(test.clusters or test.ids)),
        train_classes={name: classes["train"][name] for name in test.classes},
        test_classes={name: classes["test"][name] for name in test.classes},
        overlap=sum(name in loaded.overlap for name in test.ids),
        rationales=sum(row.rationale is not None for row in train.values()),
        cut_train=cut([each.example for each in data.train]),
        cut_test=cut(test.examples),
    )
