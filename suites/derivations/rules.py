"""What follows from rules? Each leads to the next, and half of them start from somebody else."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import dhrd_bench as db

from ._words import KINDS, NAMES, exchanged, shuffled


@db.generator
def rules(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two rows with one question, whose stories differ in which of two people is of which kind.

    Both kinds lead through equally many rules; the one asked about is concluded by a rule and leads to another.
    """
    kinds = random.sample(KINDS, 2 * hops + 4)
    ways = (kinds[: hops + 2], kinds[hops + 2 :])
    asked, other = random.sample(NAMES, 2)
    goal = ways[0][hops]
    facts = [f"Every {one} is a {next_}." for way in ways for one, next_ in pairwise(way)]
    facts += [f"{asked} is a {ways[0][0]}.", f"{other} is a {ways[1][0]}."]
    story = " ".join(shuffled(random, facts))
    question = f"Does it follow that {asked} is a {goal}?"

    def steps(way: list[str]) -> list[str]:
        rest = [f"Every {one} is a {next_}, so {asked} is a {next_}." for one, next_ in pairwise(way)]
        return [f"{asked} is a {way[0]}.", *rest]

    follows = [*steps(ways[0][: hops + 1]), f"So it follows that {asked} is a {goal}."]
    fails = [*steps(ways[1]), f"Nothing more follows, so it does not follow that {asked} is a {goal}."]
    return [
        db.GeneratedRow({"story": story, "question": question}, "yes", " ".join(follows)),
        db.GeneratedRow({"story": exchanged(story, asked, other), "question": question}, "no", " ".join(fails)),
    ]
