"""From rows to inputs."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhrd_bench.data.cards import PromptCard
from dhrd_bench.data.prompts import Renderer, mark, mark_words
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)


@given(TEXT, TEXT)
def test_the_three_parts_make_up_the_untruncated_text(passage: str, question: str) -> None:
    card = PromptCard(text="P: {{ passage }}\nQ: {{ question }}?", truncate="passage")
    (prompt,) = Renderer(card, ("no", "yes")).render({"passage": passage, "question": question}, "here")
    assert prompt.passage == passage
    assert prompt.text == jinja2.Template(card.text).render(passage=passage, question=question)


@given(TEXT, TEXT)
def test_fields_are_never_read_as_templates(passage: str, question: str) -> None:
    card = PromptCard(text="{{ passage }} {{ q }}?", let={"q": "{{ question }}"}, truncate="passage")
    fields = {"passage": "{{ question }}" + passage, "question": "{% raw %}" + question}
    (prompt,) = Renderer(card, ("no", "yes")).render(fields, "here")
    assert prompt.text == f"{fields['passage']} {fields['question']}?"


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}?",
        "{{ passage.__init__.__globals__ }}?",
        "{% for i in range(10 ** 9) %}x{% endfor %}?",
        "{% include '/etc/hostname' %}?",
        "{{ 1 / 0 }}?",
    ],
)
def test_a_template_reaches_nothing_but_its_row(text: str) -> None:
    with pytest.raises(UserError, match=r"data\.csv:7: the prompt cannot be made"):
        Renderer(PromptCard(text=text), ("no", "yes")).render({"passage": "p"}, "data.csv:7")


def test_a_passage_that_is_written_twice_or_changed_is_refused() -> None:
    for text in ("{{ p }} {{ p }}?", "{{ p | upper }}?"):
        with pytest.raises(UserError, match="truncatable 'p' once"):
            Renderer(PromptCard(text=text, truncate="p"), ("no", "yes")).render({"p": "x"}, "here")


def test_one_input_a_candidate() -> None:
    card = PromptCard(
        text="{{ p }}\nAnswer: {{ a }}?", truncate="p", candidates=("{{ one }}", "two"), let={"a": "<{{ candidate }}>"}
    )
    prompts = Renderer(card, ("No", "Yes")).render({"p": "text", "one": "1"}, "here")
    assert [prompt.text for prompt in prompts] == ["text\nAnswer: <1>?", "text\nAnswer: <two>?"]


def test_an_edit_shows_in_the_version() -> None:
    one, two = (Renderer(PromptCard(text=text), ("no", "yes")).version for text in ("a?", "b?"))
    assert one.startswith("1.0.0+")
    assert one != two


def test_the_instruction_names_the_answers() -> None:
    assert 'write "Final Answer:" and one of: A, B.' in Renderer(PromptCard(text="?"), ("A", "B")).instruction


# ---------------------------------------------------------------- marks


@given(st.text(max_size=30), st.data())
def test_a_mark_adds_two_asterisks_and_changes_nothing_else(text: str, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(text)))
    start = data.draw(st.integers(0, end))
    marked = mark(text, start, end)
    assert marked[start] == marked[end + 1] == "*"
    assert marked[:start] + marked[start + 1 : end + 1] + marked[end + 2 :] == text


@given(st.lists(st.text("ab.,'é", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_a_span_of_words_is_marked_where_it_stands(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    text, span = "  ".join(words), " ".join(words[start:end])
    marked = mark_words(text, start, span)
    assert marked.replace("*", "") == text
    assert marked.count("*") == 2
    before = marked.partition("*")[0].split()
    assert start <= len(before) <= end  # words of punctuation alone may stay outside


@pytest.mark.parametrize(
    ("text", "index", "words", "expected"),
    [
        ("Then he, too, left.", 1, "he", "Then *he*, too, left."),
        ("They want to use it , he said.", 3, "it", "They want to use *it* , he said."),  # index off by one
        ("It rained. It froze.", 2, "it", "It rained. *It* froze."),  # the nearest of two, case aside
        ("Emma's mother had left", 0, "Emma", "*Emma's* mother had left"),  # nothing fits: the index stands
        ("The old  man slept", 0, "the old man", "*The old  man* slept"),
    ],
)
def test_sloppy_spans_are_marked_where_a_reader_would(text: str, index: int, words: str, expected: str) -> None:
    assert mark_words(text, index, words) == expected
    assert mark_words(text, str(index), words) == expected  # CSV has no numbers


# ---------------------------------------------------------------- golden inputs of the shipped prompts

GOLDEN = {
    ("COPA", "native"): ["A: {choice1}\nB: {choice2}\nWhat happened as a result, A or B?"],
    ("COPA", "paper"): [
        "Question: What happened as a result?\nAnswer: {choice1}\nIs the answer correct Yes or No?",
        "Question: What happened as a result?\nAnswer: {choice2}\nIs the answer correct Yes or No?",
    ],
    ("CB", "native"): ["Hypothesis: {hypothesis}\nGiven the premise, is the hypothesis true, false or neither?"],
    ("CB", "paper"): [
        f"Question: Is the hypothesis entailed by the premise? Hypothesis: {{hypothesis}}\nAnswer: {answer}\n"
        "Is the answer correct Yes or No?"
        for answer in (
            "Yes, the premise entails it.",
            "No, the premise contradicts it.",
            "Neither, the premise leaves it open.",
        )
    ],
    ("BoolQ", "native"): ["Passage: {passage}\nQuestion: {question}? Yes or no?"],
    ("BoolQ", "paper"): ["Passage: {passage}\nQuestion: {question}?\nAnswer: Yes\nIs the answer correct Yes or No?"],
    ("MultiRC", "native"): ["Question: {question}\nAnswer: {answer}\nIs this answer right, yes or no?"],
    ("MultiRC", "paper"): ["Question: {question}\nAnswer: {answer}\nIs the answer correct Yes or No?"],
    ("RTE", "native"): ["Hypothesis: {hypothesis}\nDoes the premise entail the hypothesis, yes or no?"],
    ("RTE", "paper"): [
        "Passage: {premise}\nQuestion: Is the hypothesis entailed by the premise? Hypothesis: {hypothesis}\n"
        "Answer: Yes\nIs the answer correct Yes or No?"
    ],
    ("WiC", "native"): ["Does *{word}* have the same meaning in both sentences, yes or no?"],
    ("WiC", "paper"): ["same meaning in both sentences?\nAnswer: Yes\nIs the answer correct Yes or No?"],
    ("WSC", "native"): ['Does *{span2_text}* refer to "{span1_text}", yes or no?'],
    ("WSC", "paper"): [
        'Does the pronoun *{span2_text}* refer to "{span1_text}"?\nAnswer: Yes\nIs the answer correct Yes or No?'
    ],
}


@pytest.mark.parametrize(("task", "prompt"), GOLDEN)
def test_the_shipped_prompts_read_as_documented(task: str, prompt: str) -> None:
    loaded = Suite.named("mini7").load(task, prompt=prompt)
    row = next(row for row in loaded.train if row.fields.get("question", "effect") != "cause")
    for labeled, ending in zip(row.examples, GOLDEN[task, prompt], strict=True):
        assert labeled.example.prompt.text.endswith(ending.format(**row.fields))


def test_yes_means_entailed_in_the_papers_prompt() -> None:
    card = Suite.named("mini7").load("RTE", prompt="paper").card
    assert dict(zip(card.labels, card.answers, strict=True)) == {"entailment": "Yes", "not_entailment": "No"}
