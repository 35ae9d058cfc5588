"""Generating a rationale and an answer, and reading the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dhrd_bench.contracts import Context, Example, Predictions
from dhrd_bench.inference.answers import parse_answer
from dhrd_bench.inference.decode import Stop, decode
from dhrd_bench.training.fitted import Fitted


def generate(
    fitted: Fitted, examples: Sequence[Example], context: Context, *, lead: str = "", prefix: str = "", suffix: str = ""
) -> Predictions:
    """Let the LM write after each input, and parse the answer from what it wrote.

    Parameters
    ----------
    fitted
        A fine-tuned model, or ``Fitted(card)`` for the untrained backbone.
    examples
        Inputs; returned in this order.
    context
        Backbone, budget (its `Decoding`) and the clock.
    lead
        Text given after the input, from which the LM goes on: the reason marker to have it reason, the
        answer marker to have it answer at once.
    prefix, suffix
        Put around the input, as in training.

    Returns
    -------
    Predictions
        Labels (`UNPARSABLE` where no answer could be read), texts, token counts; scores are the
        log-probabilities of the answer words' first tokens right behind the answer marker, uniform
        where the marker was never reached.
    """
    backbone, decoding = context.backbone, context.budget.decoding
    encoder = fitted.activate(backbone, context.budget)
    card = fitted.card
    lead_ids = backbone.encode(lead) if lead else []
    prompts = [encoder.input(example, prefix, suffix) + lead_ids for example in examples]
    answers = [encoder.answer_word(label) for label in range(len(card.answers))]
    marker = tuple(encoder.answer_marker())
    answering = lead == card.answer
    longest = max(len(answer) for answer in answers) + 1
    stop = Stop(() if answering else marker, longest, tuple(answer[0] for answer in answers))
    if answering:
        decoding = decoding.model_copy(update={"max_new_tokens": longest})
    done = 0

    def finished(rows: int, tokens: int) -> None:
        nonlocal done
        done += rows
        context.lap(rows)
        context.progress("predict", done, len(examples), {"tokens a row": tokens / rows})

    results = decode(backbone, prompts, decoding, stop, context.stream("decode"), finished)
    texts = [lead + backbone.decode(result.ids) for result in results]
    uniform = [-math.log(len(answers))] * len(answers)
    return Predictions(
        labels=[parse_answer(text, card) for text in texts],
        scores=[result.after_marker or uniform for result in results],
        texts=texts,
        tokens_in=[len(prompt) for prompt in prompts],
        tokens_out=[result.steps for result in results],
        truncated=len(encoder.truncated),
    )
