"""Suites of one's own, written to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dhrd_bench.data.rows import input_hash
from dhrd_bench.data.suite import Suite

SUITE = """\
kind: suite
name: own
tasks:
  moods:
    files: {train: train.jsonl, test: test.jsonl}
    fields: [key, text]
    id: key
    label: {field: mood, names: [sad, glad]}
    prompts:
      native:
        text: "{{ text }} Is it glad?"
        truncate: text
        answers: ["No", "Yes"]
"""


ROWS = [{"key": f"k{n}", "text": f"text {n}", "mood": ["sad", "glad"][n % 2], "why": f"because {n}"} for n in range(8)]


def write(folder: Path, text: str = SUITE, **files: Any) -> Suite:
    """Write a suite with its files (train and test unless given) and read it."""
    for name, rows in ({"train": ROWS[:6], "test": ROWS[6:]} | files).items():
        if isinstance(rows, str):
            (folder / f"{name}.jsonl").write_text(rows, encoding="utf-8")
        elif rows is not None:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return Suite.read(path)


def store_lines() -> list[dict[str, Any]]:
    return [
        {"idx": row["key"], "label": row["mood"], "rationale": row["why"], "input_sha256_16": input_hash([row["text"]])}
        for row in ROWS[:6]
    ]


FROM_STORE = SUITE.replace("id: key", "id: key\n    hash: [text]\n    rationale: {file: '{task}.jsonl'}")


BY_TEXT = SUITE.replace("id: key", "id: key\n    cluster: text")


def rows(name: str, texts: list[str]) -> list[dict[str, Any]]:
    return [{"key": f"{name}{n}", "text": text, "mood": ["sad", "glad"][n % 2]} for n, text in enumerate(texts)]


TWINS = ["It rained.", "It snowed.", "it rained", "It  rained .", "42", "It snowed!", "A dry day."]


SHARED = {"train": rows("a", TWINS), "test": rows("t", ["It RAINED", "It hailed, too.", "42"])}
