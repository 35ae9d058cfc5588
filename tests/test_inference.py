"""Scoring and generation against Hugging Face's own forward pass, and reading answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import toy_rows
from hypothesis import given
from hypothesis import strategies as st
from slow import log_likelihood, slow_hidden

from dhrd_bench import Fitted, registry, score_labels
from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import UNPARSABLE, Context, Decoding, TaskCard, TaskData
from dhrd_bench.inference.answers import parse_free_answer, vote
from dhrd_bench.inference.decode import _choose, decode
from dhrd_bench.inference.engine import Continuation, Stop
from dhrd_bench.inference.generation import chat_turn, generate
from dhrd_bench.modeling.encode import Encoder

GREEDY = Decoding(max_new_tokens=10, batch_size=3)
SAMPLED = Decoding(max_new_tokens=10, batch_size=3, temperature=1.0, top_p=0.9)


# ---------------------------------------------------------------- label words


@pytest.mark.parametrize(
    ("answers", "end"),
    [
        (("No", "Yes"), False),
        (("A", "B", "C"), False),
        (("True", "False", "Neither one"), False),
        (("No", "Not at all"), True),  # the first is the beginning of the second: the end of text tells them apart
    ],
)
def test_scores_are_the_log_likelihoods_of_the_whole_answers(
    answers: tuple[str, ...], end: bool, card: TaskCard, context: Context
) -> None:
    card = card.model_copy(update={"answers": answers, "labels": answers})
    examples = [row.example for row in toy_rows(9)]
    predicted = score_labels(Fitted(card), examples, context)
    encoder, backbone = Encoder(context.backbone, context.budget, card), context.backbone
    tail = [backbone.eos_id] if end else []
    for example, scores, label in zip(examples, predicted.scores or [], predicted.labels, strict=True):
        prompt = encoder.input(example) + backbone.encode(card.answer)
        slow = [log_likelihood(backbone, prompt, backbone.encode(f" {answer}") + tail) for answer in answers]
        assert scores == pytest.approx(slow, rel=1e-4)
        assert label == int(np.argmax(slow))
    assert predicted.tokens_out == [0] * 9


def test_single_token_answers_read_the_prompt_alone(
    card: TaskCard, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No branch, no second pass: the answers' only tokens are predicted from the prompt's last position."""
    backbone = context.backbone
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(Encoder, "answer_word", lambda self, label: [70 + label])
    monkeypatch.setattr(
        backbone,
        "hidden",
        lambda ids, lengths, **k: (
            seen.append((len(ids), sum(lengths))) or ids.new_zeros(len(ids), backbone.width).float()
        ),
    )
    predicted = score_labels(Fitted(card), [row.example for row in toy_rows(3)], context)
    assert seen == [(sum(predicted.tokens_in), sum(predicted.tokens_in))]


def test_scores_do_not_depend_on_neighbours(toy: TaskData, context: Context) -> None:
    examples = [row.example for row in toy.train]
    together = score_labels(Fitted(toy.card), examples, context).scores
    alone = [score_labels(Fitted(toy.card), [example], context).scores[0] for example in reversed(examples)]  # type: ignore[index]
    np.testing.assert_allclose(together, alone[::-1], rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- decoding


def prompts(count: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(2, 258, 4 + 3 * (i % 4)).tolist() for i in range(count)]


def test_greedy_decoding_equals_the_argmax_of_whole_passes(tiny: Backbone) -> None:
    for prompt, found in zip(prompts(5), decode(tiny, prompts(5), GREEDY, Stop((), 0), [0] * 5), strict=True):
        ids = list(prompt)
        for _ in range(10):
            ids.append(int((slow_hidden(tiny, ids)[-1] @ tiny.head_weight.T).argmax()))
            if ids[-1] == tiny.eos_id:
                break
        assert found.ids == [token for token in ids[len(prompt) :] if token != tiny.eos_id]
        assert found.steps == len(ids) - len(prompt)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED])
def test_a_row_does_not_depend_on_its_batch(tiny: Backbone, decoding: Decoding) -> None:
    rows, seeds = prompts(7), list(range(7))
    together = [found.ids for found in decode(tiny, rows, decoding, Stop((), 0), seeds)]
    backwards = decode(tiny, rows[::-1], decoding.model_copy(update={"batch_size": 7}), Stop((), 0), seeds[::-1])
    alone = [decode(tiny, [row], decoding, Stop((), 0), [seed])[0].ids for row, seed in zip(rows, seeds, strict=True)]
    assert together == [found.ids for found in backwards][::-1] == alone


