"""From text to token ids: text is text whatever it says, and a sequence begins as the tokenizer has it begin."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

INPUT = "<<input>>"
"""Stands for the text that a chat turn is put around."""


class Tokens:
    """A Hugging Face tokenizer as the harness uses it.

    Where a text holds the name of a special token, as "<|im_end|>", it means these characters: only what the
    harness puts around a text (a chat turn) may hold the token itself.

    Attributes
    ----------
    tokenizer
        The tokenizer.
    start, end
        What the tokenizer's own template puts before a text, a beginning of text or nothing, and what it puts behind
        it. The latter is for encoders (`ends`): it would end a sequence that goes on, and an LM's is left out.
    """

    def __init__(self, tokenizer: Any, *, ends: bool = False) -> None:
        self.tokenizer = tokenizer
        self.start, end = _around(tokenizer)
        self.end = end if ends else []
        special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._control = frozenset(special)
        # The longest first: one name may begin another.
        names = sorted(special.values(), key=lambda name: -len(name))
        self._names = re.compile("|".join(map(re.escape, names))) if names else None

    @property
    def start_name(self) -> str | None:
        """The tokens of `start` as the vocabulary has them; None where there are none."""
        return "".join(self.tokenizer.convert_ids_to_tokens(self.start)) or None

    def names_control(self, text: str) -> bool:
        """Whether `text` holds the name of a special token."""
        return self._names is not None and self._names.search(text) is not None

    def encode(self, text: str, prefix: str = "", suffix: str = "") -> list[int]:
        """Return the token ids of `text` between `prefix` and `suffix`, in which special tokens are such."""
        whole = self._ids(prefix + text + suffix)
        if self._controls(whole) == self._controls(self._ids(prefix)) + self._controls(self._ids(suffix)):
            return whole
        return [*self._ids(prefix), *self._ids(text, control=False), *self._ids(suffix)]

    def encode_parts(self, parts: Sequence[str], prefix: str = "", suffix: str = "") -> list[list[int]]:
        """Return the tokens of each of `parts`, of which there are two at least; joined they are those of `encode`.

        A token belongs to the part that holds its last character, so a space goes with the word behind it. The
        prefix belongs to the first part and the suffix to the last. A tokenizer that does not say where its tokens
        come from gets each part by itself.
        """
        if not self.tokenizer.is_fast:
            inner = [self.encode(part) for part in parts[1:-1]]
            return [self.encode(parts[0], prefix=prefix), *inner, self.encode(parts[-1], suffix=suffix)]
        ends = list(accumulate(map(len, [prefix + parts[0], *parts[1:-1]])))
        found: list[list[int]] = [[] for _ in parts]
        place = 0
        for token, last in self._placed("".join(parts), prefix, suffix):
            place = max(place, bisect_right(ends, last))
            found[place].append(token)
        return found

    def begun(self, ids: list[int]) -> list[int]:
        """Return `ids` between `start` and `end`, of which a chat template may have written the first already."""
        start = [] if ids[: len(self.start)] == self.start else self.start
        end = [] if ids[len(ids) - len(self.end) :] == self.end else self.end
        return [*start, *ids, *end]

    def _placed(self, text: str, prefix: str, suffix: str) -> list[tuple[int, int]]:
        """Return the tokens of `encode`, each with the place of its last character."""
        placed = self._with_places(prefix + text + suffix)
        if [token for token, _ in placed] == self.encode(text, prefix, suffix):
            return placed
        inner = [(token, len(prefix) + last) for token, last in self._with_places(text, control=False)]
        end = len(prefix) + len(text)
        return [*((token, 0) for token in self._ids(prefix)), *inner, *((token, end) for token in self._ids(suffix))]

    def _with_places(self, text: str, *, control: bool = True) -> list[tuple[int, int]]:
        placed: list[tuple[int, int]] = []
        start = 0
        for piece in [text] if control else self._apart(text):
            found = self.tokenizer(
                piece, add_special_tokens=False, split_special_tokens=not control, return_offsets_mapping=True
            )
            ends = (max(0, end - 1) for _, end in found["offset_mapping"])
            placed += zip(found["input_ids"], (start + end for end in ends), strict=True)
            start += len(piece)
        return placed

    def _ids(self, text: str, *, control: bool = True) -> list[int]:
        if not text:
            return []
        return [
            token
            for piece in ([text] if control else self._apart(text))
            for token in self.tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=not control)
        ]

    def _apart(self, text: str) -> list[str]:
        """Return `text`, in pieces where names of special tokens are words to the tokenizer's model itself."""
        whole = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if self._names is None or not self._controls(whole):
            return [text]
        cuts = [0, *(name.start() + 1 for name in self._names.finditer(text)), len(text)]
        return [text[first:last] for first, last in pairwise(cuts)]

    def _controls(self, ids: Sequence[int]) -> int:
        return sum(token in self._control for token in ids)


def chat_around(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """Return what the chat template writes before and after the `INPUT` in `messages`, up to the LM's turn."""
    text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    before, _, after = str(text).partition(INPUT)
    return before, after


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return what the tokenizer puts before and behind a text that it takes for a whole one."""
    plain = list(tokenizer.encode("a", add_special_tokens=False))
    whole = list(tokenizer.encode("a"))
    for place in range(len(whole) - len(plain) + 1):
        if plain and whole[place : place + len(plain)] == plain:
            return whole[:place], whole[place + len(plain) :]
    return [], []
