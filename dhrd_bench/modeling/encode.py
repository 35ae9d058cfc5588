"""From examples to token sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dhrd_bench.contracts import Budget, Cut, Example, LanguageModel, TaskCard
from dhrd_bench.errors import UserError

PAUSE = " ."
"""The text whose last token is the pause: any tokenizer has it, and no vocabulary need grow."""


@dataclass(frozen=True, slots=True)
class Row:
    """One training sequence and what is learnt from it.

    Attributes
    ----------
    ids
        The tokens of the whole sequence.
    input_length
        How many of them are the input x with its pauses; nothing behind them is pooled.
    label
        Class for the classification loss. A row with neither this nor `soft` has no part in it.
    soft
        Probability of each class that the classification loss is to take instead of `label`; dev accuracy goes by
        `label` where there is one. How a teacher's opinion and the label are mixed is the method's affair.
    lm
        Half-open range of positions whose token is an LM target, predicted from the tokens before
        it, or None. A range that starts at 0 counts from 1: the first token has no context.
    lm_weights
        Weight of each of the `targets` in the mean that the LM loss is, which is divided by their sum; None is 1 each.
    term
        Which of the weighted LM losses the row belongs to.
    beside
        Another sequence that a loss of one's own reads with this one, by `Pass.over`. It is not learnt from by itself.

    Raises
    ------
    UserError
        If `soft` or `lm_weights` have the wrong length or hold negative numbers, or `soft` does not add up to 1.
    """

    ids: list[int]
    input_length: int
    label: int | None = None
    lm: tuple[int, int] | None = None
    term: str = "lm"
    soft: tuple[float, ...] | None = None
    lm_weights: tuple[float, ...] | None = None
    beside: Row | None = None

    def __post_init__(self) -> None:
        if self.soft is not None and (min(self.soft) < 0 or abs(sum(self.soft) - 1) > 1e-3):
            raise UserError(f"Soft targets {self.soft} are no probabilities.", "Give one a class, adding up to 1.")
        if self.lm_weights is not None:
            if len(self.lm_weights) != len(self.targets):
                message = f"A row has {len(self.lm_weights)} LM weights and {len(self.targets)} LM targets."
                raise UserError(message, "Give one a target; the first token of a sequence is none.")
            if min(self.lm_weights, default=0) < 0:
                raise UserError("An LM weight is negative.", "Weights are those of a mean: 0 or more.")

    @property
    def classified(self) -> bool:
        """Whether the row has a part in the classification loss."""
        return self.label is not None or self.soft is not None

    @property
    def targets(self) -> range:
        """Positions of the LM targets."""
        return range(0) if self.lm is None else range(max(1, self.lm[0]), min(self.lm[1], len(self.ids)))

    @property
    def target_weights(self) -> tuple[float, ...]:
        """Weight of each of the `targets`."""
        return (1.0,) * len(self.targets) if self.lm_weights is None else self.lm_weights

    def weighted(self, weight: Callable[[int], float]) -> Row:
        """Return the row with each target's weight multiplied by `weight` of its position."""
        pairs = zip(self.targets, self.target_weights, strict=True)
        return replace(self, lm_weights=tuple(old * weight(position) for position, old in pairs))


@dataclass(slots=True)
class Encoder:
    """Turns the parts of a sequence into token ids under a budget, with `pause` fillers behind each input.

    The parts are encoded one by one and then joined, so that the tokens of x are the same whatever
    follows: what makes one pass over [x, r, y] equal to a pass over x.
    """

    backbone: LanguageModel
    budget: Budget
    card: TaskCard
    truncated: set[str] = field(default_factory=set)
    pause: int = 0

    def input(self, example: Example, prefix: str = "", suffix: str = "") -> list[int]:
        """Return the tokens of x and its pauses: of x at most ``budget.max_length``, cut from the passage's end only.

        Where spans are marked, it is cut at the far ends of what stands around them (`Prompt.context`). A question
        that is longer than the limit by itself is kept whole. `prefix` and `suffix` are put around x (a task prefix,
        an instruction) and count towards the limit, as does the beginning of text where the tokenizer has one.
        """
        return self._input(example, prefix, suffix) + self.pauses()

    def pauses(self) -> list[int]:
        """Return the fillers behind an input: one token of the tokenizer's own, `pause` times."""
        return self.backbone.encode(PAUSE)[-1:] * self.pause

    def _input(self, example: Example, prefix: str, suffix: str) -> list[int]:
        prompt, backbone = example.prompt, self.backbone
        ids = backbone.begun(backbone.encode(prompt.text, prefix, suffix))
        pieces = prompt.pieces
        if len(ids) <= self.budget.max_length or len(pieces) == 1:
            return ids
        self.truncated.add(example.id)
        parts = backbone.encode_parts([text for text, _ in pieces], prefix, suffix)
        cuts = [cut for _, cut in pieces]
        kept = [token for part, cut in zip(parts, cuts, strict=True) if cut is None for token in part]
        room = self.budget.max_length - len(backbone.begun(kept))
        lengths = _shares([len(part) if cut else 0 for part, cut in zip(parts, cuts, strict=True)], room)
        left = zip(map(_cut, parts, cuts, lengths), cuts, strict=True)
        # Of a passage that begins with a number its space may be all that is left: a token of its own.
        whole = [part for part, cut in left if cut is None or backbone.decode(part).strip()]
        return backbone.begun([token for part in whole for token in part])

    def reasoning(self, rationale: str | None) -> list[int]:
        """Return the tokens of the reason marker and the rationale; none at all if there is no rationale."""
        if not rationale:
            return []
        rationale_ids = self.backbone.encode(" " + rationale.strip())[: self.budget.max_rationale]
        return self.reason_marker() + rationale_ids

    def reason_marker(self) -> list[int]:
        """Return the tokens that come before the rationale."""
        return self.backbone.encode(self.card.reason)

    def answer(self, label: int) -> list[int]:
        """Return the tokens of the answer marker, the answer word and the end of text."""
        return [*self.answer_marker(), *self.answer_word(label), self.backbone.eos_id]

    def answer_marker(self) -> list[int]:
        """Return the tokens that come before the answer word."""
        return self.backbone.encode(self.card.answer)

    def answer_word(self, label: int) -> list[int]:
        """Return the tokens of the answer word of class `label`."""
        return self.backbone.encode(" " + self.card.answers[label])


def _shares(lengths: list[int], room: int) -> list[int]:
    """Return how many tokens each of these parts keeps: the longest are cut to about one length."""
    shares = [0] * len(lengths)
    left = max(0, room)
    for rank, place in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        shares[place] = min(lengths[place], left // (len(lengths) - rank))
        left -= shares[place]
    return shares


def _cut(part: list[int], cut: Cut | None, length: int) -> list[int]:
    """Return `length` tokens of `part`, cut from the end that `cut` names; all of them if it names none."""
    if cut is None:
        return part
    return part[:length] if cut == "end" else part[len(part) - length :]
