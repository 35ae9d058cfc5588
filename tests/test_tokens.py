"""From text to tokens: where a sequence begins, what is text, what is cut, and what tells answers apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import toy_rows
from hypothesis import given
from hypothesis import strategies as st
from slow import log_likelihood
from tokenizers_small import END, SPECIAL, START, TURN, byte_level, lm, pieces
from torch import Tensor
from typer.testing import CliRunner

from dhrd_bench import FineTuned, Fitted, plugins, registry, score_labels
from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.cli import app
from dhrd_bench.contracts import Budget, Context, Decoding, Example, LabeledExample, Prompt, TaskCard, TaskData
from dhrd_bench.data.cards import PromptCard
from dhrd_bench.data.prompts import Renderer
from dhrd_bench.data.suite import Suite
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.inference.engine import Continuation, Stop
from dhrd_bench.inference.generation import chat_turn, generate
from dhrd_bench.inference.transformers import Transformers
from dhrd_bench.modeling.encode import Encoder
from dhrd_bench.modeling.pooling import Pool
from dhrd_bench.rationales.prompts import Ask
from dhrd_bench.rationales.teachers.local import _encode
from dhrd_bench.request import RunRequest
from dhrd_bench.training.trainer import Trainer

KINDS = pytest.mark.parametrize("make", [byte_level, pieces])
ORDINARY = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("\néß漢🦊"), max_size=30)
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<|turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def ids_of(tokenizer: Any, name: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(name))


# ---------------------------------------------------------------- what begins a sequence


@KINDS
def test_a_sequence_begins_as_the_tokenizer_has_it_and_never_ends_so(make: Callable[..., Any]) -> None:
    """The template of the second kind puts an end behind a text, too."""
    tokens = Tokens(make())
    assert (tokens.start_name, tokens.start) == (START, [ids_of(tokens.tokenizer, START)])
    without = Tokens(make(start=False))
    assert (without.start_name, without.start) == (None, [])
    assert tokens.encode("abc") == without.encode("abc")
    assert ids_of(tokens.tokenizer, END) not in tokens.begun(tokens.encode("abc"))


def test_the_built_in_byte_tokenizer_begins_with_nothing(tiny: Backbone) -> None:
    assert tiny.tokens.start == []


class Recorded(Transformers):
    """The reference engine; it notes every sequence that it is given."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.seen: list[list[int]] = []

    def pooled(self, sequences: Sequence[list[int]], pool: Pool = None) -> Iterator[tuple[list[int], Tensor]]:
        self.seen += sequences
        return super().pooled(sequences, pool)

    def log_likelihoods(self, prompts: Sequence[list[int]], *rest: Any) -> Iterator[tuple[list[int], Any]]:
        self.seen += prompts
        return super().log_likelihoods(prompts, *rest)

    def continuations(self, prompts: Sequence[list[int]], *rest: Any, **settings: Any) -> list[Continuation]:
        self.seen += prompts
        return super().continuations(prompts, *rest, **settings)


def once(sequence: Sequence[int], tokens: Tokens) -> bool:
    """Whether the beginning of text is where it belongs and nowhere else."""
    return list(sequence[:1]) == tokens.start and list(sequence).count(tokens.start[0]) == 1


def predicted_by(name: str, backbone: Backbone, toy: TaskData, budget: Budget) -> list[list[int]]:
    """Return all that a method reads when it predicts."""
    backbone.engine = engine = Recorded(backbone)
    context = Context(backbone, budget.model_copy(update={"epochs": 1}), "toy", 0)
    made = registry.methods.get(name)()
    made.fit(toy, context)
    made.predict([row.example for row in toy_rows(3, 20)], context)
    assert bool(engine.seen) == (made.card.inference != "none")
    return engine.seen


@pytest.mark.parametrize("name", registry.methods.names())
def test_every_method_reads_sequences_that_begin_once(name: str, toy: TaskData, budget: Budget) -> None:
    """Pooled, scored and generated."""
    backbone = lm(byte_level())
    for ids in predicted_by(name, backbone, toy, budget):
        assert once(ids, backbone.tokens)
        assert ids_of(backbone.tokenizer, END) not in ids


@pytest.mark.parametrize("name", [name for name in registry.methods if registry.methods.get(name).card.trains])
def test_every_method_learns_from_sequences_that_begin_once(name: str, toy: TaskData, budget: Budget) -> None:
    backbone, made = lm(byte_level()), registry.methods.get(name)()
    if isinstance(made, FineTuned):  # the others have no sequences
        context = Context(backbone, budget, "toy", 0)
        trainer = Trainer(context, made.prepare(toy, context), made.rows, dict(made.weights()), None)
        rows = [row for rows in trainer.train for row in rows] + trainer.dev
        assert rows
        assert all(once(row.ids, backbone.tokens) for row in rows)
        assert all(row.input_length <= budget.max_length for row in rows)


