"""What a dry run says of the data, against counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_line import dhrd
from own_suites import SUITE, write

TEXT = (
    SUITE.replace("id: key", "id: key\n    cluster: text\n    rationale: {field: why}")
    .replace("name: own", "name: checked")
    .replace("[sad, glad]", "[sad, glad, mild]")
    .replace('["No", "Yes"]', '["No", "Yes", "So"]')
)
"""The input is the text and 12 characters, and `tiny` reads bytes: of 40 tokens a text may have 28."""


def row(key: str, text: str, mood: str, why: str | None = None) -> dict[str, Any]:
    return {"key": key, "text": text, "mood": mood, "why": why}


TRAIN = [
    row("a", "it rained", "sad", "so it is"), row("b", "it snowed", "glad"), row("c", "a" * 28, "glad"),
    row("d", "a long text " + "b" * 28, "sad", "as it is"), row("e", "c" * 29, "sad"),
]  # fmt: skip
TEST = [
    row("t", "It rained.", "mild"), row("u", "it rained", "sad"), row("v", "some other thing", "sad"),
    row("w", "some other thing!", "sad"), row("x", "d" * 29, "sad"),
]  # fmt: skip


def planned(tmp_path: Path, budget: str = "require_rationale=false") -> tuple[str, ...]:
    (tmp_path / "suites" / "checked").mkdir(parents=True, exist_ok=True)
    write(tmp_path / "suites" / "checked", TEXT, train=TRAIN, test=TEST)
    return (
        "run", "--methods", "majority", "--suite", "checked", "--include", str(tmp_path / "suites"),
        "--backbone", "tiny", "--budget", f"smoke[dev_rows=0,max_length=40,{budget}]", "--seeds", "2",
        "--results", str(tmp_path / "out"),
    )  # fmt: skip


def checked(*arguments: str) -> list[dict[str, Any]]:
    done = dhrd(*arguments, "--dry-run", "--format", "json")
    assert done.returncode == 0, done.stderr
    data: list[dict[str, Any]] = json.loads(done.stdout)["data"]
    return data


def test_a_dry_run_counts_rows_classes_overlap_rationales_and_cuts(tmp_path: Path) -> None:
    (check,) = checked(*planned(tmp_path))
    assert check == {
        "task": "moods", "seed": 0, "train": 5, "dev": 0, "test": 5, "test_clusters": 3,
        "train_classes": {"sad": 3, "glad": 2, "mild": 0}, "test_classes": {"sad": 4, "glad": 0, "mild": 1},
        "overlap": 2, "rationales": 2, "cut_train": 2 / 5, "cut_test": 1 / 5,
    }  # fmt: skip
    (check,) = checked(*planned(tmp_path, "require_rationale=true"))
    assert (check["train"], check["rationales"], check["train_classes"]["glad"]) == (2, 2, 0)


def test_what_is_unshared_overlaps_no_more(tmp_path: Path) -> None:
    arguments = [each if each != "checked" else "checked[unshared=true]" for each in planned(tmp_path)]
    (check,) = checked(*arguments)
    assert (check["train"], check["overlap"]) == (4, 0)


def test_rows_are_counted_once_where_a_prompt_asks_about_each_candidate() -> None:
    arguments = ["run", "--methods", "majority", "--suite", "mini7[prompt=paper]", "--tasks", "cb", "--seeds", "1"]
    (check,) = checked(*arguments, "--backbone", "tiny", "--results", "nowhere")
    assert check["train"] == sum(check["train_classes"].values()) == check["rationales"]
    assert check["test"] == sum(check["test_classes"].values())
    assert list(check["test_classes"]) == ["entailment", "contradiction", "neutral"]


def test_the_table_says_the_same_and_a_finished_plan_has_none(tmp_path: Path) -> None:
    arguments = planned(tmp_path)
    lines = dhrd(*arguments, "--dry-run").stdout.splitlines()
    (first,) = (line.split() for line in lines if line.startswith("moods"))
    assert first == ["moods", "sad", "3", "4", "3", "2", "40%", "40%", "20%"]
    assert any(line.split() == ["mild", "0", "1"] for line in lines)
    assert dhrd(*arguments).returncode == 0
    done = dhrd(*arguments, "--dry-run")
    assert "0 of 2 cells to run" in done.stdout
    assert "Overlap" not in done.stdout
    assert checked(*arguments) == []


def test_an_unknown_format_is_refused_with_those_there_are(tmp_path: Path) -> None:
    done = dhrd(*planned(tmp_path), "--dry-run", "--format", "toml")
    assert done.returncode == 2
    assert "table, yaml or json" in done.stderr
