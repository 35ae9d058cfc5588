"""Words of the worlds, and what every generator does with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words(
    "Ada Ben Cora Dan Ella Finn Gwen Hugo Iris Jack Kira Leo Mona Ned Olga Paul Rosa Sam Tina Uma Vera Will Yara Zoe "
    "Amir Bea Carl Dora Emil Fay Gus Hana Ivan Jill Karl Lena Max Nora Otto Pia Rolf Sara Tom Ulla Viktor Wendy"
)
KINDS = _words(
    "wug dax fep blicket zorp lorp gazzer tomal vint quimp plim drog snarf mibble tulver korb yint hoopel perrin jask "
    "florn grint brock tarn lusk mabe norp pelk rass sild thrum vaddle wimp yorn zeel cland dremp fouse gomer hulk"
)
PLACES = _words(
    "Ashton Bolton Burton Carlton Clifton Dalton Denton Easton Fulton Hampton Hilton Kenton Kingston Linton Milton "
    "Newton Norton Overton Preston Sutton Walton Weston Wilton Yorkton"
)
EVENTS = _words(
    "fair race play concert lecture parade auction contest picnic market regatta debate workshop banquet exhibition "
    "tournament rehearsal festival ceremony reunion"
)
THINGS = _words("ball book lamp drum kite coin flute map mug ring rope shell")


def shuffled(random: Random, items: Sequence[T]) -> list[T]:
    """Return `items` in an order that is drawn."""
    return random.sample(items, len(items))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return `text` with each of `names` replaced by what it is mapped to, all at once."""
    pattern = r"\b(?:" + "|".join(map(re.escape, names)) + r")\b"
    return re.sub(pattern, lambda found: names[found[0]], text)


def exchanged(text: str, one: str, other: str) -> str:
    """Return `text` with `one` in all places of `other` and the reverse: the same words in two other places."""
    return renamed(text, {one: other, other: one})
