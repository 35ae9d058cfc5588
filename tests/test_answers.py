"""The grammar by which answers are read, as a table: text, what the strict and what the free parser reads."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhrd_bench.contracts import UNPARSABLE, TaskCard
from dhrd_bench.inference.answers import parse_answer, parse_free_answer

NONE = UNPARSABLE
NO, YES = 0, 1
A, B = 0, 1

MARKERS = [
    ("so\nFinal Answer: Yes", YES, YES),
    ("Final Answer: No, wait.\nFinal Answer: Yes", YES, YES),
    ("Final Answer: Yes\nFinal Answer:", NONE, NONE),
    ("**Final Answer:** Yes", YES, YES),
    ("Final Answer:Yes", YES, YES),
    ("Final Answer:\n\nYes", YES, YES),
    ("Final Answer:\u00a0Yes", YES, YES),
    ("Final\u00a0Answer: Yes", YES, YES),
    ("Final Answer\uff1a Yes", YES, YES),
    ("Final Answer:\u200b Yes", YES, YES),
    ("Final Answer:\ufeffYes", YES, YES),
    ("Final Answer:", NONE, NONE),
    ("", NONE, NONE),
    ("   \n", NONE, NONE),
    # what an LM that was never trained on the form writes
    ("final answer: yes", NONE, YES),
    ("FINAL ANSWER: NO", NONE, NO),
    ("The final answer is no.", NONE, NO),
    ("Final Answer - No", NONE, NO),
    ("So the correct answer is yes, as said.", NONE, YES),
    ("Answer: no", NONE, NO),
    ("The answer is yes.\nFinal answer: no", NONE, NO),
    ("Hence \\boxed{Yes}, and so on.", NONE, YES),
    ("It follows.\n\nYes.", NONE, YES),
    ("It follows.\n- **Yes**", NONE, YES),
    ("It follows.\nSo, yes.", NONE, YES),
    ("Yes", NONE, YES),
    ("The answer to it, yes", NONE, NONE),
    ("It follows.\nYes, it does.", NONE, NONE),
    ("There is no doubt that yes is meant", NONE, NONE),
    ("My answer depends on the day", NONE, NONE),
]

LEADS = [
    ("Yes", YES),
    ("yes", YES),
    ("YES!", YES),
    ("**no**.", NO),
    ("*No*", NO),
    ("__Yes__", YES),
    ("_Yes_", YES),
    ("<b>Yes</b>", YES),
    ("<answer>No</answer>", NO),
    ("'Yes'", YES),
    ('"Yes."', YES),
    ("\u201cYes\u201d", YES),
    ("\u2018No\u2019", NO),
    ("\u00abNo\u00bb", NO),
    ("\u300cYes\u300d", YES),
    ("`Yes`", YES),
    ("(Yes)", YES),
    ("[Yes]", YES),
    ("- Yes", YES),
    ("\n\n- **Yes**", YES),
    ("\u2022 No", NO),
    ("\u2013 No", NO),
    ("> No", NO),
    ("... Yes", YES),
    ("\u2705 Yes", YES),
    ("$\\boxed{Yes}$", YES),
    ("\\boxed{\\text{No}}", NO),
    ("\\underline{Yes}", YES),
    ("\\(\\boxed{Yes}\\)", YES),
    ("The answer is yes", YES),
    ("The correct answer is: **No**", NO),
    ("So the final answer must be yes.", YES),
    ("The statement is no.", NO),
    ("is yes", YES),
    ("Yes, it does.", YES),
    ("Yes because it rains", YES),
    ("Yes\u2014because it rains", YES),
    ("Yes.\nNo more to say.", YES),
    ("Yes, yes!", YES),
    ("Yes (not No)", YES),
    ("Yes, and that is that", YES),
    ("\uff39\uff45\uff53", YES),
]

DOUBTFUL = [
    "Yes or No",
    "yes or no?",
    "Yes or maybe",
    "Yes and No",
    "Yes, No.",
    "No/Yes",
    "[Yes/No]",
    "<Yes|No>",
    "(Yes / No)",
    "**Yes** or **No**",
    "\\boxed{Yes} or \\boxed{No}",
    "Yes, the answer is no",
    "No. Yes.",
    "- Yes\n- No",
    "Yes\n\nNo",
    "one of: No, Yes.",
    "Yesterday",
    "Nobody",
    "None",
    "No-one knows",
    "no\u2011one",
    "no one knows",
    "No idea",
    "No answer can be given",
    "no_one",
    "not yes",
    "It is unclear",
    "I cannot say yes or no",
    "I'm sorry, but I can't answer that.",
    "As an AI I have no opinion",
    "N/A",
    "Both",
    "maybe yes",
    "Yes\u0301",
    "?",
    "1",
]

LETTERS = [
    ("A", A),
    ("A: The storm was so severe", A),
    ("A. The storm", A),
    ("A) the storm", A),
    ("(B)", B),
    ("(b)", B),
    ("**B**", B),
    ("B, which", B),
    ("Option B", B),
    ("option (A)", A),
    ("The answer is B.", B),
    ("Choice A: it fell", A),
    ("B: A storm came", B),
    ("B\n", B),
    ("a cup fell", NONE),
    ("a", NONE),
    ("A cup fell", NONE),
    ("A mix of both", NONE),
    ("A and B", NONE),
    ("Both A and B", NONE),
    ("A or B", NONE),
    ("A, B", NONE),
    ("A/B", NONE),
    ("[A/B]", NONE),
    ("Options A and B", NONE),
    ("Neither A nor B", NONE),
    ("AB", NONE),
    ("A's", NONE),
    ("Apple", NONE),
]

OTHERS = [
    (("True", "False", "Neither"), "True or False", NONE),
    (("True", "False", "Neither"), "True, False or Neither", NONE),
    (("True", "False", "Neither"), "The hypothesis is neither.", 2),
    (("True", "False", "Neither"), "Untrue", NONE),
    (("Not", "Not sure"), "not sure.", 1),
    (("Not", "Not sure"), "not.", 0),
    (("-1", "0", "1"), "-1", 0),
    (("0", "1"), "-1", NONE),
    (("1", "2"), "1.", 0),
    (("1", "2"), "1.5", NONE),
    (("1", "2"), "12", NONE),
    (("Nein", "Ja"), "Ja oder Nein", NONE),
    (("Nein", "Ja"), "\u201eJa\u201c", 1),
    (("Non", "\u00c9vident"), "e\u0301vident", 1),
    (("Non", "E\u0301vident"), "\u00e9vident.", 1),
    (("Нет", "Да"), "**да**", 1),
    (("Нет", "Да"), "Да или нет", NONE),
    (("不是", "是"), "「是」。", 1),
    (("不是", "是"), "不是", 0),
    (("不是", "是"), "是或不是", NONE),
    (("لا", "نعم"), "نعم، لأن", 1),
    (("ना", "हाँ"), "हाँ।", 1),
    (("न", "हाँ"), "ना", NONE),  # a vowel sign belongs to its letter
    (("C", "C++"), "C++", 1),
]


def named(card: TaskCard, *answers: str) -> TaskCard:
    return card.model_copy(update={"answers": answers, "labels": answers})


def both(text: str, card: TaskCard) -> tuple[int, int]:
    return parse_answer(text, card), parse_free_answer(text, card)


@pytest.mark.parametrize(("text", "strict", "free"), MARKERS)
def test_where_an_answer_begins(text: str, strict: int, free: int, card: TaskCard) -> None:
    assert both(text, card) == (strict, free)


@pytest.mark.parametrize(("tail", "label"), [*LEADS, *((text, NONE) for text in DOUBTFUL)])
def test_what_follows_the_marker(tail: str, label: int, card: TaskCard) -> None:
    assert both(f"Because.\nFinal Answer: {tail}", card) == (label, label)


@pytest.mark.parametrize(("tail", "label"), LETTERS)
def test_an_answer_of_one_letter_is_a_letter_by_itself(tail: str, label: int, card: TaskCard) -> None:
    assert both(f"Final Answer: {tail}", named(card, "A", "B")) == (label, label)
    assert parse_free_answer(f"So the answer is {tail}", named(card, "A", "B")) == label


@pytest.mark.parametrize(("answers", "tail", "label"), OTHERS)
def test_other_words_and_scripts(answers: tuple[str, ...], tail: str, label: int, card: TaskCard) -> None:
    assert both(f"Final Answer: {tail}", named(card, *answers)) == (label, label)


@given(st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.sampled_from([0, 1]), st.text(max_size=20))
def test_neither_form_nor_what_came_before_counts(form: str, label: int, before: str) -> None:
    card = TaskCard(
        name="t", labels=("no", "yes"), answers=("Né", "Çà"), metrics=("accuracy",), prompt="p", prompt_version="1",
        version="1",
    )  # fmt: skip
    text = unicodedata.normalize(form, f"{before}\nFinal Answer: {card.answers[label]}")  # type: ignore[arg-type]
    assert both(text, card) == (label, label)