@pytest.mark.parametrize("template", [CHAT, CHAT.removeprefix("{{ bos_token }}")])
def test_a_chat_turn_begins_once_whether_or_not_its_template_writes_the_beginning(
    template: str, toy: TaskData, budget: Budget
) -> None:
    backbone = lm(byte_level())
    backbone.tokenizer.chat_template = template
    for ids in predicted_by("cot-zeroshot", backbone, toy, budget):
        assert once(ids, backbone.tokens)
        assert ids[1] == ids_of(backbone.tokenizer, TURN)
        assert ids.count(ids_of(backbone.tokenizer, TURN)) == 3


def test_a_teacher_s_prompt_begins_once_with_and_without_a_chat_template() -> None:
    backbone = lm(byte_level())
    ask = Ask(system="Be brief.", user=f"Is {TURN} or {START} a word?", sample=0)
    plain = _encode(backbone, ask)
    backbone.tokenizer.chat_template = CHAT
    chat = _encode(backbone, ask)
    turn = ids_of(backbone.tokenizer, TURN)
    for ids in (plain, chat):
        assert once(ids, backbone.tokens)
        assert ask.user in backbone.decode(ids)
    assert (plain.count(turn), chat.count(turn)) == (0, 5)


def test_the_beginning_counts_towards_the_limit(card: TaskCard, budget: Budget) -> None:
    example = Example("a", Prompt("Text: ", "word " * 99, "\nIs it?"))
    for tokenizer in (byte_level(), byte_level(start=False), pieces()):
        encoder = Encoder(lm(tokenizer), budget, card)
        assert len(encoder.input(example)) == budget.max_length
        assert encoder.truncated == {"a"}


# ---------------------------------------------------------------- text is text


@KINDS
@given(text=ORDINARY)
def test_ordinary_text_is_encoded_as_ever(make: Callable[..., Any], text: str) -> None:
    tokenizer = make()
    assert Tokens(tokenizer).encode(text) == tokenizer.encode(text, add_special_tokens=False)


@KINDS
@pytest.mark.parametrize("name", SPECIAL)
def test_the_name_of_a_special_token_is_text_in_a_row_and_the_token_in_a_chat_turn(
    make: Callable[..., Any], name: str
) -> None:
    tokens = Tokens(make())
    number = ids_of(tokens.tokenizer, name)
    text = f"Say {name} aloud"
    assert tokens.names_control(text)
    assert number not in tokens.encode(text)
    assert tokens.tokenizer.decode(tokens.encode(text)) == text
    found = tokens.encode(text, f"{name}user\n", f"{name}\n")
    assert found.count(number) == 2
    assert tokens.tokenizer.decode(found[1:-2]).endswith(text)
    assert tokens.encode("Say it", f"{name}user\n").count(number) == 1


def test_rows_answers_and_rationales_hold_no_control_token(card: TaskCard, budget: Budget) -> None:
    backbone = lm(byte_level())
    encoder = Encoder(backbone, budget, card.model_copy(update={"answers": (f"No{END}", "Yes")}))
    x = encoder.input(Example("a", Prompt("Text: ", f"one {TURN} two", f" {END}?")))
    ids = [*x, *encoder.reasoning(f"because {END}"), *encoder.answer(0)]
    special = [token for token in ids if token in backbone.tokenizer.all_special_ids]
    assert special == [*backbone.tokens.start, backbone.eos_id]


# ---------------------------------------------------------------- what is cut


@KINDS
@given(parts=st.lists(ORDINARY, min_size=2, max_size=5), prefix=st.sampled_from(["", f"{TURN}user\n"]))
def test_parts_are_the_whole_in_pieces(make: Callable[..., Any], parts: list[str], prefix: str) -> None:
    tokens = Tokens(make())
    found = tokens.encode_parts(parts, prefix, TURN)
    assert [token for part in found for token in part] == tokens.encode("".join(parts), prefix, TURN)


def test_parts_of_a_tokenizer_without_places_are_encoded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    tokens = Tokens(tokenizer)
    parts = tokens.encode_parts(["Text:", f" the {END} word", "?"], f"{TURN}a ", f" b{TURN}")
    assert [tokenizer.decode(part) for part in parts] == [f"{TURN}a Text:", f" the {END} word", f"? b{TURN}"]
    assert [part.count(ids_of(tokenizer, TURN)) for part in parts] == [1, 0, 1]


