"""Text before every input, as the examples of a few-shot prompt are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dhrd_bench.contracts import Context, Example


def with_shots(shots: str, examples: Sequence[Example], context: Context) -> tuple[list[Example], Context]:
    """Put `shots` before each input, for `score_labels`, `generate` or `classify`.

    They are text, in which the name of a special token is text, as in an input; in a ``prefix`` it would be the token.

    Returns
    -------
    examples, context
        The examples behind the shots, and a context whose limit has room for them: of an input as much is left as
        without shots.
    """
    length = len(shots)
    behind = []
    for example in examples:
        prompt = example.prompt
        marked = tuple((first + length, last + length, cut) for first, last, cut in prompt.context)
        behind.append(replace(example, prompt=replace(prompt, before=shots + prompt.before, context=marked)))
    limit = context.budget.max_length + len(context.backbone.encode(shots))
    return behind, replace(context, budget=context.budget.model_copy(update={"max_length": limit}))
