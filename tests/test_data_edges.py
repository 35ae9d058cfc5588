"""Data at the edges: what is refused, with its place, and what is noted before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evaluate
import fakes
import pytest
from command_line import dhrd
from grids import plan, run
from own_suites import FROM_STORE, ROWS, SUITE, store_lines, write
from pydantic import ValidationError

from dhrd_bench import plugins, registry
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.request import RunRequest


@pytest.fixture(autouse=True)
def no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DHRD_DATA_DIR", raising=False)


# ---------------------------------------------------------------- the suite file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["No", "Yes"]', '["Yes", "Yes"]', r"suite\.yaml:13: .*answers 'Yes' and 'Yes' are the same\. Give"),
        ('["No", "Yes"]', '["yes", "YES"]', r"suite\.yaml:13: .*answers 'yes' and 'YES' are the same, case"),
        ('["No", "Yes"]', '["e\\u0301", "\\u00e9"]', r"suite\.yaml:13: .*are the same, case and form aside"),
        ('["No", "Yes"]', '["", "Yes"]', r"suite\.yaml:13: .*one of the answers is empty"),
        ("[sad, glad]", "[DE, de]", r"suite\.yaml:8: .*label names 'DE' and 'de' are the same, case"),
        ("[sad, glad]", "[sad, glad], values: [1, '1']", r"suite\.yaml:8: .*label values 1 and '1' are the same"),
    ],
)
def test_two_classes_of_one_word_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path, SUITE.replace(old, new, 1))


def test_a_suite_or_method_that_cannot_be_loaded_is_explained_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "suite.yaml").write_text("kind: suite\nname: mine\ntasks:\n\tt: {}\n")
    (tmp_path / "newer.py").write_text("import dhrd_bench\nimport no_such_package\n")
    plugins.load_all()
    with plugins.isolated():
        plugins.include(tmp_path)
        with pytest.raises(UserError, match=r"Unknown suite 'mine'\. .*mine/suite\.yaml:4: found character '\\t'"):
            registry.suites.get("mine")
        with pytest.raises(UserError, match=r"newer\.py: ModuleNotFoundError: .*'no_such_package' \(line 2\)"):
            registry.methods.get("newer")


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (r'{"key": "a", "text": "half \ud83d", "mood": "sad"}', r"train\.jsonl:2: 'text' holds \\ud83d"),
        ('{"key": "a", "text": NaN, "mood": "sad"}', r"train\.jsonl:2: 'text' is NaN"),
        ('{"key": "a", "text": -Infinity, "mood": "sad"}', r"train\.jsonl:2: 'text' is -Infinity"),
    ],
)
def test_what_json_can_spell_and_is_no_text(tmp_path: Path, line: str, message: str) -> None:
    suite = write(tmp_path, train=json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        suite.load("moods")


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    suite = write(tmp_path, train=r'{"key": "a", "text": "\ud83d\ude00", "mood": "sad"}' + "\n")
    assert suite.load("moods").train[0].fields["text"] == "\U0001f600"


def test_a_cell_of_a_table_may_be_a_document(tmp_path: Path) -> None:
    text = "word " * 40_000
    (tmp_path / "train.csv").write_text(f"key,text,mood\na,{text},sad\n")
    loaded = write(tmp_path, SUITE.replace("train.jsonl", "train.csv")).load("moods")
    assert loaded.train[0].fields["text"] == text


def test_rows_of_train_in_test_are_counted_and_named(tmp_path: Path) -> None:
    again = [{**ROWS[1], "key": "t1"}, {**ROWS[2], "key": "t2", "text": "Text,  2!"}, {**ROWS[7], "key": "t3"}]
    loaded = write(tmp_path, test=again).load("moods")
    assert loaded.notes == (
        "1 test rows have a text of the train rows: t1",
        "1 test rows have nearly a text of the train rows: t2",
    )
    assert write(tmp_path).load("moods").notes == ()


@pytest.mark.parametrize(
    ("start", "end", "odd"),
    [(9, 13, None), (9, 14, None), (10, 14, "ank "), (8, 12, " ban"), (9, 12, "ban"), (0, 1, None)],
)
def test_a_span_that_was_counted_in_bytes_is_noted(tmp_path: Path, start: int, end: int, odd: str | None) -> None:
    text = SUITE.replace("[key, text]", "[key, text, start, end, word]").replace(
        "id: key", "id: key\n    spans: [{text: text, start: start, end: end, words: word}]"
    )
    row = {**ROWS[0], "text": "Ž by the bank of it", "start": start, "end": end, "word": "bank"}
    test = {**row, "key": "t", "text": "Ž by the bench of it", "start": 9, "end": 14}
    notes = write(tmp_path, text, train=[row], test=[test]).load("moods").notes
    place = f"train: 1 spans begin or end inside a word; the first at {tmp_path / 'train.jsonl'}:1"
    assert notes == (() if odd is None else (f"{place}: marked {odd!r} where 'word' is 'bank'",))


def test_a_store_without_a_usable_rationale_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    lines = [{**line, "rejected": "names the class"} for line in store_lines()]
    (store / "moods.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"no usable rationale of task 'moods': all 6 are rejected"):
        write(tmp_path, FROM_STORE, moods=store_lines()).load("moods", rationales=store)


def test_a_record_names_each_row_once() -> None:
    one = fakes.record(fakes.SMALL[0], fakes.THREE[0], 0)
    assert one.rows is not None
    with pytest.raises(ValidationError, match="row id 'alpha-00001' is there twice"):
        fakes.with_rows(one, id=["alpha-00001", *one.rows.id[1:]])


# ---------------------------------------------------------------- a folder of the user's


def a_release(folder: Path, **fields: Any) -> Path:
    """Write rows of COPA as the release has them."""
    folder.mkdir(parents=True)
    for name, count in (("train", 9), ("val", 4)):
        rows = [
            {"premise": f"{name} {n}", "choice1": "x", "choice2": "y", "question": "cause", "idx": n, "label": n % 2}
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row | fields) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("suite", ["mini7", "superglue7"])
@pytest.mark.parametrize("place", ["COPA", "{suite}/COPA", "rows", "copa"])
def test_a_named_folder_means_what_it_seems_to(suite: str, place: str, tmp_path: Path) -> None:
    folder = a_release(tmp_path / place.format(suite=suite))
    named = tmp_path if place.endswith("COPA") else folder
    loaded = Suite.named(suite).load("COPA", data_dir=named, alone=True)
    assert (loaded.source.kind, len(loaded.train), loaded.train[0].fields["premise"]) == ("data-dir", 9, "train 0")


def test_a_named_folder_is_never_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_release(tmp_path / "rows")
    suite = Suite.named("mini7")
    for task, alone in (("RTE", False), ("COPA", False)):  # of two tasks neither can have the bare files
        with pytest.raises(UserError, match=f"No files of task '{task}' of 'mini7' in .*rows"):
            suite.load(task, data_dir=folder, alone=alone)
    monkeypatch.setenv("DHRD_DATA_DIR", str(tmp_path))  # for every suite: not mini7's, which has rows of its own
    assert suite.load("COPA").source.kind == "embedded"


def test_a_rationale_in_the_row_is_read_for_superglue_too(tmp_path: Path) -> None:
    a_release(tmp_path / "COPA", rationale="As one sees.")
    loaded = Suite.named("superglue7").load("COPA", data_dir=tmp_path)
    assert {row.rationale for row in loaded.train} == {"As one sees."}
    assert loaded.rationale_coverage == 1


# ---------------------------------------------------------------- said before training


def test_a_method_of_rationales_without_any_is_refused_unless_the_user_allows_it(tmp_path: Path) -> None:
    a_release(tmp_path / "COPA")
    request = RunRequest(
        methods=("pooled", "dhrd", "cot"), suite="superglue7", tasks=("COPA",), backbone="tiny",
        budget="smoke[dev_rows=0]", seeds=(0, 1), results=tmp_path / "out", data_dir=tmp_path,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"No train row has a rationale, .*: COPA \(dhrd, cot\)\. .*--allow-missing"):
        make_plan(request)
    assert len(make_plan(request.model_copy(update={"methods": ("pooled",)})).cells) == 2
    pooled, dhrd = make_plan(request.model_copy(update={"allow_missing_rationales": True})).cells[:2]
    assert not any("rationale" in note for note in pooled.notes if not note[0].isdigit())
    assert dhrd.notes[-1].startswith("dhrd: 0 of 9 train rows have a rationale")
    assert not any("rationale" in note for cell in plan(tmp_path / "other").cells for note in cell.notes)


def test_a_method_whose_card_says_that_it_does_without_is_not_refused(tmp_path: Path) -> None:
    a_release(tmp_path / "COPA")
    (tmp_path / "own").mkdir()
    source = """
