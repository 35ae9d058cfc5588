"""Who wins a vote? One has to know the side of each voter, which labels only hint at and rationales spell out."""

from __future__ import annotations

from random import Random

import dhrd_bench as db

_NAMES = (
    "Aaron Adam Alan Albert Alex Alice Allen Amanda Amy Andrea Andrew Angela Ann Anna Anthony Arthur Austin Barbara "
    "Ben Betty Bill Billy Bob Bobby Brandon Brian Bruce Bryan Carl Carlos Carol Catherine Charles Charlie Chris "
    "Christine Claire Craig Cynthia Dan Daniel David Dean Deborah Dennis Diana Diane Don Donald Donna Doug Douglas "
    "Dylan Ed Eddie Edward Elizabeth Ellen Emily Emma Eric Ethan Eva Evan Frank Fred Gary George Gerald Glenn Gloria "
    "Gordon Grace Greg Hannah Harold Harry Heather Helen Henry Howard Ian Isaac Jack Jackie Jacob James Jamie Jane "
    "Janet Jason Jean Jeff Jennifer Jeremy Jerry Jesse Jessica Jim Jimmy Joan Joe Joel John Johnny Jonathan Jordan "
    "Joseph Joshua Joyce Juan Judith Judy Julia Julian Julie Justin Karen Kate Katherine Kathy Keith Kelly Ken "
    "Kenneth Kevin Kim Kyle Larry Laura Lauren Lee Leo Leon Leonard Lewis Linda Lisa Louis Lucas Lucy Luke Margaret "
    "Maria Marie Mark Martha Martin Mary Matt Matthew Max Megan Melissa Michael Michelle Mike Nancy Nathan Neil "
    "Nicholas Nick Nicole Noah Norman Oliver Oscar Pamela Patricia Patrick Paul Peggy Peter Phil Philip Rachel Ralph "
    "Ray Raymond Rebecca Richard Rick Robert Robin Roger Ron Ronald Rose Roy Russell Ruth Ryan Sally Sam Samuel "
    "Sandra Sara Sarah Scott Sean Sharon Simon Sophie Stephanie Stephen Steve Steven Stuart Sue Susan Ted Teresa "
    "Terry Thomas Tim Timothy Todd Tom Tony Tyler Vernon Victor Victoria Vincent Virginia Walter Wanda Warren Wayne "
    "Wendy William Zach"
)
VOTERS = _NAMES.split()
_sides = Random("votes").sample(VOTERS, len(VOTERS))
RED, BLUE = _sides[: len(_sides) // 2], _sides[len(_sides) // 2 :]


@db.generator
def votes(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two votes of 2 * `hops` + 1 voters each: the red win one, the blue the other, by as many voices."""
    count = 2 * hops + 1
    if count > len(BLUE):
        raise ValueError(f"there are {len(BLUE)} voters of a side, not {count}")
    voices = sum(random.choice([True, False]) for _ in range(count))
    more = max(voices, count - voices)

    def row(winner: str, winners: list[str], losers: list[str]) -> db.GeneratedRow:
        voters = random.sample(winners, more) + random.sample(losers, count - more)
        random.shuffle(voters)
        story = f"{', '.join(voters[:-1])} and {voters[-1]} vote."
        sides = " ".join(f"{name} is {'red' if name in RED else 'blue'}." for name in voters)
        why = f"{sides} So {winner} wins, {more} to {count - more}."
        return db.GeneratedRow({"story": story, "question": "Who wins, red or blue?"}, winner, why)

    return [row("red", RED, BLUE), row("blue", BLUE, RED)]
