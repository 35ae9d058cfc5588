"""What is published of the committed records is what they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dhrd_bench.cli import app

ROOT = Path(__file__).parent.parent
QUOTE = re.compile(r"^<!-- quoted from (?P<file>\S+) -->\n(?P<lines>(?:>.*\n)+|(?:\|.*\n)+)", re.M)
MADE = {
    "docs/findings/derivations.md": "study report studies/derivations.yaml --format markdown",
    "docs/findings/votes.md": "study report studies/votes.yaml --format markdown",
    "results/LEADERBOARD.md": "report --suite derivations-short --against paper --format markdown",
}


@pytest.mark.parametrize("file", MADE)
def test_reports_are_those_of_the_records(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    written = tmp_path / "report.md"
    done = CliRunner().invoke(app, [*MADE[file].split(), "--output", str(written)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert _less_its_name(written.read_text()) == _less_its_name((ROOT / file).read_text()), f"make findings: {file}"


def _less_its_name(text: str) -> str:
    """Leave out the line of a report that says where it was written to; that of a study does not, and stays."""
    return "\n".join(line for line in text.splitlines() if "--output" not in line)


@pytest.mark.parametrize("page", ["README.md", "docs/findings.md"])
def test_what_is_quoted_stands_in_the_report(page: str) -> None:
    path = ROOT / page
    quotes = list(QUOTE.finditer(path.read_text()))
    assert quotes
    for quote in quotes:
        lines = [line.removeprefix(">").strip() for line in quote["lines"].splitlines()]
        said = ("\n" if lines[0].startswith("|") else " ").join(lines)
        assert said in (path.parent / quote["file"]).read_text(), f"{page}: {said}"
