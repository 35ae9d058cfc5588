"""The suite `votes`: right classes, and more in the rationales than in the classes."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from functools import cache

import pytest
from shortcuts import Row, accuracies

from dhrd_bench.data.cards import GeneratedCard
from dhrd_bench.data.generated import generate
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError

TOLD = re.compile(r"(\w+) is (red|blue)\.")
VOTER = re.compile(r"(\w+)(?=,| and | vote\.)")


@cache
def rows() -> dict[str, list[Row]]:
    card = Suite.named("votes").card.tasks["votes"].generated
    assert card
    return made(card)


def made(card: GeneratedCard) -> dict[str, list[Row]]:
    return {split: [dict(row) for _, row in records] for split, records in generate(card).items()}


def told(some: list[Row]) -> dict[str, str]:
    """Return the sides that rationales tell; nobody has two."""
    sides: dict[str, str] = {}
    for row in some:
        for name, side in TOLD.findall(row["rationale"]):
            assert sides.setdefault(name, side) == side
    return sides


def test_the_side_with_more_voices_wins_and_the_rationale_counts_them() -> None:
    every = [*rows()["train"], *rows()["test"]]
    sides = told(every)
    assert Counter(sides.values()) == {"red": 116, "blue": 116}
    for row in every:
        voters = VOTER.findall(row["story"])
        assert len(set(voters)) == 5
        voices = Counter(sides[name] for name in voters)
        (winner, most), *fewer = voices.most_common()
        assert row["label"] == winner
        assert TOLD.findall(row["rationale"]) == [(name, sides[name]) for name in voters]
        assert row["rationale"].endswith(f" So {winner} wins, {most} to {5 - most}.")
        assert len(fewer) <= 1


def test_rationales_hold_what_the_classes_of_the_same_rows_only_hint_at() -> None:
    train, test = rows()["train"][:400], rows()["test"]
    sides = told(train)
    right = [
        Counter(sides.get(name, "?") for name in VOTER.findall(row["story"])).most_common(1)[0][0] == row["label"]
        for row in test
    ]
    assert sum(right) / len(test) > 0.99
    assert 0.7 < accuracies(train, test)["all"] < 0.8  # far from chance and from the ceiling


def test_both_rows_of_a_world_have_as_many_voices_and_rows_are_the_same_everywhere() -> None:
    worlds: dict[int, list[Row]] = {}
    for row in rows()["train"]:
        worlds.setdefault(row["world"], []).append(row)
    for world in worlds.values():
        assert sorted(row["label"] for row in world) == ["blue", "red"]
        assert len({row["rationale"].rpartition("wins")[2] for row in world}) == 1
    text = json.dumps(rows(), ensure_ascii=False, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "86fee35dc509d176"


def test_a_vote_of_more_than_there_are_is_refused() -> None:
    assert len(VOTER.findall(made(GeneratedCard(by="votes", train=2, test=2, hops=57))["train"][0]["story"])) == 115
    with pytest.raises(UserError, match="cannot make rows with hops=58: there are 116 voters of a side, not 117"):
        generate(GeneratedCard(by="votes", train=2, test=2, hops=58))