def test_samples_share_the_prompt_and_nothing_else(tiny: Backbone) -> None:
    rows = prompts(4)
    once = [found.ids for found in decode(tiny, rows, SAMPLED, Stop((), 0), [5] * 4)]
    thrice = [found.ids for found in decode(tiny, rows, SAMPLED, Stop((), 0), [5] * 4, samples=3)]
    assert len(thrice) == 12
    assert thrice[::3] == once
    assert all(len({tuple(ids) for ids in thrice[i : i + 3]}) > 1 for i in range(0, 12, 3))
    assert once != [found.ids for found in decode(tiny, rows, SAMPLED, Stop((), 0), [6] * 4)]


def test_sampling_follows_the_nucleus() -> None:
    probabilities = torch.tensor([0.4, 0.05, 0.25, 0.2, 0.1])
    streams = [np.random.default_rng(i) for i in range(4000)]
    settings = Decoding(temperature=1.0, top_p=0.7)
    drawn = _choose(probabilities.log().expand(4000, -1), settings, streams)
    shares = torch.bincount(drawn, minlength=5) / 4000
    # 0.4 + 0.25 is below 0.7, so the third one belongs to the nucleus as well.
    expected = torch.tensor([0.4, 0, 0.25, 0.2, 0]) / 0.85
    torch.testing.assert_close(shares, expected, atol=0.03, rtol=0)
    assert shares[1] == shares[4] == 0
    hot = _choose(probabilities.log().expand(4000, -1), Decoding(temperature=0.5), streams)
    squared = probabilities**2 / (probabilities**2).sum()
    torch.testing.assert_close(torch.bincount(hot, minlength=5) / 4000, squared, atol=0.03, rtol=0)


def test_generation_stops_behind_the_answer(tiny: Backbone) -> None:
    row = prompts(1)
    (free,) = decode(tiny, row, SAMPLED, Stop((), 0), [0])
    marker = tuple(free.ids[2:4])
    (stopped,) = decode(tiny, row, SAMPLED, Stop((marker,), 3, (5, 6)), [0])
    assert stopped.ids == free.ids[:7]
    assert stopped.marker_end == 4
    prefix = row[0] + free.ids[:4]
    expected = torch.log_softmax(slow_hidden(tiny, prefix)[-1] @ tiny.head_weight.T, dim=-1)[[5, 6]]
    assert stopped.after_marker == pytest.approx(expected.tolist(), rel=1e-4)
    (at_once,) = decode(tiny, row, SAMPLED, Stop(((),), 2, (5, 6)), [0])
    assert at_once.ids == free.ids[:2]
    expected = torch.log_softmax(slow_hidden(tiny, row[0])[-1] @ tiny.head_weight.T, dim=-1)[[5, 6]]
    assert at_once.after_marker == pytest.approx(expected.tolist(), rel=1e-4)


# ---------------------------------------------------------------- generate


class Scripted:
    """Replaces `decode` by texts written beforehand."""

    def __init__(self, backbone: Backbone, texts: Sequence[str]) -> None:
        self.backbone, self.texts = backbone, list(texts)
        self.decoding: Decoding | None = None
        self.prompts: list[list[int]] = []

    def __call__(self, backbone: Backbone, prompts: list[list[int]], decoding: Decoding, *rest: Any) -> list[Any]:
        self.decoding, self.prompts = decoding, prompts
        ids = [backbone.encode(text) for text in self.texts]
        return [Continuation(each, len(each)) for each in ids]


def test_self_consistency_takes_the_majority(toy: TaskData, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "\nFinal Answer: Yes",
        "\nFinal Answer: No",
        "\nFinal Answer: Yes",
        "mumbling",
        "\nFinal Answer: No",
        "\nWell",
    ]
    script = Scripted(context.backbone, texts)
    monkeypatch.setattr("dhrd_bench.inference.transformers.decode", script)
    examples = [row.example for row in toy.train[:2]]
    predicted = generate(Fitted(toy.card), examples, context, lead=toy.card.reason, samples=3)
    assert predicted.labels == [1, 0]
    assert predicted.scores == [[1 / 3, 2 / 3], [1 / 3, 0.0]]
    assert predicted.tokens_out == [sum(len(text) for text in texts[:3]), sum(len(text) for text in texts[3:])]
    # The budget is greedy, and three greedy texts would be one.
    assert script.decoding is not None
    assert (script.decoding.temperature, script.decoding.top_p) == (0.1, 0.7)
    assert script.decoding.max_new_tokens == context.budget.decoding.max_new_tokens