@KINDS
@pytest.mark.parametrize("passage", ["the other day " * 20, "1999 was a year " * 20])
def test_a_cut_leaves_whole_tokens_and_no_lone_space(
    make: Callable[..., Any], passage: str, card: TaskCard, budget: Budget
) -> None:
    backbone = lm(make())
    prompt = Prompt("Text: ", passage, "\nIs it so?")
    whole = Encoder(backbone, budget.model_copy(update={"max_length": 4000}), card).input(Example("a", prompt))
    bare = len(backbone.begun(backbone.encode("Text:") + backbone.encode(prompt.after)))
    for limit in (9, bare, bare + 1, bare + 2, bare + 30):
        encoder = Encoder(backbone, budget.model_copy(update={"max_length": limit}), card)
        ids = encoder.input(Example("a", prompt))
        text = backbone.decode(ids)
        assert text.startswith("Text:")
        assert text.endswith("\nIs it so?")
        assert not text.startswith("Text: \n")
        assert bare <= len(ids) <= max(limit, bare)
        kept = len(ids) - len(backbone.encode(prompt.after))
        assert ids == whole[:kept] + whole[len(whole) - (len(ids) - kept) :]
    assert len(ids) == bare + 30


@KINDS
def test_a_cut_takes_from_the_passage_alone(make: Callable[..., Any], budget: Budget, card: TaskCard) -> None:
    """What stands around it stays, be it a control token or a line's end, which decode to nothing."""
    backbone = lm(make())
    example = Example("a", Prompt("", "the passage goes on " * 20, "\n"))
    encoder = Encoder(backbone, budget.model_copy(update={"max_length": 40}), card)
    whole = Encoder(backbone, budget.model_copy(update={"max_length": 4000}), card)
    ids, uncut = (each.input(example, prefix=TURN) for each in (encoder, whole))
    assert encoder.truncated == {"a"}
    assert len(ids) == 40
    assert backbone.begun([backbone.tokenizer.convert_tokens_to_ids(TURN)]) == ids[: len(backbone.tokens.start) + 1]
    assert ids[-1:] == uncut[-1:]
    assert backbone.encode("\n")[-1:] == ids[-1:]


@pytest.mark.parametrize("prompt", ["native", "paper"])
@pytest.mark.parametrize("task", ["WiC", "WSC"])
def test_marked_texts_are_cut_around_the_mark(task: str, prompt: str, budget: Budget, tiny: Backbone) -> None:
    loaded = Suite.named("mini7").load(task, prompt=prompt)
    cut = 0
    for row in loaded.train[:20]:
        example = row.examples[0].example
        kept = [text for text, end in example.prompt.pieces if end is None]
        marks = kept[1:-1]
        assert len(marks) == (1 if task == "WSC" else 3 if prompt == "native" else 2)
        fixed = len("".join(kept).encode())
        whole = len(example.prompt.text.encode())
        for limit in (fixed, fixed + 5, fixed + 20):
            encoder = Encoder(tiny, budget.model_copy(update={"max_length": limit}), loaded.card)
            text = tiny.decode(encoder.input(example))
            assert len(text.encode()) <= limit or whole <= limit
            assert bool(encoder.truncated) == (whole > limit)
            assert text.endswith(kept[-1])
            assert [text.count(mark) for mark in marks] == [example.prompt.text.count(mark) for mark in marks]
            cut += whole > limit
    assert cut > 20


def test_what_stands_next_to_the_mark_is_kept(tiny: Backbone, card: TaskCard, budget: Budget) -> None:
    template = PromptCard(text="Text: {{ text | mark(10, 14) }}\nIs it?")
    (prompt,) = Renderer(template, ("no", "yes")).render({"text": "aaaa bbbb word cccc dddd"}, "here")
    limit = len("Text: bbbb *word* cccc\nIs it?")
    encoder = Encoder(tiny, budget.model_copy(update={"max_length": limit}), card)
    assert tiny.decode(encoder.input(Example("a", prompt))) == "Text: bbbb *word* cccc\nIs it?"


def test_a_mark_that_a_later_filter_changes_is_not_cut_around() -> None:
    card = PromptCard(text="{{ text | mark(0, 1) | upper }}{{ text | mark(2, 3) | replace('c', '') }}?")
    (prompt,) = Renderer(card, ("no", "yes")).render({"text": "abc"}, "here")
    assert prompt.text == "*A*BCab**?"
    assert len(prompt.pieces) == 1


# ---------------------------------------------------------------- identities


