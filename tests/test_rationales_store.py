"""The store: what is written survives, what is read is whole, what is pinned stays."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dhrd_bench.data.rationales import Rationale, RationaleStore, example_key, fingerprint, to_line
from dhrd_bench.errors import UserError
from dhrd_bench.rationales.card import Recipe, StoreCard, make_card, save_card, to_markdown, write_card
from dhrd_bench.rationales.merge import merge

SHIPPED = Path(__file__).parent.parent / "suites" / "superglue7" / "rationales"

# Surrogates cannot be written as UTF-8; anything else may stand in a rationale.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
IDX = st.one_of(st.integers(0, 10**6), TEXT.filter(bool), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))
ROWS = st.builds(
    Rationale,
    idx=IDX,
    label=st.one_of(st.none(), st.booleans(), st.integers(0, 3), TEXT),
    rationale=TEXT,
    input_sha256_16=st.text("0123456789abcdef", min_size=16, max_size=16),
    sample=st.integers(0, 3),
    teacher=st.one_of(st.none(), st.just("local:x")),
    parameters=st.one_of(st.none(), st.just({"temperature": 0.1})),
    rejected=st.one_of(st.none(), st.just("cut off")),
    cost=st.one_of(st.none(), st.floats(0, 1e3)),
)


def row(idx: int, text: str = "Because of this.", **more: object) -> Rationale:
    values = {"idx": idx, "label": True, "rationale": text, "input_sha256_16": f"{idx:016x}"}
    return Rationale.model_validate(values | more)


def fill(folder: Path, rows: list[Rationale], task: str = "Toy") -> RationaleStore:
    store = RationaleStore(folder)
    with store.writer(task) as writer:
        for each in rows:
            writer.append(each)
    return store


@given(rows=st.lists(ROWS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(rows: list[Rationale]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert fill(Path(folder), rows).rows("Toy") == rows


@given(rows=st.lists(ROWS, min_size=1, max_size=5), where=st.floats(0, 1), added=ROWS)
@settings(max_examples=60, deadline=None)
def test_a_write_torn_at_any_byte_costs_at_most_that_line(
    rows: list[Rationale], where: float, added: Rationale
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = fill(Path(folder), rows)
        content = store.path("Toy").read_bytes()
        cut = int(where * len(content))
        store.path("Toy").write_bytes(content[:cut])
        whole = 0
        for number in range(len(rows) + 1):
            # A line that lacks nothing but its newline is whole.
            if len(b"".join(map(to_line, rows[:number]))) - (number > 0) <= cut:
                whole = number
        assert store.rows("Toy") == rows[:whole]
        fill(Path(folder), [added])
        assert store.rows("Toy") == [*rows[:whole], added]
        assert store.path("Toy").read_bytes().endswith(b"\n")


@given(rows=st.lists(ROWS, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_fingerprint_sees_what_reaches_a_model_and_nothing_else(rows: list[Rationale], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    dearer = [each.model_copy(update={"cost": 1.0, "created": "2030-01-01"}) for each in shuffled]
    rejected = row(7, rejected="cut off")
    assert fingerprint(rows) == fingerprint([*dearer, rejected])
    usable = [each for each in rows if each.usable]
    if usable:
        changed = [each.model_copy(update={"rationale": each.rationale + "!"}) for each in rows]
        assert fingerprint(rows) != fingerprint(changed)


def test_shipped_lines_are_read_as_they_are() -> None:
    store = RationaleStore.open(SHIPPED)
    assert sum(len(store.rows(task)) for task in store.tasks()) == 3405
    first = store.rows("MultiRC")[0]
    assert example_key(first.idx) == "112-1319-6821"
    raw = json.loads((SHIPPED / "MultiRC.jsonl").read_text().splitlines()[0])
    assert raw == {name: getattr(first, name) for name in ("idx", "label", "rationale", "input_sha256_16")}
    assert isinstance(store.rows("BoolQ")[0].label, bool)


def test_the_shipped_card_is_up_to_date() -> None:
    store = RationaleStore(SHIPPED)
    card = StoreCard.model_validate(yaml.safe_load((SHIPPED / "card.yaml").read_text()))
    assert make_card(store) == card
    assert to_markdown(card) == (SHIPPED / "README.md").read_text()
    assert card.recipes[0].label_seen is True


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"idx": 1}', "line 2: rationale: Field required"),
        ('{"idx": 1, "rationale": "x", "input_sha256_16": "12"}', "line 2: input_sha256_16"),
        ('{"idx": 1, "rationale": "x", "input_sha256_16": "0123456789abcdef", "lable": 1}', "Did you mean 'label'"),
        ("not json", "line 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    store = fill(tmp_path, [row(0)])
    with store.path("Toy").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        store.rows("Toy")
    assert str(store.path("Toy")) in str(caught.value)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    script = f"""