@pytest.mark.parametrize(
    ("name", "settings"), [("budget", (0.0, 1.0, 12)), ("paper", (0.1, 0.7, 500)), ("diverse", (0.7, 1.0, 12))]
)
def test_named_decodings(
    name: Any, settings: tuple[float, float, int], toy: TaskData, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted(context.backbone, [""])
    monkeypatch.setattr("dhrd_bench.inference.transformers.decode", script)
    generate(Fitted(toy.card), [toy.train[0].example], context, decoding=name)
    assert script.decoding is not None
    assert (script.decoding.temperature, script.decoding.top_p, script.decoding.max_new_tokens) == settings


def test_an_answer_read_without_its_marker_has_a_margin(
    toy: TaskData, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dhrd_bench.inference.transformers.decode", Scripted(context.backbone, ["final answer is no", "hm"])
    )
    examples = [row.example for row in toy.train[:2]]
    predicted = generate(Fitted(toy.card), examples, context, read=parse_free_answer)
    assert predicted.labels == [0, UNPARSABLE]
    assert predicted.scores is not None
    assert predicted.scores[0] == [0.0, -1.0]
    assert predicted.scores[1][0] == predicted.scores[1][1]


@pytest.mark.parametrize("tail", ["\n\n- **Yes**", " the correct answer is **Yes**"])
def test_an_lm_that_was_never_trained_on_the_form_has_room_for_its_own(
    tail: str, toy: TaskData, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny tokenizer has one token a byte, so a trained LM's room ends before either answer."""
    backbone = context.backbone
    written = backbone.encode(f"{toy.card.answer}{tail}, and on it goes without an end")

    def written_until(stop: Stop) -> list[Any]:
        end = next(n for n in range(len(written)) if stop.found(written[:n])) + stop.after
        return [Continuation(written[:end], end)]

    monkeypatch.setattr("dhrd_bench.inference.transformers.decode", lambda *given: written_until(given[3]))
    example = [toy.train[0].example]
    assert generate(Fitted(toy.card), example, context, read=parse_free_answer).labels == [1]
    assert generate(Fitted(toy.card), example, context).labels == [UNPARSABLE]


@pytest.fixture
def chatty(tiny: Backbone) -> Iterator[Backbone]:
    tiny.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    yield tiny
    tiny.tokenizer.chat_template = None


def test_a_chat_template_is_used_where_there_is_one(chatty: Backbone) -> None:
    assert chat_turn(chatty, "Think.") == ("<user>", "\n\nThink.</user><assistant>")


def test_plain_text_where_there_is_none(tiny: Backbone) -> None:
    assert chat_turn(tiny, "Think.") == ("", "\n\nThink.")
    assert chat_turn(tiny, "") == ("", "")


def test_the_prompted_method_asks_in_a_chat_turn(
    chatty: Backbone, toy: TaskData, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted(chatty, ["**Final answer:** Yes."])
    monkeypatch.setattr("dhrd_bench.inference.transformers.decode", script)
    made = registry.methods.get("cot-zeroshot")()
    card = toy.card.model_copy(update={"instruction": "Think, then answer."})
    made.fit(TaskData(card, (), ()), context)
    assert made.predict([toy.train[0].example], context).labels == [1]
    text = chatty.decode(script.prompts[0])
    assert text.startswith("<user>Text: ")
    assert text.endswith("even?\n\nThink, then answer.</user><assistant>")


# ---------------------------------------------------------------- votes


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=9))
def test_vote(labels: list[int]) -> None:
    winner, shares = vote(labels, 4)
    read = [label for label in labels if label != UNPARSABLE]
    assert sum(shares) == pytest.approx(len(read) / len(labels))
    if not read:
        assert winner == UNPARSABLE
    else:
        assert shares[winner] == max(shares)
        tied = [label for label in read if shares[label] == max(shares)]
        assert winner == tied[0]