def planned(folder: Path, backbone: str, limit: int, **changes: Any) -> Plan:
    settings = f"smoke[train_rows=8,dev_rows=0,test_rows=6,epochs=1,tuning=top:1,max_length={limit}]"
    request = {"methods": ("pooled", "majority"), "suite": "mini7", "tasks": ("WSC",), "seeds": (0,)}
    return make_plan(RunRequest(backbone=backbone, budget=settings, results=folder, **(request | changes)))


def test_only_cells_with_something_cut_have_the_part_in_their_identity(tmp_path: Path) -> None:
    long, short = planned(tmp_path, "tiny", 4000), planned(tmp_path, "tiny", 60)
    assert [cell.parts.tokens for cell in long.cells] == [None, None]
    assert [cell.parts.tokens for cell in short.cells] == ["1", None]
    assert "tokens" not in long.cells[0].parts.hashed()
    assert "start" not in long.cells[0].parts.hashed()["backbone"]
    (note,) = short.cells[0].notes
    assert "inputs have more tokens than the budget's max_length of 60 in what may not be cut" in note
    assert not any("tokens" in note for cell in (*long.cells, short.cells[1]) for note in cell.notes)


SUITE = """
kind: suite
name: own
tasks:
  words:
    files: {train: train.jsonl, test: test.jsonl}
    fields: [text]
    label: {names: ["no", "yes"]}
    prompts:
      native: {text: "{{ text }} Is it?", answers: ANSWERS}
"""


def own_cells(folder: Path, *, text: str = "a", answers: str = "[A, B]") -> list[str | None]:
    folder.mkdir()
    (folder / "suite.yaml").write_text(SUITE.replace("ANSWERS", answers))
    rows = [json.dumps({"text": f"{text} {i}", "label": "yes" if i % 2 else "no"}) for i in range(8)]
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    backbone = folder / "backbone"
    small = lm(byte_level())
    small.model.save_pretrained(backbone)
    small.tokenizer.save_pretrained(backbone)
    with plugins.isolated():
        plugins.include(folder)
        plan = planned(
            folder / "out", str(backbone), 400, methods=("pooled", "label-lm", "cot"), suite="own", tasks=("words",),
            allow_missing_rationales=True,
        )  # fmt: skip
    return [cell.parts.tokens for cell in plan.cells]


def test_control_text_and_answers_that_begin_alike_are_in_the_identity(tmp_path: Path) -> None:
    plugins.load_all()
    assert own_cells(tmp_path / "plain", answers='["not", "True"]') == [None, None, None]
    assert own_cells(tmp_path / "named", text=f"Say {TURN}", answers='["not", "True"]') == ["1", "1", "1"]
    assert own_cells(tmp_path / "alike", answers='["not", "not_entailment"]') == [None, None, "1"]


def test_a_backbone_s_beginning_of_text_is_in_its_records_and_in_no_other_s(tmp_path: Path) -> None:
    starts = []
    for start in (True, False):
        small = lm(byte_level(start=start))
        folder = tmp_path / f"small-{start}"
        small.model.save_pretrained(folder)
        small.tokenizer.save_pretrained(folder)
        budget = "smoke[train_rows=8,dev_rows=0,test_rows=6,epochs=1,tuning=top:1]"
        command = ["run", "--methods", "pooled", "--suite", "mini7", "--tasks", "RTE", "--seeds", "0"]
        done = CliRunner().invoke(
            app, [*command, "--budget", budget, "--backbone", str(folder), "--results", str(tmp_path / "results")]
        )
        assert done.exit_code == 0, done.output
        (path,) = (tmp_path / "results").rglob(f"*{folder.name}*/**/seed-0.json")
        starts.append(json.loads(path.read_text())["parts"]["backbone"].get("start"))
    assert starts == [START, None]


# ---------------------------------------------------------------- what tells answers apart


WORDS = [("not", "not_entailment"), ("True", "Truth", "False"), ("Yes", "No")]


@KINDS
@pytest.mark.parametrize("answers", WORDS)
def test_label_words_are_scored_whole_by_either_kind(
    make: Callable[..., Any], answers: tuple[str, ...], card: TaskCard, budget: Budget
) -> None:
    backbone = lm(make())
    card = card.model_copy(update={"answers": answers, "labels": answers})
    context = Context(backbone, budget, "toy", 0)
    examples = [row.example for row in toy_rows(6)]
    predicted = score_labels(Fitted(card), examples, context)
    assert predicted.scores is not None
    for example, scores, label in zip(examples, predicted.scores, predicted.labels, strict=True):
        slow = slow_scores(backbone, Encoder(backbone, budget, card).input(example), card)
        assert scores == pytest.approx(slow, rel=1e-4)
        assert label == int(np.argmax(slow))


