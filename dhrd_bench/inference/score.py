"""Scoring the answer words: the class is the one whose word the LM would rather write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dhrd_bench.contracts import Context, Example, Predictions
from dhrd_bench.inference.classification import PACK_TOKENS
from dhrd_bench.training.batches import packs
from dhrd_bench.training.encode import Encoder
from dhrd_bench.training.fitted import Fitted


@torch.inference_mode()
def score_labels(
    fitted: Fitted, examples: Sequence[Example], context: Context, *, prefix: str = "", suffix: str = ""
) -> Predictions:
    """Predict the class whose answer word is the likeliest after the input and the answer marker.

    A class's score is the log-probability of its whole answer, summed over the answer's tokens, in nats.
    It is not divided by the length: after fine-tuning the sum is the probability of the answer itself,
    and a mean would favour long answers whose end follows from their beginning. Where one answer is
    the beginning of another, the end of text counts as part of all of them.

    All answers of a row share one pass over its input. An answer of one token is read off the input's
    last position; the further tokens of longer ones follow the input as branches that do not see each
    other. Nothing is padded, and a row's result does not depend on its neighbours.

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
    backbone = context.backbone
    encoder = fitted.activate(backbone, context.budget)
    answers = _answers(encoder)
    branches = tuple(len(answer) - 1 for answer in answers if len(answer) > 1)
    tail = [token for answer in answers for token in answer[:-1]]
    marker = encoder.answer_marker()
    prompts = [encoder.input(example, prefix, suffix) + marker for example in examples]
    scores: list[list[float]] = [[]] * len(prompts)
    done = 0
    for pack in packs([len(prompt) + len(tail) for prompt in prompts], PACK_TOKENS):
        ids = torch.tensor([token for i in pack for token in prompts[i] + tail], device=backbone.device)
        lengths = [len(prompts[i]) + len(tail) for i in pack]
        hidden = backbone.hidden(ids, lengths, branches=branches)
        ends = [states[-len(tail) - 1 :] for states in torch.split(hidden, lengths)]
        for i, row in zip(pack, _log_likelihoods(torch.stack(ends), backbone.head_weight, answers), strict=True):
            scores[i] = row
        done += len(pack)
        context.lap(len(pack))
        context.progress("predict", done, len(prompts), {})
    return Predictions(
        labels=[max(range(len(row)), key=row.__getitem__) for row in scores],
        scores=scores,
        tokens_in=[len(prompt) + len(tail) for prompt in prompts],
        tokens_out=[0] * len(prompts),
        truncated=len(encoder.truncated),
    )


def _answers(encoder: Encoder) -> list[list[int]]:
    """Return each class's answer in tokens, so that none is the beginning of another."""
    answers = [encoder.answer_word(label) for label in range(len(encoder.card.answers))]
    nested = any(a != b and b[: len(a)] == a for a in answers for b in answers)
    return [[*answer, encoder.backbone.eos_id] for answer in answers] if nested else answers


def _log_likelihoods(states: Tensor, head: Tensor, answers: Sequence[list[int]]) -> list[list[float]]:
    """Return the log-probability of each answer, ``(n, K)``.

    Parameters
    ----------
    states
        ``(n, 1 + B, d)``: each input's last state and those of its branches, one after the other.
    head
        ``(V, d)`` LM head.
    answers
        Tokens of each answer; each but its last has a state in its branch.
    """
    positions, tokens, owners = [], [], []
    start = 1
    for number, answer in enumerate(answers):
        positions += [0, *range(start, start + len(answer) - 1)]
        tokens += answer
        owners += [number] * len(answer)
        start += len(answer) - 1
    log_probabilities = torch.log_softmax((states @ head.T).float(), dim=-1)[:, positions, tokens]
    totals = log_probabilities.new_zeros(len(states), len(answers))
    table: list[list[float]] = totals.index_add_(
        1, torch.tensor(owners, device=states.device), log_probabilities
    ).tolist()
    return table
