"""Who is taller? Comparisons make a chain, and the two asked about stand some links apart."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import dhrd_bench as db

from ._words import NAMES, shuffled

SCALES = (
    ("taller", "shorter"),
    ("older", "younger"),
    ("faster", "slower"),
    ("heavier", "lighter"),
    ("richer", "poorer"),
)


@db.generator
def ordering(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two rows on one story, which ask about the same two people in either order.

    Both people stand inside the chain, so that each is the greater one of one comparison and the lesser one of
    another. A second chain has nothing to do with them.
    """
    more, less = random.choice(SCALES)
    names = random.sample(NAMES, 2 * hops + 4)
    chain, other = names[: hops + 3], names[hops + 3 :]
    facts = [
        random.choice([f"{high} is {more} than {low}.", f"{low} is {less} than {high}."])
        for high, low in (*pairwise(chain), *pairwise(other))
    ]
    story = " ".join(shuffled(random, facts))
    between = chain[1:-1]
    steps = [f"{high} is {more} than {low}." for high, low in pairwise(between)]
    word = random.choice([more, less])
    greater, lesser = between[0], between[-1]
    right = (greater, lesser) if word == more else (lesser, greater)

    def row(one: str, two: str) -> db.GeneratedRow:
        label, verb = ("yes", "is") if (one, two) == right else ("no", "is not")
        why = " ".join([*steps, f"So {one} {verb} {word} than {two}."])
        return db.GeneratedRow({"story": story, "question": f"Is {one} {word} than {two}?"}, label, why)

    return [row(greater, lesser), row(lesser, greater)]
