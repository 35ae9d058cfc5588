"""What a teacher was shown, as arms of one comparison: stores by name, treatments of them, paired rows, leakage."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from dhrd_bench.cards import split_store
from dhrd_bench.cli import app
from dhrd_bench.data.rationales import Rationale, RationaleStore, to_line
from dhrd_bench.data.suite import LoadedTask, Suite
from dhrd_bench.data.treatments import KEYWORDS, PLAIN, STOP_SHARE, TREATMENTS, Arm, Stores
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.grid.rerun import plan_again
from dhrd_bench.grid.run import run_plan
from dhrd_bench.progress import Display
from dhrd_bench.rationales.audit.leak import predictability
from dhrd_bench.rationales.card import make_card, read_store_card
from dhrd_bench.report.leaderboard import Choice, analyse
from dhrd_bench.request import Options, RunRequest, parse_store, read_request
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.store import read_records
from dhrd_bench.results.table import long_table

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "suites" / "superglue7"
FAST = "smoke[train_rows=8,dev_rows=3,test_rows=8,epochs=1,tuning=top:1,max_length=96]"
WRONG = 5
"""So many rows of the written store have a writer who arrived at another label."""


@pytest.fixture(scope="module")
def rte() -> LoadedTask:
    return Suite.named("mini7").load("rte")


@pytest.fixture
def blind(rte: LoadedTask, tmp_path: Path) -> Path:
    """A store in which writers said where they arrived: 5 of 120 elsewhere."""
    folder = tmp_path / "written-blind"
    with RationaleStore(folder).writer("RTE") as writer:
        for number, row in enumerate(rte.train):
            answer = rte.card.labels[row.label if number >= WRONG else 1 - row.label]
            writer.append(
                Rationale(
                    idx=int(row.id), rationale=f"Blind. Seen {number} times by {row.id}.", answer=answer,
                    input_sha256_16=row.input_hash, confidence=0.75,
                )
            )  # fmt: skip
    return folder


def plan(results: Path, blind: Path, **changes: Any) -> Plan:
    wanted: dict[str, Any] = {
        "suite": "mini7", "tasks": "rte", "backbone": "tiny", "budget": FAST, "seeds": "1",
        "stores": {"blind": str(blind)},
    }  # fmt: skip
    return make_plan(RunRequest(results=results, **(wanted | changes)))


def stores_of(suite: str, **given: Path) -> Stores:
    return Stores.of(Suite.named(suite), None, {name: str(folder) for name, folder in given.items()})


def with_texts(task: LoadedTask, texts: list[str]) -> LoadedTask:
    """Return the first rows of `task`, with these rationales."""
    kept = replace(task, train=task.train[: len(texts)])
    return kept.taught({row.id: text for row, text in zip(kept.train, texts, strict=True)})


# ---------------------------------------------------------------- treatments


def test_right_keeps_the_rationales_whose_writer_arrived_at_the_gold_label(rte: LoadedTask, blind: Path) -> None:
    taught = Suite.named("mini7").load("rte", rationales=blind)
    assert set(TREATMENTS["right"](taught)) == {row.id for row in rte.train[WRONG:]}
    with pytest.raises(UserError, match="writer's answer"):
        TREATMENTS["right"](rte)


@pytest.mark.parametrize(
    ("task", "answers"),
    [  # as the data write labels, by the class's name, in the prompt's words
        ("copa", [("0", "1"), ("choice1", "choice2"), ("A", "B")]),
        ("wsc", [("false", "true"), ("no", "yes"), ("No", "Yes")]),
    ],
)
def test_an_answer_is_known_in_every_form_that_teachers_use(
    task: str, answers: list[tuple[str, str]], tmp_path: Path
) -> None:
    suite = Suite.named("mini7")
    loaded = suite.load(task)
    lines = [
        Rationale(idx=row.id, rationale="why", answer=words[row.label], input_sha256_16=row.input_hash)
        for row, words in zip(loaded.train, answers * 40, strict=True)
    ]
    (tmp_path / f"{loaded.card.name}.jsonl").write_bytes(b"".join(map(to_line, lines)))
    assert all(row.answer == row.label for row in suite.load(task, rationales=tmp_path).train)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("One thing. Then another? So it goes.", "So it goes."),
        ('He said "never mind." That settles it!', "That settles it!"),
        ("Only 2.5 of them", "Only 2.5 of them"),
    ],
)
def test_a_verdict_is_the_last_sentence(rte: LoadedTask, text: str, last: str) -> None:
    task = with_texts(rte, [text])
    assert list(TREATMENTS["verdict"](task).values()) == [last]


def test_keywords_are_the_content_words_with_the_largest_weights(rte: LoadedTask) -> None:
    texts = [row.rationale or "" for row in rte.train]
    words = [re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower()) for text in texts]
    kept = [text.split() for text in TREATMENTS["keywords"](rte).values()]

    def weight(word: str, row: list[str]) -> float:
        return row.count(word) * math.log(len(words) / sum(word in other for other in words))

    for row, chosen in zip(words, kept, strict=True):
        assert [word for word in dict.fromkeys(row) if word in chosen] == chosen  # in their order, each once
        assert all(sum(word in other for other in words) <= STOP_SHARE * len(words) for word in chosen)
        left = [w for w in set(row) - set(chosen) if sum(w in other for other in words) <= STOP_SHARE * len(words)]
        assert len(chosen) == KEYWORDS or not left
        assert all(weight(a, row) >= weight(b, row) for a in chosen for b in left)
    assert "the" not in {word for chosen in kept for word in chosen}


@given(st.lists(st.sampled_from(["a b.", "c d.", "e f.", "g h.", "i j."]), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_other_gives_the_rationale_of_another_row_of_the_label(rte: LoadedTask, texts: list[str]) -> None:
    task = with_texts(rte, texts)
    given_ = TREATMENTS["other"](task)
    assert given_ == TREATMENTS["other"](task)
    for label in (0, 1):
        rows = [row for row in task.train if row.label == label]
        own = Counter(row.rationale for row in rows)
        received = Counter(given_[row.id] for row in rows if row.id in given_)
        assert not received - own  # nobody's is given twice
        assert all(given_[row.id] != row.rationale for row in rows if row.id in given_)
        if max(own.values(), default=0) * 2 <= len(rows):  # else some would get one like their own, and get none
            assert received == own


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("dhrd", ("dhrd", None)),
        ("dhrd@blind-right", ("dhrd", "blind-right")),
        ("dhrd[alpha=0.5]@blind", ("dhrd[alpha=0.5]", "blind")),
        ('dhrd[a="x@y"]', ('dhrd[a="x@y"]', None)),
    ],
)
def test_a_store_stands_behind_the_settings(text: str, parts: tuple[str, str | None]) -> None:
    assert split_store(text) == parts


def test_a_store_that_is_read_anyway_goes_without_saying(blind: Path) -> None:
    shipped = stores_of("superglue7")
    assert shipped.arm("gold") == PLAIN
    assert shipped.arm("gold-verdict") == shipped.arm("verdict") == Arm(None, "verdict")
    assert shipped.arm("blind-right") == Arm("blind", "right")
    named = Stores.of(Suite.named("superglue7"), str(SHIPPED / "rationales_blind"), {})
    assert (named.arm("blind"), named.arm("gold")) == (PLAIN, Arm("gold"))
    assert stores_of("mini7", blind=blind).arm("blind") == Arm("blind")


def test_an_unknown_store_is_refused_with_the_nearest_name(tmp_path: Path, blind: Path) -> None:
    with pytest.raises(UserError, match="no rationales 'blnid'") as found:
        plan(tmp_path, blind, methods="dhrd@blnid")
    assert "blind" in found.value.hint
    with pytest.raises(UserError, match="no rationales 'blind-rihgt'") as found:
        plan(tmp_path, blind, methods="dhrd@blind-rihgt")
    assert "blind-right" in found.value.hint
    with pytest.raises(UserError, match="reads no rationales"):
        plan(tmp_path, blind, methods="pooled@blind")
    with pytest.raises(UserError, match="No rationale store"):
        plan(tmp_path, tmp_path / "nowhere", methods="dhrd@blind")
    with pytest.raises(UserError, match="comes with its writer's answer"):
        plan(tmp_path, blind, methods="dhrd@right")


@pytest.mark.parametrize("text", ["blind", "=folder", "blind=", "a@b=folder", "-x=folder"])
def test_a_store_without_name_or_folder_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="Cannot read the store"):
        parse_store(text)


# ---------------------------------------------------------------- rows


def test_arms_are_trained_on_the_same_rows(tmp_path: Path, blind: Path) -> None:
    found = plan(tmp_path, blind, methods="pooled,dhrd,dhrd@blind,dhrd@blind-right,dhrd@other", seeds="2")
    for seed in (0, 1):
        cells = [cell for cell in found.cells if cell.cell.seed == seed]
        assert len({cell.parts.rows for cell in cells}) == len({cell.parts.data_version for cell in cells}) == 1
        assert len({cell.identity for cell in cells}) == len(cells) == 5
        assert all(row.rationale for cell in cells for row in cell.data.train)
    assert found.request.paired == ("blind", "blind-right", "other")
    notes = {note for cell in found.cells for note in cell.notes}
    assert any(note.startswith("115 of 120 rows with a rationale") for note in notes)
    assert "blind and blind-right are the same rationales on these rows" in notes


def test_stores_that_cover_all_rows_leave_the_other_cells_as_they_are(tmp_path: Path, blind: Path) -> None:
    alone = {cell.cell.method: cell for cell in plan(tmp_path, blind, methods="pooled,dhrd").cells}
    beside = {cell.cell.method: cell for cell in plan(tmp_path, blind, methods="pooled,dhrd,dhrd@blind").cells}
    fewer = {cell.cell.method: cell for cell in plan(tmp_path, blind, methods="dhrd", paired="blind-right").cells}
    assert all(beside[name].parts == alone[name].parts for name in alone)
    assert beside["dhrd@blind"].parts.data_version == alone["dhrd"].parts.data_version
    assert fewer["dhrd"].parts.data_version != alone["dhrd"].parts.data_version  # never in one table


def test_with_keep_rows_an_arm_lacks_what_its_store_lacks(tmp_path: Path, blind: Path) -> None:
    methods, whole = "pooled,dhrd,dhrd@blind,dhrd@blind-right", FAST.replace("train_rows=8", "train_rows=110")
    found = {
        cell.cell.method: cell for cell in plan(tmp_path, blind, methods=methods, keep_rows=True, budget=whole).cells
    }
    alone = {cell.cell.method: cell for cell in plan(tmp_path, blind, methods="pooled,dhrd", budget=whole).cells}
    assert all(found[name].parts == alone[name].parts for name in alone)
    assert len({cell.parts.rows for cell in found.values()}) == 1
    rows = {row.example.id for row in found["dhrd"].data.train}
    wrong = {row.id for row in found["dhrd"].loaded.train[:WRONG]}
    bare = {row.example.id for row in found["dhrd@blind-right"].data.train if row.rationale is None}
    assert bare == rows & wrong != set()
    assert all(row.rationale for row in found["dhrd@blind"].data.train)


def test_stores_without_a_row_in_common_are_refused(tmp_path: Path, rte: LoadedTask) -> None:
    for name, rows in (("first", rte.train[:10]), ("last", rte.train[-10:])):
        with RationaleStore(tmp_path / name).writer("RTE") as writer:
            writer.extend(Rationale(idx=row.id, rationale="why", input_sha256_16=row.input_hash) for row in rows)
    with pytest.raises(UserError, match=r"last 10"):
        plan(tmp_path, tmp_path / "first", methods="dhrd@last", rationales=str(tmp_path / "first"),
             stores={"last": str(tmp_path / "last")})  # fmt: skip


# ---------------------------------------------------------------- from a run to the report


def test_a_run_over_several_stores_is_reported_with_what_they_give_away(tmp_path: Path, blind: Path) -> None:
    wanted = plan(tmp_path, blind, methods="pooled,dhrd,dhrd@blind,dhrd@verdict", keep_rows=True)
    run_plan(wanted, Display(Console(quiet=True), len(wanted.missing)))
    records, problems = read_records(tmp_path)
    assert not problems
    assert all(record.status == "ok" for record in records)
    rte = Suite.named("mini7").load("rte")
    clusters, labels = [row.cluster for row in rte.train], [row.label for row in rte.train]
    read, largest = predictability([row.rationale or "" for row in rte.train], labels, clusters) or (0.0, 0.0)
    for record in records:
        assert record.data is not None
        reads = record.cell.method != "pooled"
        assert record.data.taught_rows == (8 if reads else None)
        if record.cell.method == "dhrd":
            assert (record.data.label_read, record.data.largest_class) == pytest.approx((read, largest))

    board = analyse(load_results(tmp_path), Choice(), resamples=100)
    document = json.loads(board.render("json"))["leaderboards"][0]
    assert [each["method"] for each in document["leakage"]] == [
        line["method"] for line in document["methods"] if line["method"] != "pooled"
    ]
    gains = {line["method"]: line["tasks"][0]["versus"] for line in document["methods"]}
    for each in document["leakage"]:
        assert each["gain"] == gains[each["method"]]["gain"]
        assert each["taught"] == 1.0
    table = board.render("markdown").split("What the rationales give away")[1]
    line = next(line for line in table.splitlines() if "| dhrd |" in line)
    assert f"| 1.00 | {read:.2f} | {largest:.2f} |" in line
    assert re.search(r"dhrd@verdict,RTE,label_read,0\.\d", board.render("csv"))

    (again,) = [r for r in records if r.cell.method == "dhrd@blind"]
    assert again.request is not None
    assert again.request.stores == {"blind": "written-blind"}  # and nothing of this machine's folders
    (cell,) = plan_again(again, Options(stores=[f"blind={blind}"])).cells
    assert cell.identity == again.identity


def test_the_command_line_names_stores_and_its_request_can_be_run_again(tmp_path: Path, blind: Path) -> None:
    words = ("--methods", "pooled,dhrd[alpha=0.5]@blind", "--tasks", "rte", "--backbone", "tiny", "--budget", FAST)
    options = ("--store", f"blind={blind}", "--paired", "blind-right", "--dry-run", "--format", "yaml")
    done = CliRunner().invoke(app, ["run", *words, *options])
    assert done.exit_code == 0, done.output
    (tmp_path / "request.yaml").write_text(done.stdout)
    again = read_request(tmp_path / "request.yaml", {})
    assert again.stores == {"blind": str(blind)}
    assert again.paired == ("blind", "blind-right")
    asked = {"methods": "pooled,dhrd[alpha=0.5]@blind", "paired": "blind-right"}
    identities = [cell.identity for cell in plan(tmp_path, blind, **asked).cells]
    assert [cell.identity for cell in make_plan(again).cells if cell.cell.seed == 0] == identities


def test_a_report_without_stores_has_no_table_of_them() -> None:
    board = analyse(long_table(fakes.records()), Choice(), resamples=100)
    assert "give away" not in board.render("markdown")
    assert json.loads(board.render("json"))["leaderboards"][0]["leakage"] == []


def test_an_audit_tells_what_an_older_record_does_not(tmp_path: Path) -> None:
    def made(name: str, fingerprint: str) -> list[Any]:
        found = []
        for record in fakes.records():
            if record.cell.method == "better":
                data = record.data.model_copy(update={"rationale_fingerprint": fingerprint})
                method = record.method.model_copy(update={"uses_rationales": True})
                cell = record.cell.model_copy(update={"method": name})
                found.append(record.model_copy(update={"data": data, "method": method, "cell": cell}))
        return found

    base = [record for record in fakes.records() if record.cell.method == "base"]
    table = long_table([*base, *made("better", "aa"), *made("better@blind", "bb")])
    (tmp_path / "audits").mkdir()
    task = {"rationale_fingerprint": "bb", "predictable": 0.81, "base_rate": 0.5}
    (tmp_path / "audits" / "b.json").write_text(json.dumps({"tasks": [task], "badge": "ours"}))
    (board,) = analyse(replace(table, folder=tmp_path), Choice(), resamples=100).boards
    found = {(each.method, each.task): each.label_read for each in board.leakages}
    assert found["better@blind", "beta"] == 0.81
    assert found["better", "beta"] is None


def test_two_stores_under_one_name_are_not_mixed() -> None:
    made = []
    for record in fakes.records(seeds=(0, 1, 2)):
        if record.cell.method == "better":
            parts = record.parts.model_copy(update={"rationales": "new" if record.cell.seed == 2 else "old"})
            record = record.model_copy(update={"parts": parts})
        made.append(record)
    (board,) = analyse(long_table(made), Choice(), resamples=100).boards
    notes = [note for note in board.analysis.selection.notes if "another version of rationale store" in note]
    assert [note.split(": ")[2] for note in notes] == ["alpha (2).", "beta (2).", "gamma (2)."]


# ---------------------------------------------------------------- the shipped stores


def test_the_blind_store_is_for_the_rows_of_the_one_with_gold_labels() -> None:
    gold, blind = RationaleStore(SHIPPED / "rationales"), RationaleStore(SHIPPED / "rationales_blind")
    right = {"CB": 0.992, "COPA": 1.0, "RTE": 0.958, "WSC": 0.987}
    assert blind.tasks() == sorted(right)
    for task, share in right.items():
        labels = {line.key: line.label for line in gold.rows(task)}
        lines = blind.rows(task)
        assert {line.key: line.label for line in lines} == labels
        hits = [str(line.answer).lower() == str(line.label).lower() for line in lines]
        assert sum(hits) / len(hits) == pytest.approx(share, abs=5e-4)
        assert all(line.confidence is not None and line.usable for line in lines)


@pytest.mark.parametrize("name", ["rationales", "rationales_blind"])
def test_the_cards_of_the_shipped_stores_are_those_of_their_lines(name: str) -> None:
    store = RationaleStore(SHIPPED / name)
    assert make_card(store) == read_store_card(store)
    assert [recipe.label_seen for recipe in read_store_card(store).recipes] == [name == "rationales"]
