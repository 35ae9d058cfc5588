"""What is it at the end? Two sums are worked out line by line, and the lines are mixed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import dhrd_bench as db

LETTERS = "abcdefghjkmnpqrstuvwxyz"


@dataclass(frozen=True)
class Line:
    """``target = source + number``; the number may be negative."""

    target: str
    source: str
    number: int

    def __str__(self) -> str:
        return f"{self.target} = {self.source} {'-' if self.number < 0 else '+'} {abs(self.number)}"


@db.generator
def programs(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two rows with one question, whose programs differ in which of two numbers is given to which variable.

    Each number starts a sum of equally many lines; a line is in place or goes on to a fresh variable, and the last
    line of both makes another variable of the result.
    """
    letters = random.sample(LETTERS, 2 * hops + 4)
    sums = [_sum(random, letters[part::2], hops) for part in range(2)]
    numbers = random.sample(range(40, 100), 2)
    first = random.sample(range(2), 2)
    turns = random.sample([0, 1] * (hops + 1), 2 * hops + 2)
    left = [iter(lines) for lines in sums]
    body = [str(next(left[turn])) for turn in turns]
    taken = sums[0][:hops]
    end, total = taken[-1].target, sum(line.number for line in taken)

    def row(given: list[int], label: str) -> db.GeneratedRow:
        program = "\n".join([*(f"{sums[part][0].source} = {given[part]}" for part in first), *body])
        value, said = given[0], [f"{taken[0].source} is {given[0]}."]
        for line in taken:
            value += line.number
            said.append(f"{line}, so {line.target} is {value}.")
        other = "" if label == "yes" else f" and not {numbers[0] + total}"
        why = " ".join([*said, f"So {end} is {value} at the end{other}."])
        question = f"Is {end} equal to {numbers[0] + total} at the end?"
        return db.GeneratedRow({"story": program, "question": question}, label, why)

    return [row(numbers, "yes"), row(numbers[::-1], "no")]


def _sum(random: Random, letters: list[str], hops: int) -> list[Line]:
    """Return `hops` lines, each of which changes its variable or goes on to a fresh one, and one that goes on."""
    at, lines = 0, []
    for step in range(hops + 1):
        source = letters[at]
        at += 1 if step == hops else random.randrange(2)
        lines.append(Line(letters[at], source, random.choice([-1, 1]) * random.randint(1, 5)))
    return lines
