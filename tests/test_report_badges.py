"""The badge of the rationales under a leaderboard."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from dhrd_bench.report.badges import badges

CELLS = pd.DataFrame({"data": [{"rationale_fingerprint": "aa"}, {"rationale_fingerprint": "bb"}, {}]})


def write(results: Path, name: str, fingerprint: str, badge: str) -> None:
    (results / "audits").mkdir(exist_ok=True)
    text = json.dumps({"tasks": [{"rationale_fingerprint": fingerprint}], "badge": badge})
    (results / "audits" / name).write_text(text)


def test_only_audits_of_the_rationales_that_were_used(tmp_path: Path) -> None:
    assert badges(tmp_path, CELLS) == ()
    write(tmp_path, "a.json", "bb", "Rationales: ours.")
    write(tmp_path, "b.json", "cc", "Rationales: others.")
    assert badges(tmp_path, CELLS) == ("Rationales: ours.",)


def test_a_file_that_is_no_audit_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.json", "bb", "Rationales: ours.")
    (tmp_path / "audits" / "b.json").write_text("{}")
    first, second = badges(tmp_path, CELLS)
    assert first == "Rationales: ours."
    assert "b.json" in second
