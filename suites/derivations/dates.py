"""On which day? Events follow each other by days and weeks, forwards and backwards."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from random import Random

import dhrd_bench as db

from ._words import EVENTS, exchanged, shuffled

YEAR = 2001
"""No leap year; no story gets near its ends, so it is never told."""
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
SPANS = {**{f"{days} days": days for days in range(2, 14) if days != 7}, "one week": 7, "two weeks": 14}


@db.generator
def dates(random: Random, hops: int) -> list[db.GeneratedRow]:
    """Two rows with one question, whose stories differ in which of two dates belongs to which event.

    Each date starts a chain of equally many events; another event follows the one asked about.
    """
    events = random.sample(EVENTS, 2 * hops + 4)
    chains = (events[: hops + 2], events[hops + 2 :])
    starts = [date(YEAR, 6, 1) + timedelta(days) for days in random.sample(range(92), 2)]
    steps = [[(random.choice(list(SPANS)), random.choice(["after", "before"])) for _ in chains[0][1:]] for _ in chains]
    facts = [f"The {chain[0]} starts on {_day(start)}." for chain, start in zip(chains, starts, strict=True)]
    for chain, spans in zip(chains, steps, strict=True):
        facts += [_fact(*pair, *step) for pair, step in zip(pairwise(chain), spans, strict=True)]
    story = " ".join(shuffled(random, facts))
    chain, taken = chains[0][: hops + 1], steps[0][:hops]
    right, wrong = (_days(start, taken) for start in starts)
    question = f"Does the {chain[-1]} start on {_day(right[-1])}?"

    def why(days: list[date], end: str) -> str:
        said = [f"The {chain[0]} starts on {_day(days[0])}."]
        for pair, step, day in zip(pairwise(chain), taken, days[1:], strict=True):
            said.append(f"{_fact(*pair, *step)[:-1]}, so on {_day(day)}.")
        return " ".join([*said, f"So the {chain[-1]} starts on {_day(days[-1])}{end}."])

    moved = exchanged(story, *map(_day, starts))
    return [
        db.GeneratedRow({"story": story, "question": question}, "yes", why(right, "")),
        db.GeneratedRow({"story": moved, "question": question}, "no", why(wrong, f" and not on {_day(right[-1])}")),
    ]


def _day(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]}"


def _fact(known: str, event: str, span: str, side: str) -> str:
    return f"The {event} starts {span} {side} the {known}."


def _days(start: date, steps: list[tuple[str, str]]) -> list[date]:
    days = [start]
    for span, side in steps:
        days.append(days[-1] + timedelta(SPANS[span] if side == "after" else -SPANS[span]))
    return days
