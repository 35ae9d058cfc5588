"""What do "every", "no" and "not every" say of somebody? It may be nothing."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import dhrd_bench as db

from ._words import KINDS, NAMES, renamed, shuffled


@db.generator
def quantifiers(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Three rows with one question, whose stories differ in which of three people is of which kind.

    Three chains lead to the kind asked about: one through "every" alone, one whose last link is "no", one with a
    link "not every" that leaves it open.
    """
    kinds = random.sample(KINDS, 3 * hops + 2)
    goal, beyond = kinds[0], kinds[1]
    chains = [[*kinds[2 + hops * part : 2 + hops * (part + 1)], goal] for part in range(3)]
    words = [["Every"] * hops for _ in chains]
    words[1][-1] = "No"
    weak = random.randrange(hops)
    words[2][weak] = "Not every"
    people = random.sample(NAMES, 3)
    asked = people[0]
    facts = [f"Every {goal} is a {beyond}."]
    for person, chain, links in zip(people, chains, words, strict=True):
        facts.append(f"{person} is a {chain[0]}.")
        facts += [f"{word} {one} is a {next_}." for word, (one, next_) in zip(links, pairwise(chain), strict=True)]
    story = " ".join(shuffled(random, facts))

    def steps(chain: list[str]) -> list[str]:
        rest = [f"Every {one} is a {next_}, so {asked} is a {next_}." for one, next_ in pairwise(chain)]
        return [f"{asked} is a {chain[0]}.", *rest]

    link = f"{chains[2][weak]} is a {chains[2][weak + 1]}"
    reasons = {
        "yes": [*steps(chains[0]), f"So {asked} is a {goal}."],
        "no": [*steps(chains[1][:-1]), f"No {chains[1][-2]} is a {goal}.", f"So {asked} is not a {goal}."],
        "unknown": [*steps(chains[2][: weak + 1]), f"Not every {link}.", f"So {asked} may or may not be a {goal}."],
    }
    return [
        db.GeneratedRow(
            # Whoever stood where the one asked about is to stand gets the next place.
            {"story": renamed(story, _turned(people, by)), "question": f"Is {asked} a {goal}?"}, label, " ".join(why)
        )
        for by, (label, why) in enumerate(reasons.items())
    ]  # fmt: skip


def _turned(people: list[str], by: int) -> dict[str, str]:
    return {person: people[(place - by) % len(people)] for place, person in enumerate(people)}
