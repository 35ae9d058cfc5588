"""Rows made by a function: small worlds, drawn one by one from hashes, so that they are the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dhrd_bench import registry
from dhrd_bench.contracts import GeneratedRow, derive_seed
from dhrd_bench.data.cards import GeneratedCard
from dhrd_bench.data.files import Record
from dhrd_bench.data.overlap import letters
from dhrd_bench.errors import UserError

TRIES = 100
"""So often a world is drawn before there is no new one."""


def generate(card: GeneratedCard) -> dict[str, list[Record]]:
    """Make the train and test rows of a task.

    No text is made twice, within a split or across them. The test rows are made first: they are the same however
    many train rows are asked for. A record has ``world``, ``row``, ``hops``, ``label``, ``rationale`` and what the
    generator calls its fields.

    Raises
    ------
    UserError
        If there is no such generator, or it cannot make so many rows, or any of so many hops.
    """
    seen: set[str] = set()
    test = _split(card, "test", card.test, card.test_hops or card.hops, seen)
    return {"train": _split(card, "train", card.train, card.hops, seen), "test": test}


def _split(card: GeneratedCard, split: str, count: int, hops: Sequence[int], seen: set[str]) -> list[Record]:
    records: list[Record] = []
    world = 0
    while len(records) < count:
        depth = hops[world % len(hops)]
        for number, row in enumerate(_world(card, split, world, depth, seen)):
            named = {"world": world, "row": number, "hops": depth, "label": row.label, "rationale": row.rationale}
            records.append((f"{card.by}: {split} world {world}", {**row.fields, **named}))
        world += 1
    return records[:count]


def _world(card: GeneratedCard, split: str, number: int, hops: int, seen: set[str]) -> list[GeneratedRow]:
    """Return the rows of a world that has no text of another one, in an order that says nothing of their classes."""
    make = registry.generators.get(card.by)
    for attempt in range(TRIES):
        random = Random(derive_seed(card.by, str(card.seed), split, str(number), str(attempt)))
        try:
            rows = list(make(random, hops))
        except ValueError as error:
            message = f"Generator {card.by!r} cannot make rows with {hops=}: {error}."
            raise UserError(message, "Ask for another number.") from error
        if not rows:
            raise UserError(f"Generator {card.by!r} makes worlds without rows.", "Let it return one of each class.")
        texts = {letters("".join(map(str, row.fields.values()))) for row in rows}
        if len(texts) < len(rows) or texts & seen:
            continue
        seen |= texts
        random.shuffle(rows)
        return _dealt(rows, random) if card.noise else rows
    raise UserError(f"Generator {card.by!r} makes no more than {number} worlds for {split}.", "Ask for fewer rows.")


def _dealt(rows: Sequence[GeneratedRow], random: Random) -> list[GeneratedRow]:
    """Deal out the classes anew, each with its rationale: what is argued for is what is trained on, without reason."""
    taken = random.sample(rows, len(rows))
    return [GeneratedRow(row.fields, other.label, other.rationale) for row, other in zip(rows, taken, strict=True)]
