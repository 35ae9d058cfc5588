"""Same generation? Parents, children and siblings lead from one person to another, up and down."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import dhrd_bench as db

from ._words import NAMES, shuffled

UP, LEVEL, DOWN = -1, 0, 1
"""Where the next person stands, in generations."""
STANDS = {UP: "one generation above", LEVEL: "in the generation of", DOWN: "one generation below"}


@db.generator
def kinship(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two rows with one question, whose stories differ in who of one pair is the parent and who the child.

    There are as many steps up as down, until one of them is turned round. Relatives that lead nowhere hang on
    both people asked about and on some between.
    """
    if hops < 2:
        raise ValueError("a way up and down takes two steps or more")
    names = random.sample(NAMES, hops + 3 + hops // 2)
    chain, relatives = names[: hops + 1], names[hops + 1 :]
    steps = shuffled(random, [UP, DOWN] * (hops // 2) + [LEVEL] * (hops % 2))
    turned = random.choice([at for at, step in enumerate(steps) if step != LEVEL])
    links = [_said(random, *pair, step) for pair, step in zip(pairwise(chain), steps, strict=True)]
    hanging = [chain[0], chain[-1], *(random.choice(chain) for _ in relatives[2:])]
    extra = [
        _said(random, one, relative, random.choice([LEVEL, DOWN]))
        for one, relative in zip(hanging, relatives, strict=True)
    ]
    order = shuffled(random, range(len(links) + len(extra)))
    question = f"Do {chain[0]} and {chain[-1]} belong to the same generation?"

    def row(at: int | None, label: str) -> db.GeneratedRow:
        told, taken = list(links), list(steps)
        if at is not None:
            taken[at] = -taken[at]
            told[at] = _turned(told[at])
        sentences = [*told, *extra]
        story = " ".join(_sentence(*sentences[place]) for place in order)
        return db.GeneratedRow({"story": story, "question": question}, label, _why(chain, told, taken))

    return [row(None, "yes"), row(turned, "no")]


Link = tuple[str, str, str]
"""Two people and, between them, what the first is to the second."""


def _said(random: Random, one: str, two: str, step: int) -> Link:
    """Return the link of `one` to `two`, who stands `step` generations below, told from either end."""
    relation, inverse = {UP: ("child", "parent"), LEVEL: ("sibling", "sibling"), DOWN: ("parent", "child")}[step]
    return random.choice([(one, relation, two), (two, inverse, one)])


def _turned(link: Link) -> Link:
    return link[2], link[1], link[0]


def _sentence(one: str, relation: str, two: str) -> str:
    return f"{one} is a {relation} of {two}."


def _why(chain: list[str], told: list[Link], steps: list[int]) -> str:
    """Say for each person of the chain how far below or above the first one it stands."""
    level, said = 0, []
    for (_, two), link, step in zip(pairwise(chain), told, steps, strict=True):
        level += step
        said.append(f"{_sentence(*link)[:-1]}, so {two} is {_stands(level)} {chain[0]}.")
    end = "belong" if level == 0 else "do not belong"
    return " ".join([*said, f"So {chain[0]} and {chain[-1]} {end} to the same generation."])


def _stands(level: int) -> str:
    if level in STANDS:
        return STANDS[level]
    return f"{abs(level)} generations {'below' if level > 0 else 'above'}"
