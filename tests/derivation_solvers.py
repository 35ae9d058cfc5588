"""Solvers and checkers of the suite `derivations`: they read a task's text and know nothing of how it was made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import pairwise

LESS = {"shorter": "taller", "younger": "older", "slower": "faster", "lighter": "heavier", "poorer": "richer"}
Pair = tuple[str, str]


def found(pattern: str, text: str) -> list[tuple[str, ...]]:
    return [match.groups() for match in re.finditer(pattern, text)]


def asked(pattern: str, question: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, question)
    assert match, question
    return match.groups()


def sentences(text: str) -> list[str]:
    return [piece for piece in re.split(r"(?<=[.?])\s+|\n", text) if piece]


def closure(pairs: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    every = set(pairs)
    while more := {(a, d) for a, b in every for c, d in every if b == c} - every:
        every |= more
    return every


def yes(truth: bool) -> str:
    return "yes" if truth else "no"


# ---------------------------------------------------------------- ordering


def higher(text: str) -> list[Pair]:
    """Return the pairs of a text of which the first has more of it."""
    return [(b, a) if word in LESS else (a, b) for a, word, b in found(r"(\w+) is (\w+) than (\w+)\.", text)]


def ordering(story: str, question: str) -> str:
    one, word, two = asked(r"Is (\w+) (\w+) than (\w+)\?", question)
    return yes(((two, one) if word in LESS else (one, two)) in closure(higher(story)))


def why_ordering(story: str, question: str, why: str) -> tuple[str, int]:
    *steps, end = sentences(why)
    chain = higher(" ".join(steps))
    assert set(chain) <= set(higher(story))
    assert all(left[1] == right[0] for left, right in pairwise(chain))
    one, verb, word, two = asked(r"So (\w+) (is|is not) (\w+) than (\w+)\.", end)
    assert question == f"Is {one} {word} than {two}?"
    assert {one, two} == {chain[0][0], chain[-1][1]}
    follows = ((two, one) if word in LESS else (one, two)) == (chain[0][0], chain[-1][1])
    assert follows == (verb == "is")
    return yes(follows), len(steps)


# ---------------------------------------------------------------- rules, quantifiers


def kinds_of(person: str, story: str) -> tuple[set[str], set[str]]:
    """Return of which kinds a person is, and of which not, by what is said of every and of no member."""
    links = found(r"\b(Every|No) (\w+) is a (\w+)\.", story)  # "Not every" says nothing of anybody
    positive = {kind for name, kind in found(r"(\w+) is a (\w+)\.", story) if name == person}
    while more := {to for word, of, to in links if word == "Every" and of in positive} - positive:
        positive |= more
    negative = {to for word, of, to in links if word == "No" and of in positive}
    while more := {of for word, of, to in links if word == "Every" and to in negative} - negative:
        negative |= more
    return positive, negative


def rules(story: str, question: str) -> str:
    person, goal = asked(r"Does it follow that (\w+) is a (\w+)\?", question)
    return yes(goal in kinds_of(person, story)[0])


def quantifiers(story: str, question: str) -> str:
    person, goal = asked(r"Is (\w+) a (\w+)\?", question)
    positive, negative = kinds_of(person, story)
    assert not positive & negative
    return "yes" if goal in positive else "no" if goal in negative else "unknown"


def established(person: str, story: str, steps: list[str]) -> set[str]:
    """Check steps that put a person into one kind after another, and return these."""
    said = set(sentences(story))
    assert steps[0] in said
    kinds = {asked(rf"{person} is a (\w+)\.", steps[0])[0]}
    for step in steps[1:]:
        of, to, again = asked(rf"Every (\w+) is a (\w+), so {person} is a (\w+)\.", step)
        assert f"Every {of} is a {to}." in said
        assert of in kinds
        assert to == again
        kinds.add(to)
    return kinds


def why_rules(story: str, question: str, why: str) -> tuple[str, int]:
    person, goal = asked(r"Does it follow that (\w+) is a (\w+)\?", question)
    *steps, end = sentences(why)
    kinds = established(person, story, steps)
    if end == f"So it follows that {person} is a {goal}.":
        assert goal in kinds
        return "yes", len(steps) - 1
    assert end == f"Nothing more follows, so it does not follow that {person} is a {goal}."
    assert goal not in kinds
    assert not {to for of, to in found(r"Every (\w+) is a (\w+)\.", story) if of in kinds} - kinds  # nothing more
    return "no", len(steps) - 2


def why_quantifiers(story: str, question: str, why: str) -> tuple[str, int]:
    person, goal = asked(r"Is (\w+) a (\w+)\?", question)
    *steps, end = sentences(why)
    if end == f"So {person} is a {goal}.":
        assert goal in established(person, story, steps)
        return "yes", len(steps) - 1
    kinds = established(person, story, steps[:-1])
    assert steps[-1] in sentences(story)
    word, of, to = asked(r"(No|Not every) (\w+) is a (\w+)\.", steps[-1])
    assert of in kinds
    if word == "No":
        assert (to, end) == (goal, f"So {person} is not a {goal}.")
        return "no", len(steps) - 1
    # Past this link there is no other way to the goal, and nothing that shuts it out.
    assert end == f"So {person} may or may not be a {goal}."
    assert kinds_of(person, story) == (kinds, set())
    return "unknown", 0


# ---------------------------------------------------------------- swaps


def swaps(story: str, question: str) -> str:
    has: dict[str, str] = dict(found(r"(\w+) has the (\w+)\.", story))  # type: ignore[arg-type]
    for one, two in found(r"(\w+) and (\w+) swap", story):
        has[one], has[two] = has[two], has[one]
    person, thing = asked(r"Does (\w+) have the (\w+) at the end\?", question)
    return yes(has[person] == thing)


def why_swaps(story: str, question: str, why: str) -> tuple[str, int]:
    person, thing = asked(r"Does (\w+) have the (\w+) at the end\?", question)
    first, *steps, end = sentences(why)
    assert first in sentences(story)
    (holder,) = asked(rf"(\w+) has the {thing}\.", first)
    told = [asked(r"(\w+) swaps with (\w+), so (\w+) has it\.", step) for step in steps]
    for one, two in found(r"(\w+) and (\w+) swap", story):
        if holder in (one, two):
            taker = two if holder == one else one
            assert told.pop(0) == (holder, taker, taker)
            holder = taker
    assert not told
    if end == f"So {person} has the {thing} at the end.":
        assert holder == person
        return "yes", len(steps)
    assert end == f"So {holder} has the {thing} at the end, and {person} has not."
    assert holder != person
    return "no", len(steps)


# ---------------------------------------------------------------- kinship

BELOW = {"parent": 1, "sibling": 0, "child": -1}


def generations(start: str, facts: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """Return how many generations below `start` everyone stands who is related to it."""
    facts = list(facts)
    level = {start: 0}
    while True:
        before = dict(level)
        for one, relation, two in facts:
            if one in level:
                assert level.setdefault(two, level[one] + BELOW[relation]) == level[one] + BELOW[relation]
            elif two in level:
                level[one] = level[two] - BELOW[relation]
        if level == before:
            return level


def kinship(story: str, question: str) -> str:
    one, two = asked(r"Do (\w+) and (\w+) belong to the same generation\?", question)
    return yes(generations(one, found(r"(\w+) is a (\w+) of (\w+)\.", story))[two] == 0)


def why_kinship(story: str, question: str, why: str) -> tuple[str, int]:
    one, two = asked(r"Do (\w+) and (\w+) belong to the same generation\?", question)
    *steps, end = sentences(why)
    level = {one: 0}
    for step in steps:
        fact, person, place = asked(rf"(.*), so (\w+) is (.*) {one}\.", step)
        assert f"{fact}." in sentences(story)
        left, relation, right = asked(r"(\w+) is a (\w+) of (\w+)", fact)
        known = right if person == left else left
        assert {person, known} == {left, right}
        by = BELOW[relation] if person == right else -BELOW[relation]
        level[person] = level[known] + by
        if level[person] == 0:
            assert place == "in the generation of"
        else:
            number = abs(level[person])
            words = "one generation" if number == 1 else f"{number} generations"
            assert place == f"{words} {'below' if level[person] > 0 else 'above'}"
    verb = "belong" if level[two] == 0 else "do not belong"
    assert end == f"So {one} and {two} {verb} to the same generation."
    return yes(level[two] == 0), len(steps)


# ---------------------------------------------------------------- dates

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip
STEP = r"[Tt]he (\w+) starts (\w+) (day|week)s? (after|before) the (\w+)"


def day_of(text: str) -> date:
    number, month = text.split()
    return date(2023, MONTHS.index(month) + 1, int(number))


def span_of(number: str, unit: str, side: str) -> timedelta:
    count = {"one": 1, "two": 2}.get(number) or int(number)
    return timedelta(days=count * (7 if unit == "week" else 1) * (1 if side == "after" else -1))


def dates(story: str, question: str) -> str:
    event, wanted = asked(r"Does the (\w+) start on (\d+ \w+)\?", question)
    days = {name: day_of(day) for name, day in found(r"The (\w+) starts on (\d+ \w+)\.", story)}
    waiting = found(STEP, story)
    while event not in days:
        days |= {new: days[of] + span_of(*span) for new, *span, of in waiting if of in days}
    return yes(days[event] == day_of(wanted))


def why_dates(story: str, question: str, why: str) -> tuple[str, int]:
    event, wanted = asked(r"Does the (\w+) start on (\d+ \w+)\?", question)
    first, *steps, end = sentences(why)
    assert first in sentences(story)
    known, day = asked(r"The (\w+) starts on (\d+ \w+)\.", first)
    days = {known: day_of(day)}
    for step in steps:
        fact, day = asked(r"(.*), so on (\d+ \w+)\.", step)
        assert f"{fact}." in sentences(story)
        new, *span, of = asked(STEP, fact)
        days[new] = days[of] + span_of(*span)
        assert days[new] == day_of(day)
    last, reached = asked(rf"So the (\w+) starts on (\d+ \w+)(?: and not on {wanted})?\.", end)
    assert (last, days[last]) == (event, day_of(reached))
    assert (" and not on " in end) == (reached != wanted)
    return yes(reached == wanted), len(steps)


# ---------------------------------------------------------------- programs


def run(lines: Iterable[str]) -> dict[str, int]:
    values: dict[str, int] = {}
    for line in lines:
        target, source, sign, number = asked(r"(\w) = (\w+)(?: ([+-]) (\d+))?", line)
        value = int(source) if source.isdigit() else values[source]
        values[target] = value + (int(number) if sign == "+" else -int(number)) if sign else value
    return values


def programs(story: str, question: str) -> str:
    name, number = asked(r"Is (\w) equal to (-?\d+) at the end\?", question)
    return yes(run(story.split("\n"))[name] == int(number))


def why_programs(story: str, question: str, why: str) -> tuple[str, int]:
    name, number = asked(r"Is (\w) equal to (-?\d+) at the end\?", question)
    first, *steps, end = sentences(why)
    lines = story.split("\n")
    letter, value = asked(r"(\w) is (\d+)\.", first)
    at, values = lines.index(f"{letter} = {value}"), {letter: int(value)}
    for step in steps:
        line, target, value = asked(r"(.*), so (\w) is (-?\d+)\.", step)
        at = lines.index(line, at + 1)  # in the order of the program
        of, sign, by = asked(rf"{target} = (\w) ([+-]) (\d+)", line)
        values[target] = values[of] + (int(by) if sign == "+" else -int(by))
        assert values[target] == int(value)
        assert not any(later.startswith(f"{of} = ") for later in lines[at + 1 :] if of != target)
    last, value = asked(rf"So (\w) is (-?\d+) at the end(?: and not {number})?\.", end)
    assert (last, values[last]) == (name, int(value))
    assert not any(later.startswith(f"{last} = ") for later in lines[at + 1 :])
    assert (" and not " in end) == (value != number)
    return yes(value == number), len(steps)


# ---------------------------------------------------------------- roads


def neighbours(story: str, state: str) -> set[Pair]:
    pairs = found(rf"{state} road joins (\w+) and (\w+)\.", story)
    return {pair for one, two in pairs for pair in ((one, two), (two, one))}


def distances(start: str, pairs: set[Pair]) -> dict[str, int]:
    far, edge = {start: 0}, [start]
    while edge:
        here = edge.pop(0)
        for one, two in sorted(pairs):
            if one == here and two not in far:
                far[two] = far[one] + 1
                edge.append(two)
    return far


def roads(story: str, question: str) -> str:
    start, goal = asked(r"Can one get from (\w+) to (\w+)\?", question)
    return yes(goal in distances(start, neighbours(story, "An open")))


def why_roads(story: str, question: str, why: str) -> tuple[str, int]:
    start, goal = asked(r"Can one get from (\w+) to (\w+)\?", question)
    *steps, end = sentences(why)
    reached, open_roads, shut = {start}, neighbours(story, "An open"), neighbours(story, "A closed")
    for step in steps:
        if step.startswith("Open"):
            for one, two in found(r"from (\w+) to (\w+)", step):
                assert one in reached
                assert (one, two) in open_roads
                reached.add(two)
        else:
            assert asked(r"A closed road joins (\w+) and (\w+)\.", step) in shut
    if end == f"So one can get from {start} to {goal}.":
        assert goal in reached
        return "yes", len(reached) - 1
    assert end == f"So one cannot get from {start} to {goal}."
    assert goal not in reached
    assert not {two for one, two in open_roads if one in reached} - reached  # nothing more can be reached
    return "no", 0


SOLVERS: dict[str, Callable[[str, str], str]] = {
    "ordering": ordering, "rules": rules, "swaps": swaps, "kinship": kinship, "dates": dates, "programs": programs,
    "roads": roads, "quantifiers": quantifiers,
}  # fmt: skip
CHECKERS: dict[str, Callable[[str, str, str], tuple[str, int]]] = {
    "ordering": why_ordering, "rules": why_rules, "swaps": why_swaps, "kinship": why_kinship, "dates": why_dates,
    "programs": why_programs, "roads": why_roads, "quantifiers": why_quantifiers,
}  # fmt: skip
"""Each checks every step and returns the class that a derivation ends in, and its steps (0 where they are not hops)."""