def slow_scores(backbone: Backbone, prompt: list[int], card: TaskCard) -> list[float]:
    words = [backbone.tokenizer.encode(f" {answer}", add_special_tokens=False) for answer in card.answers]
    marker = backbone.tokenizer.encode(card.answer, add_special_tokens=False)
    tail = [backbone.eos_id] if any(a != b and b[: len(a)] == a for a in words for b in words) else []
    return [log_likelihood(backbone, prompt + marker, word + tail) for word in words]


@KINDS
@pytest.mark.parametrize("answers", WORDS)
@pytest.mark.parametrize("given", [True, False])
def test_generation_scores_what_tells_the_answers_apart(
    make: Callable[..., Any],
    answers: tuple[str, ...],
    given: bool,
    card: TaskCard,
    budget: Budget,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the marker is given or written: no tie, whole words where they begin alike, else their first tokens."""
    backbone = lm(make())
    card = card.model_copy(update={"answers": answers, "labels": answers})
    context = Context(backbone, budget.model_copy(update={"decoding": Decoding(max_new_tokens=4)}), "toy", 0)
    examples = [row.example for row in toy_rows(4)]
    encoder = Encoder(backbone, budget, card)
    words = [backbone.encode(f" {answer}") for answer in answers]
    alike = len({word[0] for word in words}) < len(words)
    assert alike or (make is byte_level and answers == ("Yes", "No")), "else the test says nothing"
    if not given:
        written = [*backbone.encode("Well."), *encoder.answer_marker()]

        def decode(_: Backbone, prompts: list[list[int]], decoding: Decoding, stop: Stop, *rest: Any) -> Any:
            assert stop.found(written)
            assert bool(stop.watch) != alike
            first = [
                [log_likelihood(backbone, [*prompt, *written], [token]) for token in stop.watch] for prompt in prompts
            ]
            return [Continuation([*written, *words[0]], len(written), len(written), row) for row in first]

        monkeypatch.setattr("dhrd_bench.inference.transformers.decode", decode)
    predicted = generate(Fitted(card), examples, context, lead=card.answer if given else "")
    assert predicted.scores is not None
    for example, scores in zip(examples, predicted.scores, strict=True):
        prompt = encoder.input(example) + ([] if given else backbone.encode("Well."))
        marker = encoder.answer_marker()
        first = [log_likelihood(backbone, prompt + marker, word[:1]) for word in words]
        assert scores == pytest.approx(slow_scores(backbone, prompt, card) if alike else first, rel=1e-4)
        assert len(set(scores)) == len(answers)


# ---------------------------------------------------------------- frozen blocks


def test_frozen_states_have_no_dropout_and_trained_blocks_do(toy: TaskData, budget: Budget) -> None:
    backbone = lm(byte_level(), attention_dropout=0.3)
    context = Context(backbone, budget, "toy", 0)
    made = registry.methods.get("pooled")()
    assert isinstance(made, FineTuned)
    trainer = Trainer(context, toy, made.rows, dict(made.weights()), "linear")
    assert trainer.tuning.frozen_blocks == 2
    rows = [row for rows in trainer.train for row in rows]
    trainer.set_dropout(True)
    losses = [trainer.backward(rows) for _ in range(2)]
    assert losses[0] != losses[1], "the block that is trained drops attention"
    assert backbone.model.training
    trainer.set_dropout(False)
    assert trainer.backward(rows) == trainer.backward(rows)
    assert len(backbone.frozen_states) == len({tuple(row.ids) for row in rows})
    for (blocks, ids), kept in backbone.frozen_states.items():
        expected = backbone.hidden(torch.tensor(ids), [len(ids)], 0, blocks)
        torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-5)
    trainer.close()


def test_a_row_of_control_text_is_answered_in_a_chat_turn(card: TaskCard, budget: Budget) -> None:
    """The turn's own tokens are tokens, those that the row names are not."""
    backbone = lm(byte_level())
    backbone.tokenizer.chat_template = CHAT
    prefix, suffix = chat_turn(backbone, "Think.")
    row = LabeledExample(Example("a", Prompt("Text: ", f"{TURN}{START} " * 30, "\nIs it?")), 0)
    for limit in (60, 4000):
        encoder = Encoder(backbone, budget.model_copy(update={"max_length": limit}), card)
        ids = encoder.input(row.example, prefix, suffix)
        assert once(ids, backbone.tokens)
        assert ids.count(ids_of(backbone.tokenizer, TURN)) == 3
        assert len(ids) == 60 or limit == 4000
