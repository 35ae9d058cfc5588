"""Scoring the answer words: the class is the one whose word the LM would rather write."""

from __future__ import annotations

from collections.abc import Sequence

from dhrd_bench.backbones import backbone_of
from dhrd_bench.contracts import Context, Example, Predictions
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.fitted import Fitted


def score_labels(
    fitted: Fitted, examples: Sequence[Example], context: Context, *, prefix: str = "", suffix: str = ""
) -> Predictions:
    """Predict the class whose answer word is the likeliest after the input and the answer marker.

    A class's score is the log-probability of its whole answer, summed over the answer's tokens, in nats.
    It is not divided by the length: after fine-tuning the sum is the probability of the answer itself,
    and a mean would favour long answers whose end follows from their beginning. Where one answer is
    the beginning of another, the end of text counts as part of all of them.

    An answer of one token costs no more than reading the input. A row's result does not depend on its
    neighbours.

    Parameters
    ----------
    fitted
        A fine-tuned model, or ``Fitted(card)`` for the untrained backbone.
    examples
        Inputs; returned in this order.
    context
        Backbone, budget and the clock.
    prefix, suffix
        Put around the input, as in training.

    Returns
    -------
    Predictions
        Labels and ``(n, K)`` log-probabilities.
    """
    backbone = backbone_of(context)
    encoder = fitted.activate(backbone, context.budget)
    answers = answers_apart(encoder)
    tail = sum(len(answer) - 1 for answer in answers)  # tokens read beside the prompt: all but each answer's last
    marker = encoder.answer_marker()
    prompts = [encoder.input(example, prefix, suffix) + marker for example in examples]
    scores: list[list[float]] = [[]] * len(prompts)
    done = 0
    for places, table in engine_of(backbone).log_likelihoods(prompts, answers):
        for i, row in zip(places, table, strict=True):
            scores[i] = row
        done += len(places)
        context.lap(len(places))
        context.progress("predict", done, len(prompts), {})
    return Predictions(
        labels=[max(range(len(row)), key=row.__getitem__) for row in scores],
        scores=scores,
        tokens_in=[len(prompt) + tail for prompt in prompts],
        tokens_out=[0] * len(prompts),
        truncated=len(encoder.truncated),
    )


def answers_apart(encoder: Encoder) -> list[list[int]]:
    """Return each class's answer in tokens, so that none is the beginning of another."""
    answers = [encoder.answer_word(label) for label in range(len(encoder.card.answers))]
    nested = any(a != b and b[: len(a)] == a for a in answers for b in answers)
    return [[*answer, encoder.backbone.eos_id] for answer in answers] if nested else answers
