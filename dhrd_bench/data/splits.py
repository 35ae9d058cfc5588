"""Which rows a cell trains on, chooses its epoch on and is tested on."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dhrd_bench.contracts import Budget, LabeledExample, TaskData, derive_seed
from dhrd_bench.data.suite import LoadedTask, TestSplit, TrainRow, seeded_order
from dhrd_bench.errors import UserError


def split(loaded: LoadedTask, budget: Budget, seed: int) -> tuple[TaskData, TestSplit]:
    """Draw the train, dev and test rows of one cell.

    Everything depends on the task, the budget and the seed number, and on nothing else, so that all
    methods of a comparison get the same rows in the same order.

    - With `Budget.require_rationale` only train rows that have a rationale are used, for dev too;
      a task that has no rationales at all keeps all its rows.
    - dev is carved from train by whole clusters: a cluster has rows in one of them only. It never
      takes more than a third of the rows.
    - train is a sample of what is left, in seeded order.
    - spare is all that remains, in the same order, with the rows that have no rationale: labelled rows that share their
      cluster neither with dev nor with test.
    - test is a sample of whole groups (rows scored together), the same for every seed; the first group
      is taken even if it is larger than `Budget.test_rows`. Groups and not clusters, so that a small
      sample has rows of many clusters, as intervals need. Rows keep the order of the source.
    - Both samples hold every class that there is, if the limit allows.

    Row limits count rows of the suite, also where a row is asked one candidate at a time.

    Raises
    ------
    UserError
        If no train rows are left.
    """
    name = loaded.card.name
    pool = (
        [row for row in loaded.train if row.rationale is not None] if budget.require_rationale else list(loaded.train)
    )
    pool = pool or list(loaded.train)
    dev = _dev(pool, min(budget.dev_rows, len(pool) // 3), derive_seed(name, str(seed), "dev"))
    held_out = {row.cluster for row in dev}
    rest = {row.id: row for row in pool if row.cluster not in held_out}
    drawn = derive_seed(name, str(seed), "train")
    order = seeded_order(list(rest), drawn)
    if budget.train_rows is not None and budget.train_rows < len(order):
        classes = {row.id: {row.label} for row in rest.values()}
        chosen = _sample(order, budget.train_rows, dict.fromkeys(order, 1), classes)
        order = [each for each in order if each in chosen]
    train = [rest[each] for each in order]
    if not train:
        raise UserError(f"Task {name!r} has no train rows left.", "Lower dev_rows of the budget.")
    test = _test_sample(loaded.test, budget.test_rows, derive_seed(name, "test"))
    return TaskData(loaded.card, _examples(train), _examples(dev), _examples(_spare(loaded, train, dev, drawn))), test


def with_share(loaded: LoadedTask, data: TaskData, share: float, seed: int) -> TaskData:
    """Leave a share of the rows of `data` the rationales that they have, and take them from the others.

    Which rows keep theirs depends on the task and the seed number: those of a smaller share are among those of a
    larger one, and above a share of 0 there is one at least. All that was written for a row goes with its rationale,
    but for soft labels.
    """
    if share == 1:
        return data
    row_of = {each.example.id: row.id for row in loaded.train for each in row.examples}
    drawn = derive_seed(loaded.card.name, str(seed), "rationales")

    def left(rows: tuple[LabeledExample, ...]) -> tuple[LabeledExample, ...]:
        having = [row_of[row.example.id] for row in rows if row.rationale is not None or row.counterfactuals]
        order = seeded_order(having, drawn)
        kept = set(order[: math.ceil(round(share * len(order), 6))])  # 0.7 of 10 are 7, not 8
        return tuple(
            row if row_of[row.example.id] in kept else replace(row, rationale=None, counterfactuals=()) for row in rows
        )

    return replace(data, train=left(data.train), dev=left(data.dev), spare=left(data.spare))


def _spare(loaded: LoadedTask, train: Sequence[TrainRow], dev: Sequence[TrainRow], seed: int) -> list[TrainRow]:
    used, held_out = {row.id for row in train}, {row.cluster for row in dev}
    rest = {
        row.id: row
        for row in loaded.train
        if row.id not in used and row.cluster not in held_out and not row.beside_test
    }
    return [rest[each] for each in seeded_order(list(rest), seed)]


def dev_split(loaded: LoadedTask, data: TaskData) -> TestSplit:
    """Return the dev rows of a cell as rows to be tested on, each a group by itself."""
    candidates = loaded.test.candidates
    rows = {row.examples[0].example.id: row for row in loaded.train}
    dev = [rows[labeled.example.id] for labeled in data.dev[::candidates]]
    return TestSplit(
        examples=tuple(labeled.example for labeled in data.dev),
        classes=loaded.test.classes,
        ids=tuple(row.id for row in dev),
        labels=tuple(row.label for row in dev),
        clusters=tuple(row.cluster for row in dev),
        candidates=candidates,
    )


def _examples(rows: Sequence[TrainRow]) -> tuple[LabeledExample, ...]:
    return tuple(example for row in rows for example in row.examples)


def _dev(pool: Sequence[TrainRow], limit: int, seed: int) -> list[TrainRow]:
    """Take whole clusters until there are `limit` rows; surplus rows of the last one are left out."""
    by_cluster: defaultdict[str, list[TrainRow]] = defaultdict(list)
    for row in pool:
        by_cluster[row.cluster].append(row)
    dev: list[TrainRow] = []
    for cluster in seeded_order(list(by_cluster), seed)[:-1]:
        if len(dev) >= limit:
            break
        dev += by_cluster[cluster]
    return dev[:limit]


def _sample(order: Sequence[str], limit: int, sizes: Mapping[str, int], classes: Mapping[str, set[int]]) -> set[str]:
    """Take names in `order` until their sizes reach `limit`, the first one of every class before all others."""
    firsts = {label: name for name in reversed(order) for label in classes[name]}
    preferred = sorted(order, key=lambda name: name not in firsts.values())
    chosen: set[str] = set()
    taken = 0
    for name in preferred:
        if chosen and taken + sizes[name] > limit:
            break
        chosen.add(name)
        taken += sizes[name]
    return chosen


def _test_sample(test: TestSplit, limit: int | None, seed: int) -> TestSplit:
    if limit is None or limit >= len(test):
        return test
    units = test.groups or test.ids
    classes: defaultdict[str, set[int]] = defaultdict(set)
    for unit, label in zip(units, test.labels, strict=True):
        classes[unit].add(label)
    chosen = _sample(seeded_order(units, seed), limit, Counter(units), classes)
    return test.take([row for row, unit in enumerate(units) if unit in chosen])
