"""Can one get there? Two ways lead out of a place, and some road of each is closed."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import dhrd_bench as db

from ._words import PLACES, exchanged, shuffled


@db.generator
def roads(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two rows with one question, whose stories differ in which of two places lies on which way.

    Both places are equally far from the start, with an open road on either side. On one way the closed road comes
    behind the place, on the other before it.
    """
    if hops < 2:
        raise ValueError("a closed road with an open one behind it takes two roads or more")
    places = random.sample(PLACES, 2 * hops + 5)
    start, ways = places[0], [[places[0], *places[1 + part :: 2]] for part in range(2)]
    goal, other = ways[0][hops], ways[1][hops]
    shut = (hops + 1, random.randrange(hops - 1))
    facts = []
    for way, closed in zip(ways, shut, strict=True):
        for number, ends in enumerate(pairwise(way)):
            one, two = random.sample(ends, 2)
            facts.append(f"{'A closed' if number == closed else 'An open'} road joins {one} and {two}.")
    story = " ".join(shuffled(random, facts))
    question = f"Can one get from {start} to {goal}?"
    found = [_open(ways[0][: hops + 1]), f"So one can get from {start} to {goal}."]
    # Where the goal lies on the other way, the two places have changed names.
    explored = []
    for way, closed in zip(ways, shut, strict=True):
        explored += [_open(way[: closed + 1]), f"A closed road joins {way[closed]} and {way[closed + 1]}."]
    lost = exchanged(" ".join(filter(None, explored)), goal, other)
    return [
        db.GeneratedRow({"story": story, "question": question}, "yes", " ".join(found)),
        db.GeneratedRow(
            {"story": exchanged(story, goal, other), "question": question},
            "no",
            f"{lost} So one cannot get from {start} to {goal}.",
        ),
    ]


def _open(way: list[str]) -> str:
    roads = [f"from {one} to {two}" for one, two in pairwise(way)]
    return f"Open roads lead {', '.join(roads)}." if roads else ""