import sys; from pathlib import Path
from dhrd_bench.data.rationales import RationaleStore
with RationaleStore(Path({str(tmp_path)!r})).writer("Toy"):
    print("in", flush=True); sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    with pytest.raises(UserError, match="Another process"), RationaleStore(tmp_path).writer("Toy"):
        pass
    process.kill()
    process.communicate()
    fill(tmp_path, [row(0)])  # a killed writer leaves no lock


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"), RationaleStore(tmp_path / "file" / "store").writer("Toy"):
        pass


def test_pins(tmp_path: Path) -> None:
    store = fill(tmp_path, [row(0)])
    pin = store.fingerprint()
    assert RationaleStore.open(f"{tmp_path}@{pin[:12]}") == store
    fill(tmp_path, [row(1)])
    with pytest.raises(UserError, match=r"changed since it was pinned"):
        RationaleStore.open(f"{tmp_path}@{pin[:12]}")
    with pytest.raises(UserError):
        RationaleStore.open(f"{tmp_path}@{store.fingerprint()[:4]}")
    with pytest.raises(UserError, match="No rationale store"):
        RationaleStore.open(tmp_path / "nothing")
    at = tmp_path / "a@b"
    assert RationaleStore.open(fill(at, [row(0)]).folder).folder == at


def test_the_card_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    rows = [row(0), row(1, label=False, tokens_in=10, tokens_out=5, cost=0.5, currency="EUR", seconds=1.5)]
    store = fill(tmp_path, [*rows, row(2, rejected="cut off", tokens_in=1, tokens_out=1)])
    save_card(tmp_path, StoreCard(name="mine", licence="MIT", recipes=(Recipe(teacher="me", label_seen=True),)))
    card = write_card(store)
    assert (card.name, card.licence, card.recipes[0].teacher) == ("mine", "MIT", "me")
    held = card.contents["Toy"]
    assert (held.rows, held.usable, held.rejected, held.labels) == (2, 2, {"cut off": 1}, {"False": 1, "True": 1})
    assert (held.tokens_in, held.tokens_out, held.cost, held.seconds) == (11, 6, {"EUR": 0.5}, 1.5)
    assert write_card(store) == card
    markdown = (tmp_path / "README.md").read_text()
    assert "| me | unknown | shown |" in markdown
    assert "1 cut off" in markdown
    (tmp_path / "card.yaml").write_text("name: x\nlicense: MIT\n")
    with pytest.raises(UserError, match="Did you mean 'licence'"):
        write_card(store)


def test_merge_prefers_the_first_and_keeps_all(tmp_path: Path) -> None:
    a = fill(tmp_path / "a", [row(0, "A0", teacher="a"), row(1, "A1", teacher="a", rejected="empty")])
    b = fill(tmp_path / "b", [row(1, "B1", teacher="b"), row(0, "B0", teacher="b"), row(2, "B2", teacher="b")])
    fill(tmp_path / "b", [row(5, "other")], "Second")
    card = merge(tmp_path / "c", [a, b, a])
    merged = RationaleStore.open(tmp_path / "c")
    assert merged.tasks() == ["Second", "Toy"]
    got = sorted((each.key[0], each.sample, each.rationale, each.teacher) for each in merged.rows("Toy"))
    assert got == [
        ("0", 0, "A0", "a"),
        ("0", 1, "B0", "b"),
        ("1", 0, "A1", "a"),
        ("1", 1, "B1", "b"),
        ("2", 0, "B2", "b"),
    ]
    assert card.contents["Toy"].usable == 4
    assert card.fingerprint == merged.fingerprint()
    assert {recipe.teacher for recipe in card.recipes} == {"a", "b", "unknown"}
    with pytest.raises(UserError, match="already"):
        merge(tmp_path / "c", [a])


def test_merge_carries_what_only_the_card_says(tmp_path: Path) -> None:
    a = fill(tmp_path / "a", [row(0)])
    save_card(a.folder, StoreCard(name="a", recipes=(Recipe(teacher="a model", prompt="p", label_seen=True),)))
    merge(tmp_path / "b", [a])
    (line,) = RationaleStore(tmp_path / "b").rows("Toy")
    assert (line.teacher, line.prompt, line.label_seen) == ("a model", "p", True)


def test_stores_of_other_data_are_not_merged(tmp_path: Path) -> None:
    a = fill(tmp_path / "a", [row(0)])
    b = fill(tmp_path / "b", [row(0, input_sha256_16="f" * 16)])
    with pytest.raises(UserError, match="another input"):
        merge(tmp_path / "c", [a, b])
    assert not (tmp_path / "c").exists()
