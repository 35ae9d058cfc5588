"""What a tokenizer makes of a cell's texts, known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.contracts import Example, MethodCard, Prompt, TaskData
from dhrd_bench.data.suite import TestSplit

TOKENS_VERSION = "1"
"""Version of how tokens are made of what is not plain: inputs that are cut, texts that hold the name of a special
token, answers that begin alike. It is part of the identity of the cells that have some of it, and of no others."""


@dataclass(frozen=True, eq=False)
class CellTexts:
    """The texts of the cells of one task and seed, under a limit of tokens.

    A token is one byte of the text at least, so most texts are known to be short without a tokenizer. The `lengths`
    that were counted serve for all seeds of a task, which have most of their texts in common.
    """

    tokens: Tokens
    data: TaskData
    test: TestSplit
    limit: int
    lengths: dict[str, int] = field(default_factory=dict)

    def version(self, method: MethodCard) -> str | None:
        """Return `TOKENS_VERSION` if what `method` reads has something that is not plain, else None."""
        if not method.kinds:
            return None
        # Spare rows may be many: they are not looked through, and count as odd.
        special = method.uses_spare or self._odd_inputs or (method.uses_rationales and self._odd_rationales)
        return TOKENS_VERSION if special or ("generate" in method.kinds and self._alike) else None

    def notes(self, method: MethodCard) -> list[str]:
        """Say how many inputs stay longer than the limit, because the prompt lets no more be cut."""
        if not method.kinds or not self._too_long:
            return []
        worst = max(self._too_long, key=lambda name: self._too_long[name])
        return [
            f"{len(self._too_long)} inputs have more tokens than the budget's max_length of {self.limit} in what may "
            f"not be cut (the longest: row {worst!r}, {self._too_long[worst]} tokens); that is kept whole"
        ]

    @cached_property
    def _odd_inputs(self) -> bool:
        """Whether an input holds the name of a special token, or is cut; the long ones are likely to be."""
        prompts = sorted((example.prompt for example in self._examples()), key=lambda prompt: -len(prompt.text))
        return any(self.tokens.names_control(prompt.text) for prompt in prompts) or any(map(self._is_cut, prompts))

    @cached_property
    def _odd_rationales(self) -> bool:
        rows = (*self.data.train, *self.data.dev)
        texts = [text for row in rows for text in (row.rationale or "", *(text for _, text in row.counterfactuals))]
        return any(map(self.tokens.names_control, texts))

    @cached_property
    def _alike(self) -> bool:
        first = [self.tokens.encode(f" {answer}")[0] for answer in self.data.card.answers]
        return len(set(first)) < len(first)

    @cached_property
    def _too_long(self) -> dict[str, int]:
        """Tokens of what may not be cut, by row, where they are over the limit."""
        kept = {
            example.id: "".join(text for text, cut in example.prompt.pieces if cut is None)
            for example in self._examples()
        }
        return {name: length for name, text in kept.items() if (length := self._length(text)) > self.limit}

    def _is_cut(self, prompt: Prompt) -> bool:
        return len(prompt.pieces) > 1 and self._length(prompt.text) > self.limit

    def _length(self, text: str) -> int:
        """Return the tokens of `text`, or their bound if it is below the limit."""
        bound = len(text.encode()) + len(self.tokens.start) + 1
        if bound <= self.limit:
            return bound
        if text not in self.lengths:
            self.lengths[text] = len(self.tokens.begun(self.tokens.encode(text)))
        return self.lengths[text]

    def _examples(self) -> Iterator[Example]:
        yield from (row.example for row in (*self.data.train, *self.data.dev))
        yield from self.test.examples