import dhrd_bench as db

@db.register
class Either(db.method("dhrd")):
    card = db.method("dhrd").card.model_copy(update={"name": "either", "rationales_optional": True})
"""
    (tmp_path / "own" / "either.py").write_text(source)
    plugins.load_all()
    with plugins.isolated():
        request = RunRequest(
            methods=("either",), suite="superglue7", tasks=("COPA",), backbone="tiny", budget="smoke[dev_rows=0]",
            seeds=(0,), results=tmp_path / "out", data_dir=tmp_path, include=(tmp_path / "own",),
        )  # fmt: skip
        (cell,) = make_plan(request).cells
    assert cell.notes[-1].startswith("either: 0 of 9 train rows have a rationale")


def test_what_has_a_record_is_not_refused_and_is_marked_in_the_report(tmp_path: Path) -> None:
    a_release(tmp_path / "COPA")
    out = str(tmp_path / "out")
    arguments = [
        "run", "--methods", "pooled,dhrd", "--suite", "superglue7", "--tasks", "COPA", "--backbone", "tiny",
        "--budget", "smoke[dev_rows=0,epochs=1]", "--seeds", "0", "--data-dir", str(tmp_path), "--results", out,
    ]  # fmt: skip
    refused = dhrd(*arguments)
    assert refused.returncode == 2
    assert "No train row has a rationale" in refused.stderr
    assert dhrd(*arguments, "--allow-missing-rationales").returncode == 0
    assert "2 have a record" in dhrd(*arguments).stdout
    rerun = dhrd("rerun", str(next(Path(out).rglob("dhrd/COPA/seed-0.json"))), "--data-dir", str(tmp_path))
    assert "No train row" not in rerun.stderr
    report = dhrd("report", "--results", out, "--format", "markdown").stdout
    assert "| dhrd‡ |" in report
    assert report.count("‡ learns from rationales, and there were none.") == 3
    assert "pooled‡" not in report
    (board,) = json.loads(dhrd("report", "--results", out, "--format", "json").stdout)["leaderboards"]
    assert board["without_rationales"] == [{"method": "dhrd", "task": "COPA"}]
    assert r"dhrd\textdaggerdbl{}" in dhrd("report", "--results", out, "--format", "latex").stdout


def own_suite(folder: Path, text: str, **files: Any) -> RunRequest:
    (folder / "own").mkdir()
    write(folder / "own", text, **files)
    return RunRequest(
        methods=("majority",), suite="own", backbone="tiny", budget="smoke[dev_rows=0,max_length=20]", seeds=(0,),
        results=folder / "out", include=(folder,),
    )  # fmt: skip


def test_an_input_that_cannot_be_cut_is_noted_and_refused_where_it_would_take_hours(tmp_path: Path) -> None:
    whole = SUITE.replace("        truncate: text\n", "")
    long = [{**ROWS[0], "text": "word " * 30}, *ROWS[1:6]]
    plugins.load_all()
    with plugins.isolated():
        (cell,) = make_plan(own_suite(tmp_path, whole, train=long)).cells
        assert cell.notes[0].startswith("1 inputs have more words than the budget's max_length of 20")
        write(tmp_path / "own", whole, train=[{**ROWS[0], "text": "word " * 300}, *ROWS[1:6]])
        request = RunRequest(
            methods=("majority",), suite="own", backbone="tiny", budget="smoke[dev_rows=0,max_length=20]", seeds=(0,),
            results=tmp_path / "out",
        )  # fmt: skip
        with pytest.raises(UserError, match=r"Task 'moods': .*row 'k0', 303 words.*'truncate'"):
            make_plan(request)
        write(tmp_path / "own", SUITE, train=[{**ROWS[0], "text": "word " * 300}, *ROWS[1:6]])
        assert make_plan(request).cells[0].notes == ()


def test_a_metric_that_cannot_be_had_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the hub.\nRetry.")

    monkeypatch.setattr(evaluate, "load", unreachable)
    plugins.load_all()
    with plugins.isolated():
        planned = make_plan(
            own_suite(tmp_path, SUITE.replace("    id: key", "    id: key\n    metrics: ['evaluate:x']"))
        )
        with pytest.raises(UserError, match=r"Cannot load the metric 'evaluate:x': Couldn't reach the hub\."):
            run(planned)
    assert not (tmp_path / "out").exists()
