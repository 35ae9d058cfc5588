"""A suite of the user's own by YAML alone: formats, split rules, and what is said about mistakes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_suites import FROM_STORE, ROWS, SUITE, store_lines, write

from dhrd_bench.contracts import Budget, Predictions
from dhrd_bench.data.cards import HubCard, PromptCard, SuiteCard, TaskDefinition
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.scoring import score

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DHRD_DATA_DIR", raising=False)


# ---------------------------------------------------------------- the documented example


def test_the_example_of_the_docs_runs_from_start_to_finish() -> None:
    page = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
    path = ROOT / "examples/triage/suite.yaml"
    assert path.read_text(encoding="utf-8") in page  # the page shows the very file
    suite = Suite.read(path)
    loaded = suite.load("urgency")
    assert (len(loaded.train), len(loaded.test), loaded.rationale_coverage) == (36, 24, 1.0)
    data, test = split(loaded, Budget(name="b", train_rows=20, dev_rows=8), 0)
    assert (len(data.train), len(data.dev), len(test)) == (20, 8, 24)
    assert score(loaded.card, test, Predictions(list(test.labels))).metrics == {"accuracy": 100.0, "f1_macro": 100.0}
    assert all(row.rationale and not re.search(r"\burgent|\broutine", row.rationale, re.I) for row in data.train)


def test_every_key_of_the_docs_is_known() -> None:
    known = {"prompts": TaskDefinition, "kind": SuiteCard}
    for page in ("own-data.md", "prompts.md"):
        for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL):
            keys = yaml.safe_load(block)
            assert set(keys) <= set(known.get(next(iter(keys)), TaskDefinition).model_fields)
            if "prompts" in keys:
                PromptCard.model_validate(keys["prompts"]["native"])
            if "hub" in keys:
                HubCard.model_validate(keys["hub"])


# ---------------------------------------------------------------- formats and rules


def test_all_formats_give_the_same_rows(tmp_path: Path) -> None:
    base = write(tmp_path).load("moods")
    prints = {base.fingerprint}
    for suffix in (".json", ".csv", ".tsv"):
        for name, rows in (("train", ROWS[:6]), ("test", ROWS[6:])):
            path = tmp_path / f"{name}{suffix}"
            if suffix == ".json":
                path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            else:
                with path.open("w", encoding="utf-8-sig", newline="") as stream:  # as spreadsheets save it
                    writer = csv.DictWriter(stream, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
                    writer.writeheader()
                    writer.writerows(rows)
        prints.add(write(tmp_path, SUITE.replace(".jsonl", suffix)).load("moods").fingerprint)
    assert len(prints) == 1


def test_a_rule_divides_one_file_by_whole_clusters(tmp_path: Path) -> None:
    text = SUITE.replace("{train: train.jsonl, test: test.jsonl}", "{all: all.jsonl}\n    split: {test_fraction: 0.25}")
    text = text.replace("id: key", "id: key\n    cluster: text")
    rows = [{**ROWS[n % 8], "key": str(n), "text": f"text {n // 4}"} for n in range(40)]
    loaded = write(tmp_path, text, all=rows).load("moods")
    assert len(loaded.test) == 12  # three clusters of four: the first number of whole ones from 10 rows on
    assert not {row.cluster for row in loaded.train} & set(loaded.test.clusters or ())
    assert len(loaded.train) + len(loaded.test) == 40
    other = write(tmp_path, text.replace("0.25", "0.25, seed: 1"), all=rows).load("moods")
    assert set(other.test.ids) != set(loaded.test.ids)


def test_rationales_are_optional_and_of_train_only(tmp_path: Path) -> None:
    assert write(tmp_path).load("moods").rationale_coverage == 0
    text = SUITE.replace("id: key", "id: key\n    rationale: {field: why}")
    rows = [{**row, "why": " " if n == 0 else row["why"]} for n, row in enumerate(ROWS[:5])] + [
        {key: value for key, value in ROWS[5].items() if key != "why"}
    ]
    loaded = write(tmp_path, text, train=rows).load("moods")
    assert loaded.rationale_coverage == pytest.approx(4 / 6)
    assert not hasattr(loaded.test.examples[0], "rationale")


def test_rationales_of_a_store_are_verified(tmp_path: Path) -> None:
    good = store_lines()
    lines = [
        {**good[0], "sample": 1, "rationale": "a later sample"},
        {**good[0], "rejected": "names the class", "rationale": "an unusable one"},
        good[0],
        {**good[1], "input_sha256_16": "0" * 16},
        {**good[2], "label": "glad"},
        {**good[3], "idx": "k99"},
        {key: value for key, value in good[4].items() if key != "label"},
    ]
    loaded = write(tmp_path, FROM_STORE, moods=lines).load("moods")
    assert {row.id: row.rationale for row in loaded.train if row.rationale} == {"k0": "because 0", "k4": "because 4"}
    assert loaded.rationale_coverage == pytest.approx(2 / 6)
    assert [int(note.split()[0]) for note in loaded.notes] == [2, 1]
    changed = write(tmp_path, FROM_STORE, moods=[{**good[0], "rationale": "other"}, good[4]]).load("moods")
    assert changed.rationale_fingerprint != loaded.rationale_fingerprint
    assert changed.fingerprint == loaded.fingerprint
    with pytest.raises(UserError, match=r"moods\.jsonl, line 1: rationale"):
        write(tmp_path, FROM_STORE, moods=[{"idx": 1}]).load("moods")
    with pytest.raises(UserError, match="No rationales of task 'moods'"):
        write(tmp_path, FROM_STORE.replace("'{task}.jsonl'", "none.jsonl")).load("moods")


def test_a_store_named_by_the_user_replaces_the_suites_own(tmp_path: Path) -> None:
    suite = write(tmp_path, FROM_STORE.replace("file: '{task}.jsonl'", "field: why"))
    assert suite.load("moods").rationale_coverage == 1
    store = tmp_path / "store"
    store.mkdir()
    path = store / "moods.jsonl"
    path.write_text(json.dumps({**store_lines()[3], "rationale": "another teacher's"}) + "\n")
    loaded = suite.load("moods", rationales=store)
    assert [row.rationale for row in loaded.train if row.rationale] == ["another teacher's"]
    with pytest.raises(UserError, match="has the fingerprint"):
        suite.load("moods", rationales=f"{store}@{'0' * 16}")
    path.rename(store / "mood.jsonl")
    with pytest.raises(UserError, match=r"has no rationales of task 'moods'\. Did you mean 'mood'"):
        suite.load("moods", rationales=store)


def test_the_fingerprint_sees_every_field_label_and_order(tmp_path: Path) -> None:
    base = write(tmp_path).load("moods").fingerprint
    edits = [
        [{**ROWS[0], "text": "text 0."}, *ROWS[1:6]],
        [{**ROWS[0], "mood": "glad"}, *ROWS[1:6]],
        [{**ROWS[0], "key": "k00"}, *ROWS[1:6]],
        [*ROWS[1:6], ROWS[0]],
        ROWS[:5],
    ]
    assert base not in {write(tmp_path, train=rows).load("moods").fingerprint for rows in edits}
    assert write(tmp_path, train=[{**row, "extra": 1} for row in ROWS[:6]]).load("moods").fingerprint == base


def test_a_suite_may_extend_another_and_take_keys_away(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("kind: suite\nextends: mini7\nname: x\n")
    with pytest.raises(UserError, match=r"suite.yaml:2: extends: 'mini7' extends a suite itself. Extend 'superglue7'"):
        Suite.read(tmp_path / "suite.yaml")
    (tmp_path / "suite.yaml").write_text("kind: suite\nextends: superglu\nname: x\n")
    with pytest.raises(UserError, match=r"suite.yaml:2: extends: Unknown suite 'superglu'.*Did you mean 'superglue7'"):
        Suite.read(tmp_path / "suite.yaml")
    (tmp_path / "suite.yaml").write_text(
        "kind: suite\nextends: superglue7\nname: x\nhub: null\ntasks:\n  RTE: {metrics: [f1_macro]}\n  CB: null\n"
    )
    suite = Suite.read(tmp_path / "suite.yaml")
    assert suite.card.tasks["RTE"].metrics == ("f1_macro",)
    assert "CB" not in suite.task_names()
    assert suite.card.tasks["RTE"].hub is not None
    assert suite.card.tasks["RTE"].hub.path is None


# ---------------------------------------------------------------- where rows are looked for


def test_sources_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, data, named = tmp_path / "own", tmp_path / "data", tmp_path / "named"
    for folder in (own, data, named / "own"):
        folder.mkdir(parents=True)
    suite = write(own)
    for folder in (data, named / "own"):
        write(folder, train=[{**row, "text": "other"} for row in ROWS[:6]])
    assert suite.load("moods").source.kind == "embedded"
    # What the environment names for every suite is not this one's, unless it says so by its name.
    monkeypatch.setenv("DHRD_DATA_DIR", str(data))
    assert suite.load("moods").source.kind == "embedded"
    monkeypatch.delenv("DHRD_DATA_DIR")
    assert suite.load("moods", data_dir=data).source.kind == "data-dir"
    assert suite.load("moods", data_dir=named).source.kind == "data-dir"
    monkeypatch.setenv("DHRD_DATA_DIR", str(named))
    assert suite.load("moods").train[0].fields["text"] == "other"

    bare = write(own)
    for path in own.glob("*.jsonl"):
        path.unlink()
    monkeypatch.setenv("DHRD_DATA_DIR", str(data))
    assert bare.load("moods").source.kind == "data-dir"
    monkeypatch.setenv("DHRD_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"No files of task 'moods'.*holds train\.jsonl"):
        bare.load("moods", data_dir=own)
    monkeypatch.delenv("DHRD_DATA_DIR")
    with pytest.raises(UserError, match=r"No rows for task 'moods'.*--data-dir or DHRD_DATA_DIR"):
        bare.load("moods")
    with pytest.raises(UserError, match="No data folder at"):
        suite.load("moods", data_dir=tmp_path / "absent")
    (data / "test.jsonl").unlink()
    with pytest.raises(UserError, match=r"test\.jsonl is missing"):
        bare.load("moods", data_dir=data)


# ---------------------------------------------------------------- bad rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"train\.jsonl:2: not JSON: .* at column"),
        ("[1]", r"train\.jsonl:2: not an object but list"),
        ('{"key": "a", "txt": "t", "mood": "sad"}', r"train\.jsonl:2: there is no 'text'\. Did you mean 'txt'"),
        ('{"key": "a", "text": ["t"], "mood": "sad"}', r"train\.jsonl:2: 'text' is \[.*must be a text or a number"),
        ('{"key": "a", "text": null, "mood": "sad"}', r"train\.jsonl:2: 'text' is null"),
        ('{"key": "a", "text": "t"}', r"train\.jsonl:2: there is no 'mood'"),
        (
            '{"key": "a", "text": "t", "mood": "bad"}',
            r"train\.jsonl:2: 'mood' is \"bad\"\. Known labels: \"sad\", \"glad\"",
        ),
        ('{"key": "a", "text": "t", "mood": null}', r"train\.jsonl:2: 'mood' is null"),
        ('{"key": "k0", "text": "t", "mood": "sad"}', r"train\.jsonl:2: key 'k0' is taken by .*train\.jsonl:1"),
    ],
)
def test_a_bad_row_is_named_with_file_line_and_cure(tmp_path: Path, line: str, message: str) -> None:
    suite = write(tmp_path, train=json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        suite.load("moods")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('key,text,mood\nk1,"two\nlines",sad\nk2,a,b,c\n', r"train\.csv:4: 4 cells where the header has 3\..*quotes"),
        ("key,text,mood\nk1,a\n", r"train\.csv:2: 2 cells where the header has 3"),
        ('key,text,mood\nk1,"a"b,sad\n', r"train\.csv:2: not CSV"),
        ("key,text,text\n", r"train\.csv:1: two columns have the same name"),
        ("key,text,mood\n", r"The train split of task 'moods' of 'own' has no rows"),
    ],
)
def test_a_bad_csv_is_named_with_file_line_and_cure(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.csv").write_text(text, encoding="utf-8")
    suite = write(tmp_path, SUITE.replace("train.jsonl", "train.csv"))
    with pytest.raises(UserError, match=message):
        suite.load("moods")


def test_a_file_of_another_encoding_is_named(tmp_path: Path) -> None:
    suite = write(tmp_path)
    (tmp_path / "train.jsonl").write_bytes('{"key": "é"}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"train\.jsonl is not UTF-8"):
        suite.load("moods")


SPANS = SUITE.replace("[key, text]", "[key, text, start, end, index, words]").replace(
    "id: key", "id: key\n    spans: [{text: text, start: start, end: end}, {text: text, index: index, words: words}]"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"words": "Another Form!"}, None),  # what a span covers is the release's business
        ({"start": -1}, r"train\.jsonl:1: the span -1:4 is outside 'text', which has 6 characters"),
        ({"end": 7}, "the span 0:7 is outside"),
        ({"start": 4}, "the span 4:4 is outside"),
        ({"index": 1, "words": "a b"}, "the span 1:3 is outside 'text', which has 2 words"),
        ({"index": "one"}, "a span of 'text' is no whole number"),
    ],
)
def test_spans_lie_inside_their_text(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    row = {**ROWS[0], "start": 0, "end": 4, "index": 0, "words": "text 0", **change}
    suite = write(tmp_path, SPANS, train=[row], test=[{**row, "start": 0, "end": 1, "index": 0, "words": "x"}])
    if message is None:
        suite.load("moods")
    else:
        with pytest.raises(UserError, match=message):
            suite.load("moods")


# ---------------------------------------------------------------- bad YAML

TEXT = '"{{ text }} Is it glad?"'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    id: key", "    idd: key", r"suite\.yaml:7: tasks\.moods\.idd: unknown key\. Did you mean 'id'"),
        ("name: own", "nme: own", r"suite\.yaml:2: nme: unknown key\. Did you mean 'name'"),
        ("name: own", "name: a/b", r"suite\.yaml:2: name: String should match"),
        ("truncate: text", "trunkate: text", r"suite\.yaml:12: .*unknown key\. Did you mean 'truncate'"),
        ("[sad, glad]", "[no, yes]", r"suite\.yaml:8: .*names\.0: .*put the word in quotes"),
        ("[sad, glad]", "[sad]", r"suite\.yaml:8: tasks\.moods\.label\.names: "),
        ("[sad, glad]", "[sad, glad], values: [0]", r"suite\.yaml:8: .*: 1 values for 2 classes"),
        ("id: key", "id: kee", r"suite\.yaml:7: tasks\.moods\.id: there is no field 'kee'\. Did you mean 'key'"),
        ("id: key", "id: key\n    spans: [{text: text, start: key}]", r"suite\.yaml:8: .*a span is start and end"),
        (TEXT, '"{{ txt }} Is it glad?"', r"suite\.yaml:11: .*uses 'txt', which is no field\. Did you mean 'text'"),
        (TEXT, '"{{ text | upperr }}?"', r"suite\.yaml:11: .*the template is broken: No filter named 'upperr'"),
        (TEXT, '"{{ text }} glad? "', r"suite\.yaml:11: .*ends in white space"),
        ("truncate: text", "truncate: key", r"suite\.yaml:12: .*the text does not use 'key'\. .*'text'|Known: text"),
        ('["No", "Yes"]', '["No"]', r"suite\.yaml:13: .*1 answers for 2 classes"),
        ('["No", "Yes"]', '["No", "Yes"]\n        candidates: [a]', r"suite\.yaml:14: .*1 candidates for 2 classes"),
        ("native:", "other:", r"suite\.yaml:9: tasks\.moods\.prompts: the suite's default prompt 'native' is missing"),
        ("    id: key", "    metrics: [acuracy]", r"suite\.yaml:7: .*metric 'acuracy'\. Did you mean 'accuracy'"),
        (", test: test.jsonl", "", r"suite\.yaml:5: tasks\.moods\.files: give 'train' and 'test'"),
        ("{train: train.jsonl, test: test.jsonl}", "{all: a.csv}", r"suite\.yaml:5: .*needs a rule\. Add 'split"),
        ("    files: {train: train.jsonl, test: test.jsonl}\n", "", r"suite\.yaml:4: tasks\.moods: .*has no source"),
        ("train.jsonl,", "../train.jsonl,", r"suite\.yaml:5: tasks\.moods\.files\.train: .*leaves the suite's folder"),
        ("train.jsonl,", "/etc/train.jsonl,", r"suite\.yaml:5: .*leaves the suite's folder"),
        ("train.jsonl,", "'C:\\train.jsonl',", r"suite\.yaml:5: .*leaves the suite's folder"),
        ("train.jsonl,", "train.xlsx,", r"suite\.yaml:5: .*no known format; use one of \.jsonl"),
        ("  moods:", "  ../moods:", r"suite\.yaml:\d+: tasks\.\.\./moods.*: String should match"),
        ("    label: {field: mood, names: [sad, glad]}\n", "", r"suite\.yaml:4: tasks\.moods\.label: .*Add 'label'"),
        ("tasks:", "tasks: [", r"suite\.yaml:\d+: "),
    ],
)  # fmt: skip
def test_bad_yaml_is_named_with_file_line_key_and_cure(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SUITE
    with pytest.raises(UserError, match=message):
        write(tmp_path, SUITE.replace(old, new, 1))


def test_a_macro_metric_is_asked_for_where_binary_f1_cannot_be(tmp_path: Path) -> None:
    text = SUITE.replace("[sad, glad]", "[sad, glad, calm]").replace('["No", "Yes"]', "[A, B, C]")
    with pytest.raises(UserError, match=r"f1 needs two classes, the task has 3\. Use f1_macro"):
        write(tmp_path, text.replace("    id: key", "    metrics: [f1]"))
