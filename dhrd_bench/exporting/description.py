"""What lies beside an exported classifier's weights: how a row becomes what the model reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from dhrd_bench.contracts import Budget, Card, TaskCard
from dhrd_bench.data.cards import PromptCard
from dhrd_bench.data.prompts import inspect
from dhrd_bench.errors import UserError, first_misfit
from dhrd_bench.untrusted import read_text

FILE = "dhrd_bench.json"


class Origin(Card):
    """Which record the classifier is of.

    Attributes
    ----------
    record, identity
        The cell's place in a folder of results, and its identity.
    backbone, hub_id, revision
        The weights that it began with.
    """

    record: str
    identity: str
    suite: str
    method: str
    backbone: str
    hub_id: str = ""
    revision: str
    budget: str
    seed: int


class Description(Card):
    """How rows are asked, and what the answers are called; ``dhrd_bench.json`` in an exported folder.

    Attributes
    ----------
    version
        Version of this form.
    task
        The task as the method saw it; its labels are those of the model.
    classes
        The classes of a row: the model's labels, or, where a row is asked one candidate at a time, one a candidate.
    fields
        What a row has to have.
    prompt
        Templates that make the input text of a row's fields, see ``docs/prompts.md``.
    max_length, pause
        Tokens of an input, of which only the passage is cut; fillers behind it.
    encoder
        Whether the backbone reads both ways.
    origin
        Where it comes from.
    """

    version: Literal["1.0.0"] = "1.0.0"
    task: TaskCard
    classes: tuple[str, ...] = Field(min_length=2)
    fields: tuple[str, ...]
    prompt: PromptCard
    max_length: int = Field(gt=0)
    pause: int = Field(0, ge=0)
    encoder: bool = False
    origin: Origin

    @property
    def budget(self) -> Budget:
        """The limits under which a row is encoded."""
        return Budget(name="exported", max_length=self.max_length)

    @field_validator("prompt")
    @classmethod
    def _harmless(cls, prompt: PromptCard) -> PromptCard:
        for template in templates_of(prompt):
            if problem := inspect(template)[0]:
                raise ValueError(problem)
        return prompt


def templates_of(prompt: PromptCard) -> tuple[str, ...]:
    """Return all templates of `prompt`."""
    return (prompt.text, prompt.instruction, *prompt.let.values(), *prompt.candidates)


def fields_of(prompt: PromptCard, known: Iterable[str]) -> tuple[str, ...]:
    """Return which of the `known` fields `prompt` uses, in their order."""
    used = frozenset[str]().union(*(inspect(template)[1] for template in templates_of(prompt)))
    return tuple(name for name in known if name in used)


def read_description(folder: Path) -> Description:
    """Read the description of the classifier in `folder`.

    Raises
    ------
    UserError
        If there is none, or it is none.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder} holds no exported classifier: there is no {FILE}.", "Name what `export` wrote.")
    try:
        return Description.model_validate_json(read_text(path))
    except (ValidationError, ValueError) as error:
        reason = first_misfit(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{path} describes no classifier: {reason}.", "Export it again.") from error
