"""Who has it now? Four people swap what they have, again and again."""

from __future__ import annotations

from itertools import pairwise, permutations
from random import Random

import dhrd_bench as db

from ._words import NAMES, THINGS, exchanged, shuffled

PEOPLE = 4


@db.generator
def swaps(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two rows with one question, whose stories differ in which of two things which person has at first.

    The thing asked about changes hands `hops` times in both, of twice as many swaps, and neither starts with the
    person asked about.
    """
    names, things = random.sample(NAMES, PEOPLE), random.sample(THINGS, PEOPLE)
    paths: list[list[str]] = []
    fitting: list[tuple[int, int]] = []
    while not fitting:
        pairs = [random.sample(names, 2) for _ in range(2 * hops)]
        paths = [_path(name, pairs) for name in names]
        fitting = [
            (one, two)
            for one, two in permutations(range(PEOPLE), 2)
            if len(paths[one]) == len(paths[two]) == hops + 1 and paths[one][-1] not in (names[one], names[two])
        ]
    one, two = random.choice(fitting)
    person, thing = paths[one][-1], things[one]
    first = shuffled(random, [f"{name} has the {held}." for name, held in zip(names, things, strict=True)])
    story = " ".join([*first, *(f"{left} and {right} swap what they have." for left, right in pairs)])
    question = f"Does {person} have the {thing} at the end?"

    def why(path: list[str], end: str) -> str:
        steps = [f"{giver} swaps with {taker}, so {taker} has it." for giver, taker in pairwise(path)]
        return " ".join([f"{path[0]} has the {thing}.", *steps, end])

    yes = why(paths[one], f"So {person} has the {thing} at the end.")
    no = why(paths[two], f"So {paths[two][-1]} has the {thing} at the end, and {person} has not.")
    return [
        db.GeneratedRow({"story": story, "question": question}, "yes", yes),
        db.GeneratedRow({"story": exchanged(story, thing, things[two]), "question": question}, "no", no),
    ]


def _path(start: str, pairs: list[list[str]]) -> list[str]:
    """Return who has, one after the other, what `start` has at first."""
    path = [start]
    for left, right in pairs:
        if path[-1] in (left, right):
            path.append(right if path[-1] == left else left)
    return path
