"""An exported classifier as an ONNX graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dhrd_bench.contracts import Prompt
from dhrd_bench.errors import UserError
from dhrd_bench.exporting.classifier import Classifier

FILE = "model.onnx"
CLOSE = 1e-3
"""How far its logits may be from those of torch, relative to the larger of 1 and their size."""

COMPARED, ALONE = 32, 4
"""Inputs that are compared in one padded batch, and by themselves, as padding is to make no difference."""


def write_onnx(folder: Path, classifier: Classifier, prompts: Sequence[Prompt]) -> float:
    """Write ``model.onnx``, from ``input_ids`` and ``attention_mask`` to ``logits``, for any number and length of rows.

    Parameters
    ----------
    folder
        The exported folder.
    classifier
        What was loaded from it.
    prompts
        Inputs on which the two are compared.

    Returns
    -------
    float
        The largest difference of two logits, relative to the larger of 1 and their size.

    Raises
    ------
    UserError
        If the extra is not installed, the model has no such graph, or the graph's answers are others.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch writes the graph with it
    except ImportError as error:
        raise UserError(f"--onnx needs {error.name}.", "Install it: pip install 'dhrd-bench[onnx]'.") from error
    model = _Logits(classifier.model.to("cpu", torch.float32)).eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, int(classifier.tokenizer.pad_token_id)]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    rows, length = torch.export.Dim("rows"), torch.export.Dim("length")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            model, (ids, mask), input_names=["input_ids", "attention_mask"], output_names=["logits"], dynamo=True,
            dynamic_shapes={"input_ids": {0: rows, 1: length}, "attention_mask": {0: rows, 1: length}}, verbose=False,
        )  # fmt: skip
        assert program is not None
        program.save(str(folder / FILE))
    except Exception as error:  # whatever a model's code does that has no graph
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{type(classifier.model).__name__} has no ONNX graph: {reason}.", "Leave --onnx out."
        ) from error
    session = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
    return _distance(session, classifier, prompts[:COMPARED])


def _distance(session: Any, classifier: Classifier, prompts: Sequence[Prompt]) -> float:
    """Return how far the graph's logits are from the model's."""
    ours = classifier.logits(prompts)
    texts = [prompt.text for prompt in prompts]
    kept = [place for place, text in enumerate(texts) if _whole(classifier, text)]
    distance = 0.0
    for places in filter(None, (kept, *([place] for place in kept[:ALONE]))):
        batch = classifier.tokenizer([texts[place] for place in places], padding=True, return_tensors="np")
        given = {name: batch[name].astype("int64") for name in ("input_ids", "attention_mask")}
        theirs = torch.from_numpy(session.run(None, given)[0])
        size = ours[places].abs().maximum(theirs.abs()).clamp(min=1)
        distance = max(distance, float(((ours[places] - theirs).abs() / size).max()))
    if not distance <= CLOSE:
        raise UserError(
            f"The ONNX graph answers otherwise: logits lie up to {distance:.2g} apart.", "Leave --onnx out."
        )
    return distance


def _whole(classifier: Classifier, text: str) -> bool:
    return len(classifier.tokenizer(text)["input_ids"]) <= classifier.about.max_length


class _Logits(torch.nn.Module):
    """The model as a function of ids and mask to logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits
