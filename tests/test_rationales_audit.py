"""The audit finds what makes a store unusable, and passes what the project ships."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhrd_bench.data.rationales import Rationale, RationaleStore
from dhrd_bench.data.suite import Suite, own_store
from dhrd_bench.errors import UserError
from dhrd_bench.rationales.audit import Audit, Thresholds, audit, badge, tables
from dhrd_bench.rationales.audit.language import language_of
from dhrd_bench.rationales.audit.leak import names_label, predictability, states_verdict
from dhrd_bench.rationales.audit.overlap import SHINGLE, contaminated, copied_share, grams, mostly_from, near_duplicates
from dhrd_bench.rationales.rows import load_rows, teacher_rows

WORDS = st.lists(
    st.sampled_from(["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]), min_size=0, max_size=30
).map(" ".join)

YAML = """
kind: suite
name: toy
tasks:
  Weather:
    files: {train: train.jsonl, test: test.jsonl}
    fields: [idx, text]
    id: idx
    hash: text
    label: {names: [cold, warm]}
    prompts: {native: {text: "{{ text }}\\nIs it cold or warm?"}}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Suite:
    """A suite of 40 train and 10 test rows."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "suite.yaml").write_text(YAML)
    for split, count in (("train", 40), ("test", 10)):
        rows = [
            {"idx": i, "text": f"On day {i} of the {split} the mercury in the yard stood at {i * 7 % 40} at noon.",
             "label": ("cold", "warm")[i % 2]} for i in range(count)
        ]  # fmt: skip
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Suite.read(folder / "suite.yaml")


def lines_for(suite: Suite) -> list[Rationale]:
    """A sound rationale for every train row, worded by its number."""
    shades = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty"]
    return [
        Rationale(
            idx=row.idx,
            label=row.raw_label,
            rationale=f"{shades[i % 10]} {shades[i // 4]} note {i}: this points to {shades[i * 3 % 10]} and more.",
            input_sha256_16=row.input_hash,
        )
        for i, row in enumerate(teacher_rows(suite, load_rows(suite, "weather", None)))
    ]  # fmt: skip


def audited(suite: Suite, folder: Path, lines: list[Rationale], **options: object) -> Audit:
    store = RationaleStore(folder)
    with store.writer("Weather") as writer:
        writer.extend(lines)
    return audit(suite, store=store, **options)  # type: ignore[arg-type]


def errors(result: Audit) -> str:
    return " ".join(p.message for task in result.tasks for p in task.problems if p.level == "error")


def changed(lines: list[Rationale], where: range, **values: object) -> list[Rationale]:
    return [line.model_copy(update=values) if i in where else line for i, line in enumerate(lines)]


def test_a_sound_store_passes(toy: Suite, tmp_path: Path) -> None:
    result = audited(toy, tmp_path / "store", lines_for(toy))
    (task,) = result.tasks
    assert result.usable, errors(result)
    assert (task.rows, task.covered, task.rationales, task.coverage) == (40, 40, 40, 1.0)
    assert task.by_class == task.rows_by_class == {"cold": 20, "warm": 20}
    assert (task.mismatched, task.mislabelled, task.absent, task.contaminated, task.duplicates) == (0, 0, 0, 0, 0)
    assert (task.verdicts, task.names, task.languages) == (0.0, 0.0, {"en": 1.0})
    assert result.not_checked == []


def test_without_rows_it_says_what_was_not_checked(toy: Suite, tmp_path: Path) -> None:
    result = audited(toy, tmp_path / "store", lines_for(toy), without_rows=True)
    (task,) = result.tasks
    assert result.usable
    assert (task.rows, task.coverage, task.mismatched, task.copied, task.contaminated) == (None,) * 5
    assert "coverage, misfits, copying" in result.not_checked[0]
    assert "evaluation overlap not checked" in badge(result)


CASES = {
    "another input": (lambda own: changed(own, range(1), input_sha256_16="0" * 16), "1 lines were written for another"),
    "another label": (lambda own: changed(own, range(1), label="warm"), "1 lines carry another label"),
    "unknown label": (lambda own: changed(own, range(1), label="mild"), "1 lines carry another label"),
    "a class missing": (lambda own: own[::2], "no rationale of the class 'warm'"),
    "all rejected": (lambda own: changed(own, range(40), rejected="cut off"), "no rationale of the class"),
    "no text": (lambda own: changed(own, range(2), rationale="  "), "2 lines have no text"),
    "repeated": (lambda own: changed(own, range(0, 40, 4), rationale=own[5].rationale), "10 of 40 rationales repeat"),
    "of no row": (lambda own: changed(own, range(40), idx=999), "40 lines belong to rows"),
    "copied from evaluation": (
        lambda own: changed(
            own, range(1), rationale="On day 3 of the test the mercury in the yard stood at 21 at noon."
        ),
        "1 of 40 rationales copy from evaluation inputs (first: row 0)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_unusable_store_fails(case: str, toy: Suite, tmp_path: Path) -> None:
    spoil, message = CASES[case]
    result = audited(toy, tmp_path / "store", spoil(lines_for(toy)))
    assert not result.usable
    assert message in errors(result)
    assert "audit FAILED" in badge(result)


def test_thresholds(toy: Suite, tmp_path: Path) -> None:
    lines = changed(lines_for(toy), range(0, 8, 4), rationale=lines_for(toy)[5].rationale)
    assert audited(toy, tmp_path / "a", lines).usable  # 2 of 40 is at the limit, not above it
    assert not audited(toy, tmp_path / "b", lines, thresholds=Thresholds(duplicates=0.04)).usable


def test_warnings_do_not_fail(toy: Suite, tmp_path: Path) -> None:
    lines = lines_for(toy)
    german = "Die Anzeige steht nicht so hoch, und das ist für diese Zeit des Jahres auch nicht mit Wärme zu erklären"
    spoilt = [
        line.model_copy(update={"rationale": f"{line.rationale} {german} {i} {i * 7}, it is cold. True."})
        for i, line in enumerate(lines)
    ]
    result = audited(
        toy, tmp_path / "store", changed(spoilt, range(35, 40), idx=777), thresholds=Thresholds(duplicates=1)
    )
    messages = [problem.message for problem in result.tasks[0].problems]
    assert result.usable, errors(result)
    assert any("state a verdict" in message for message in messages)
    assert any("name a class" in message for message in messages)
    assert any("not to be in 'en'" in message for message in messages)
    assert any("5 lines belong to rows that the data do not have" in message for message in messages)


def test_an_empty_store_is_an_error(toy: Suite, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No rationale store"):
        RationaleStore.open(tmp_path)


@pytest.mark.parametrize("name", ["mini7", "superglue7"])
def test_the_shipped_rationales_pass(name: str) -> None:
    suite = Suite.named(name)
    result = audit(suite, without_rows=own_store(suite) is not None)
    assert [task.task for task in result.tasks] == suite.task_names()
    assert result.usable, errors(result)
    assert all(task.rationales >= 120 and task.duplicates == 0 and task.verdicts < 0.01 for task in result.tasks)
    assert all(list(task.languages) == ["en"] for task in result.tasks)
    assert Audit.model_validate_json(result.model_dump_json()) == result
    assert tables(result)


@pytest.mark.superglue
def test_the_shipped_rationales_pass_on_the_real_rows() -> None:
    result = audit(Suite.named("superglue7"), data_dir=Path(os.environ["DHRD_DATA_DIR"]))
    assert result.usable, errors(result)
    assert sum(task.rationales for task in result.tasks) == 3405
    assert all(task.mismatched == task.mislabelled == task.absent == 0 for task in result.tasks)
    assert sum(task.contaminated or 0 for task in result.tasks) <= 2
    assert result.not_checked == []
    by_name = {task.task: task for task in result.tasks}
    assert by_name["CB"].coverage == 1.0
    assert (by_name["RTE"].predictable or 0) > 0.75  # as the corpus' own card has it: .82
    assert abs((by_name["COPA"].predictable or 0) - 0.5) < 0.07


# ---------------------------------------------------------------- the measures


def jaccard(one: str, other: str) -> float:
    a, b = set(grams(one, SHINGLE)), set(grams(other, SHINGLE))
    return len(a & b) / len(a | b) if a | b else 0.0


@given(texts=st.lists(WORDS, max_size=12))
@settings(max_examples=30, deadline=None)
def test_near_duplicates_are_what_they_say(texts: list[str]) -> None:
    pairs = near_duplicates(texts, 0.7)
    assert all(i < j and abs(jaccard(texts[i], texts[j]) - value) < 1e-12 and value >= 0.7 for i, j, value in pairs)
    found = {(i, j) for i, j, _ in pairs}
    identical = {
        (i, j) for j in range(len(texts)) for i in range(j) if texts[i].split() and texts[i] == texts[j]
    }  # fmt: skip
    assert identical <= found


def test_near_duplicates_with_changes_in_between() -> None:
    base = [f"w{i}" for i in range(40)]
    edited = [*base[:20], "other", *base[21:]]
    assert [pair[:2] for pair in near_duplicates([" ".join(base), "quite another text", " ".join(edited)], 0.7)] == [
        (0, 2)
    ]


@given(texts=st.lists(WORDS, max_size=5), own=WORDS, others=st.lists(WORDS, max_size=5), n=st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_contamination_against_a_plain_search(texts: list[str], own: str, others: list[str], n: int) -> None:
    def expected(text: str) -> bool:
        words = text.split()
        spans = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        return any(f" {s} " in f" {other} " and f" {s} " not in f" {own} " for s in spans for other in others)

    found = contaminated(texts, [own] * len(texts), others, n)
    assert sorted(found) == [i for i, text in enumerate(texts) if expected(text)]


def test_what_is_in_the_own_input_is_no_contamination() -> None:
    passage = " ".join(f"w{i}" for i in range(30))
    assert contaminated([passage], [passage + " more"], [passage], 8) == {}
    assert contaminated([passage], ["another input"], [passage], 8) == {0: 0}
    assert mostly_from([passage], [passage + " more"], [passage], 0.5) == {}
    assert mostly_from([passage], ["another input"], ["nothing here at all", passage + " and more"], 0.5) == {0: 1}
    scattered = " ".join(f"w{i}" if i % 6 else "x" for i in range(60))  # no 8 words in a row are left
    assert contaminated([scattered], [""], [" ".join(f"w{i}" for i in range(60))], 8) == {}
    assert mostly_from([scattered], [""], [" ".join(f"w{i}" for i in range(60))], 0.4) == {0: 0}


def test_copied_share() -> None:
    assert copied_share("a b c d", "x a b c d y", 2) == 1.0
    assert copied_share("a b c d", "a b x c d", 2) == pytest.approx(2 / 3)
    assert copied_share("", "a", 2) == 0.0


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("That is correct.", True),
        ("No. He left before.", True),
        ("He left before: wrong, then.", True),
        ("There is no mention of it.", False),
        ("She turned right at the gate and took the wrong bus.", False),
        ("Yesterday's truth was incorrectly cited.", False),
    ],
)
def test_verdict_words(text: str, verdict: bool) -> None:
    assert states_verdict(text) is verdict


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The premise entails it.", True),
        ("This contradicts the claim.", True),
        ("So it is not entailment.", True),
        ("A man walks with a dog.", False),
        ("Option B fits.", True),
        ("The (A) reading.", True),
        ("There is 1 dog.", False),
        ("It counter-acts the claim.", False),
    ],
)
def test_label_names(text: str, named: bool) -> None:
    assert names_label(text, ["entailment", "contradiction", "not_entailment", "A", "B", "1", "yes"]) is named


def test_predictability_tells_a_leak_from_none() -> None:
    labels = [i % 2 for i in range(100)]
    groups = [str(i) for i in range(100)]
    leaky = [f"{'sure' if label else 'never'} word{i}" for i, label in enumerate(labels)]
    neutral = [f"plain word{i * 17 % 100}" for i in range(100)]
    assert predictability(leaky, labels, groups) == (1.0, 0.5)
    read = predictability(neutral, labels, groups)
    assert read is not None
    assert read[0] < 0.65
    assert predictability(leaky[:6], labels[:6], groups[:6]) is None
    # Recognising the passage does not help: its rows are in one fold.
    passages = [f"passage{i // 10}" for i in range(100)]
    by_passage = predictability(passages, [i // 10 % 2 for i in range(100)], passages)
    assert by_passage is not None
    assert by_passage[0] < 0.7


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The passage says that the ferry was late, so it is likely that she missed it.", "en"),
        ("Der Text sagt, dass die Fähre nicht kam und auch das Boot zu spät ist.", "de"),
        ("Le texte dit que la barque est en retard et que les passagers ne sont pas partis.", "fr"),
        ("El texto dice que la barca no llegó y por eso se quedaron los viajeros.", "es"),
        ("Il testo dice che la barca non è arrivata e questo spiega anche il ritardo.", "it"),
        ("O texto diz que a balsa não chegou e que os viajantes são muitos.", "pt"),
        ("De tekst zegt dat het schip niet is gekomen en dat de reizigers op het strand zijn.", "nl"),
        ("Текст говорит, что паром опоздал.", "ru"),
        ("課文說船沒有來。", "zh"),
        ("船は来なかった。", "ja"),
        ("배가 오지 않았다.", "ko"),
        ("17 + 4 = 21", "und"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language
