"""Teacher prompts: what is shown, and how replies are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhrd_bench.errors import UserError
from dhrd_bench.rationales.prompts import VERDICT_WORDS, load_prompt, prompt_names, read_answer

NLI = ("entailment", "not_entailment")


@pytest.mark.parametrize("name", prompt_names())
def test_built_in_prompts_bar_verdict_words_and_ask_for_the_sentinel(name: str) -> None:
    prompt = load_prompt(name)
    ask = prompt.render("THE INPUT", ("Maybe", "Surely"), 1)
    for part in ("THE INPUT", "2 to 5 sentences", "[END OF REASONING]", "Let's think step by step.", *VERDICT_WORDS):
        assert part in ask.user
    assert "maybe, surely." in ask.user
    assert ("Correct answer: Surely" in ask.user) == prompt.label_seen


@given(text=st.text(max_size=40), label=st.integers(0, 1))
def test_a_blind_ask_does_not_depend_on_the_label(text: str, label: int) -> None:
    prompt = load_prompt("blind")
    assert not prompt.label_seen
    assert prompt.render(text, NLI, label) == prompt.render(text, NLI, 1 - label)
    assert text.strip() in prompt.render(text, NLI, label).user  # a template in the data is not run


def test_template_code_in_the_data_stays_text() -> None:
    assert "{{ 7 * 7 }}" in load_prompt("paper").render("{{ 7 * 7 }}", NLI, 0).user


@pytest.mark.parametrize(
    ("reply", "rationale", "answer", "closed"),
    [
        ("It is so. [END OF REASONING]\nYes", "It is so.", 1, True),
        ("It is so.\n\n**[End of  reasoning]**\n\nAnswer: yes.", "It is so.", 1, True),
        ("It is so. END OF REASONING: No", "It is so.", 0, True),
        ("It is so. [END OF REASONING]", "It is so.", None, True),
        ("It is so.\nThe answer is no.", "It is so.", 0, False),
        ("It is so.\nFinal Answer: Yes", "It is so.", 1, False),
        ("It is so, and not otherwise.", "It is so, and not otherwise.", None, False),
        ("No word of it.\nSo it was shut, yes.", "No word of it.\nSo it was shut, yes.", None, False),
    ],
)  # fmt: skip
def test_reading_replies(reply: str, rationale: str, answer: int | None, closed: bool) -> None:
    reading = load_prompt("paper").read(reply, ("No", "Yes"))
    assert (reading.rationale, reading.answer, reading.closed) == (rationale, answer, closed)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("not_entailment", 1),
        ("not entailment", 1),
        ("Entailment.", 0),
        ("entailment, or not entailment", None),
        ("neither", None),
        ("", None),
    ],
)
def test_reading_answers_that_contain_each_other(line: str, answer: int | None) -> None:
    assert read_answer(line, NLI) == answer


def test_an_edit_without_a_new_version_shows(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nversion: 1.0.0\nlabel_seen: true\nuser: '{{ input }} {{ answer }}'\n")
    one = load_prompt(str(path)).identity
    path.write_text("name: mine\nversion: 1.0.0\nlabel_seen: true\nuser: '{{ input }}: {{ answer }}'\n")
    two = load_prompt(str(path)).identity
    assert one.startswith("mine@1.0.0+")
    assert one != two


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mine\nversion: 1\nlabel_seen: false\nuser: '{{ answer }}'\n", "version"),
        ("name: mine\nversion: '1'\nlabel_seen: false\nuser: '{{ answer }}'\n", "'answer' is undefined"),
        ("name: mine\nversion: '1'\nlabel_seen: true\nuser: '{{ input '\n", "cannot be filled in"),
        ("name: mine\nversion: '1'\nlabel_seen: true\nuser: '{{ input.__class__.__mro__ }}'\n", "cannot be filled in"),
        ("name: mine\nversion: '1'\nlabel_seen: true\nuse: x\n", "user"),
        ("- a\n", "name"),
    ],
)
def test_bad_prompt_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_prompt(str(path)).render("x", NLI, 0)


def test_unknown_prompts() -> None:
    with pytest.raises(UserError, match="Did you mean 'paper'"):
        load_prompt("papr")
    with pytest.raises(UserError, match="No prompt file"):
        load_prompt("/nowhere/mine.yaml")
