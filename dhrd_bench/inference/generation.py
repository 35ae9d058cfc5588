"""Generating a rationale and an answer, and reading the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from dhrd_bench.backbones import backbone_of
from dhrd_bench.backbones.tokens import INPUT, chat_around
from dhrd_bench.contracts import (
    UNPARSABLE,
    Context,
    Decoding,
    Example,
    LanguageModel,
    Predictions,
    TaskCard,
    derive_seed,
)
from dhrd_bench.inference.answers import parse_answer, vote
from dhrd_bench.inference.engine import Continuation, Engine, Stop
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.inference.score import answers_apart
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.fitted import Fitted

DecodingName = Literal["budget", "paper", "diverse"]

DECODINGS: dict[str, dict[str, float]] = {
    "paper": {"temperature": 0.1, "top_p": 0.7, "max_new_tokens": 500},
    "diverse": {"temperature": 0.7, "top_p": 1.0},
}
"""Named ways to sample: as Xu et al. 2025 decode, and as Wang et al. 2023 do for self-consistency."""

FREE_ROOM = 24
"""Tokens behind the marker, beyond the word's own, for an LM that never saw the form of an answer: it puts empty lines,
bullets, bold or "the answer is" before the word, and behind it what takes the answer back ("or No")."""


def generate(
    fitted: Fitted,
    examples: Sequence[Example],
    context: Context,
    *,
    lead: str = "",
    prefix: str = "",
    suffix: str = "",
    samples: int = 1,
    decoding: DecodingName = "budget",
    read: Callable[[str, TaskCard], int] = parse_answer,
) -> Predictions:
    """Let the LM write after each input, and read the answer from what it wrote.

    Parameters
    ----------
    fitted
        A fine-tuned model, or ``Fitted(card)`` for the untrained backbone.
    examples
        Inputs; returned in this order.
    context
        Backbone, budget and the clock.
    lead
        Text given after the input, from which the LM goes on: the reason marker to have it reason, the
        answer marker to have it answer at once, and then only as many tokens as an answer has.
    prefix, suffix
        Put around the input, as in training.
    samples
        Texts per input. With more than one, the answer most of them agree on counts
        (self-consistency, Wang et al. 2023, arXiv 2203.11171); see `vote`.
    decoding
        ``budget``, or one of `DECODINGS`. Several samples need a temperature: where the budget is greedy,
        they take the paper's with the budget's length. Sampling is seeded by the cell and the input.
    read
        Reads a class out of a text. `parse_answer` is for an LM that has learnt to end a text with marker and word;
        with any other it may write `FREE_ROOM` more tokens behind the marker.

    Returns
    -------
    Predictions
        Labels (`UNPARSABLE` where no answer could be read), texts, token counts. Scores are the
        log-probabilities of the answer words' first tokens right behind the answer marker; of the whole words,
        read once more as `score_labels` does, where first tokens do not tell all words apart. Where an
        answer was read without the marker's own tokens it has 0 and the others -1; where none was, all
        have the same. With several samples they are the shares of the votes.
    """
    backbone, settings = backbone_of(context), _settings(context.budget.decoding, decoding, samples)
    encoder = fitted.activate(backbone, context.budget)
    card = fitted.card
    lead_ids = backbone.encode(lead) if lead else []
    prompts = [encoder.input(example, prefix, suffix) + lead_ids for example in examples]
    room = 1 if read is parse_answer else FREE_ROOM
    stop = _stop(encoder, room, answering=lead == card.answer)
    if lead == card.answer:
        settings = settings.model_copy(update={"max_new_tokens": stop.after})
    done = 0

    def finished(rows: int, tokens: int) -> None:
        nonlocal done
        done += rows
        context.lap(rows)
        context.progress("predict", done, len(examples), {"tokens a row": tokens / rows})

    seeds = [derive_seed(str(context.stream("decode")), str(prompt)) for prompt in prompts]
    results = engine_of(backbone).continuations(prompts, settings, stop, seeds, samples, finished)
    if samples == 1 and not stop.watch:
        _score_whole_words(results, prompts, answers_apart(encoder), engine_of(backbone))
    texts = [lead + backbone.decode(result.ids) for result in results]
    labels = [read(text, card) for text in texts]
    scores = [_scores(*pair, len(card.answers)) for pair in zip(results, labels, strict=True)]
    steps = [result.steps for result in results]
    if samples > 1:
        groups = [slice(start, start + samples) for start in range(0, len(results), samples)]
        votes = [vote(labels[group], len(card.answers)) for group in groups]
        labels, scores = [label for label, _ in votes], [shares for _, shares in votes]
        texts = ["\n\n".join(texts[group]) for group in groups]
        steps = [sum(steps[group]) for group in groups]
    return Predictions(
        labels=labels,
        scores=scores,
        texts=texts,
        tokens_in=[len(prompt) for prompt in prompts],
        tokens_out=steps,
        truncated=len(encoder.truncated),
    )


def chat_turn(backbone: LanguageModel, request: str) -> tuple[str, str]:
    """Return what to put before and after an input to ask `request` of it.

    A user's turn where the tokenizer has a chat template; plain text, ending where the LM is to go on,
    where it has none.
    """
    turn = f"\n\n{request}" if request else ""
    if not getattr(backbone.tokenizer, "chat_template", None):
        return "", turn
    return chat_around(backbone.tokenizer, [{"role": "user", "content": INPUT + turn}])


def _settings(budget: Decoding, name: DecodingName, samples: int) -> Decoding:
    if name != "budget":
        return budget.model_copy(update=DECODINGS[name])
    if samples > 1 and budget.temperature == 0:
        sampling = {key: value for key, value in DECODINGS["paper"].items() if key != "max_new_tokens"}
        return budget.model_copy(update=sampling)
    return budget


def _stop(encoder: Encoder, room: int, *, answering: bool) -> Stop:
    """Stop `room` tokens after the longest answer's length; `answering` if the marker has been given already.

    The answers' first tokens are watched if they tell all answers apart, else nothing is.
    """
    answers = [encoder.answer_word(label) for label in range(len(encoder.card.answers))]
    after = max(len(answer) for answer in answers) + room
    # An LM that was not trained on the marker often puts an empty line before it.
    markers = [[]] if answering else [encoder.answer_marker(), encoder.backbone.encode("\n" + encoder.card.answer)]
    first = tuple(answer[0] for answer in answers)
    return Stop(tuple(map(tuple, markers)), after, first if len(set(first)) == len(first) else ())


def _score_whole_words(
    results: Sequence[Continuation], prompts: Sequence[list[int]], answers: Sequence[list[int]], engine: Engine
) -> None:
    """Note the log-probability of each whole answer behind the marker, where one was written or given."""
    places = [place for place, result in enumerate(results) if result.marker_end is not None]
    read = [prompts[place] + results[place].ids[: results[place].marker_end] for place in places]
    for found, table in engine.log_likelihoods(read, answers):
        for number, row in zip(found, table, strict=True):
            results[places[number]].after_marker = row


def _scores(result: Continuation, label: int, classes: int) -> list[float]:
    if result.after_marker is not None:
        return result.after_marker
    if label == UNPARSABLE:
        return [-math.log(classes)] * classes
    return [0.0 if each == label else -1.0 for each in range(classes)]
