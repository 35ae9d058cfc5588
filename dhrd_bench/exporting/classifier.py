"""An exported classifier at work: rows in, classes and probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.contracts import Example, Prompt
from dhrd_bench.data.prompts import Renderer
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.exporting.adapted import CONFIG, with_adapter
from dhrd_bench.exporting.description import Description, read_description
from dhrd_bench.exporting.model import register
from dhrd_bench.modeling.encode import Encoder

BATCH = 32
"""Inputs that are read together."""


@dataclass(frozen=True)
class Answer:
    """The class of a row, and how probable the model takes each class to be."""

    label: str
    probabilities: dict[str, float]


class _Tokenizer(Tokens):
    """The tokenizer as the encoder of the harness uses it."""

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


class Classifier:
    """What `load` returns: a model, its tokenizer, and how its task asks.

    Attributes
    ----------
    model, tokenizer
        Those of the library, of which a pipeline can be made.
    about
        What the exported folder says of itself.
    """

    def __init__(self, model: Any, tokenizer: Any, about: Description) -> None:
        self.model, self.tokenizer, self.about = model, tokenizer, about
        self._renderer = Renderer(about.prompt, about.task.answers)
        budget, pause = about.budget, about.pause
        if about.encoder:  # there the tokenizer itself puts the pauses behind the end of a text
            budget, pause = budget.model_copy(update={"max_length": budget.max_length + pause}), 0
        tokens: Any = _Tokenizer(tokenizer, ends=about.encoder)
        self._encoder = Encoder(tokens, budget, about.task, pause=pause)

    def prompts(self, row: Mapping[str, Any], place: str = "row") -> list[Prompt]:
        """Return the texts that are asked about `row`: one, or one a candidate.

        A row without the task's fields may have its whole text as ``text``.

        Raises
        ------
        UserError
            If a field is not there or is none, with the `place` of the row.
        """
        about = self.about
        missing = [name for name in about.fields if name not in row]
        if missing and "text" in row and len(about.prompt.candidates) == 0:
            return [Prompt("", _text(row, "text", place), "")]
        if missing:
            raise UserError(f"{place}: there is no {missing[0]!r}.", did_you_mean(missing[0], map(str, row)))
        for name in about.fields:
            if not isinstance(row[name], str | bool | int | float):
                raise UserError(f"{place}: {name!r} is no text and no number.", "Write one.")
        return self._renderer.render({name: row[name] for name in about.fields}, place)

    def predict(self, rows: Sequence[Mapping[str, Any]], batch: int = BATCH) -> list[Answer]:
        """Answer `rows`, in their order.

        Raises
        ------
        UserError
            If a row has no such fields.
        """
        return self.answers([self.prompts(row, f"row {number}") for number, row in enumerate(rows, 1)], batch)

    def answers(self, asked: Sequence[Sequence[Prompt]], batch: int = BATCH) -> list[Answer]:
        """Answer rows that are asked so, see `prompts`."""
        logits = self.logits([prompt for prompts in asked for prompt in prompts], batch)
        if self.about.prompt.candidates:  # a candidate's score is its margin of yes over no
            logits = (logits[:, 1] - logits[:, 0]).reshape(len(asked), -1)
        shares = torch.softmax(logits.double(), -1)
        classes = self.about.classes
        return [
            Answer(classes[int(row.argmax())], dict(zip(classes, each.tolist(), strict=True)))
            for row, each in zip(logits, shares, strict=True)
        ]

    @torch.inference_mode()
    def logits(self, prompts: Sequence[Prompt], batch: int = BATCH) -> torch.Tensor:
        """Return float32 logits ``(n, K)`` of input texts, in their order; the longest are read first."""
        ids = [self._encoder.input(Example(str(number), prompt)) for number, prompt in enumerate(prompts)]
        out = torch.zeros(len(ids), len(self.about.task.labels))
        for places in _batches(sorted(range(len(ids)), key=lambda place: -len(ids[place])), batch):
            longest = len(ids[places[0]])
            padded = torch.full((len(places), longest), int(self.tokenizer.pad_token_id))
            mask = torch.zeros_like(padded)
            for row, place in enumerate(places):
                padded[row, : len(ids[place])] = torch.tensor(ids[place])
                mask[row, : len(ids[place])] = 1
            device = self.model.device
            found = self.model(input_ids=padded.to(device), attention_mask=mask.to(device)).logits
            out[places] = found.float().cpu()
        return out


def load(folder: Path | str, device: str = "cpu", backbone: str | None = None) -> Classifier:
    """Load the classifier that ``dhrd-bench export`` wrote into `folder`; no code of the folder runs.

    Parameters
    ----------
    folder
        The exported folder.
    device
        Where it is to work.
    backbone
        Where the folder holds adapters only, what they are put on, if not the backbone that it names.

    Raises
    ------
    UserError
        If it cannot be loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    register()
    path = Path(folder)
    about = read_description(path)
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        if (path / CONFIG).is_file():
            model = with_adapter(path, about, backbone)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(path, use_safetensors=True, **options)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"The classifier in {path} cannot be loaded: {reason}.", "Export it again.") from error
    if model.config.num_labels != len(about.task.labels) or tokenizer.pad_token_id is None:
        raise UserError(f"The files in {path} are not of one classifier.", "Export it again.")
    return Classifier(model.to(device).eval(), tokenizer, about)


def _batches(places: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    if not isinstance(row[name], str):
        raise UserError(f"{place}: {name!r} is no text.", "Write one.")
    return str(row[name])
