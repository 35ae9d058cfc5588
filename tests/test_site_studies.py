"""Studies on the site: what `dhrd-bench study report` says of them, and what is said of files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import pytest
from sites import BETA, grid, study, unpacked
from typer.testing import CliRunner

from dhrd_bench.cli import app
from dhrd_bench.commands.serve import ServeRequest
from dhrd_bench.errors import UserError
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.studies.folder import shown_studies
from dhrd_bench.studies.frozen import frozen_path

PAIRS = (("better", "base"), ("slow", "base"))
HYPOTHESIS = "Better is better than the base, and slow is not."


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with records, and a study of them."""
    made = grid((BETA,), 3)
    fakes.write(tmp_path / "results", made)
    study(tmp_path / "studies" / "words.yaml", made, PAIRS, HYPOTHESIS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def on_site(*options: str) -> list[dict[str, Any]]:
    command("report", "--format", "html", "--output", "site", "--resamples", "200", *options)
    found: list[dict[str, Any]] = unpacked(Path("site", "data", "index.js").read_text(encoding="ascii"))["studies"]
    return found


def cells(table: dict[str, Any]) -> list[list[str]]:
    return [[" ".join(filter(None, cell[:2])) for cell in row] for row in table["rows"]]


def test_the_site_says_what_the_report_of_a_study_says(here: Path) -> None:
    (shown,) = on_site()
    said = json.loads(command("study", "report", "studies/words.yaml", "--format", "json"))
    assert (shown["name"], shown["status"], shown["hypothesis"]) == ("words", "confirmatory", HYPOTHESIS)
    assert said["frozen"] in shown["frozen"]
    assert shown["state"] == "Complete: 9 of 9 cells have a record."
    assert shown["margin"] == said["margin"]
    assert len(shown["contrasts"]) == len(said["primary"]) == len(PAIRS)
    for contrast, wanted in zip(shown["contrasts"], said["primary"], strict=True):
        assert [contrast[name] for name in ("method", "baseline", "finding")] == [
            wanted[name] for name in ("method", "baseline", "verdict")
        ]
        assert contrast["verdict"].startswith(wanted["verdict"])
        ends = [wanted["difference"][name] for name in ("value", "low", "high")]
        assert contrast["difference"] == pytest.approx(ends, rel=1e-5)
    # Its tables are those of the report, word by word.
    report = command("study", "report", "studies/words.yaml", "--format", "markdown")
    rows = [line.strip("| ").replace("*", "").split(" | ") for line in report.splitlines() if line.startswith("| ")]
    (table,) = shown["tables"]
    assert [[column["head"] for column in table["columns"]], *cells(table)] == rows
    assert all(line in report for line in table["caption"])


def test_a_study_that_is_not_run_is_withheld_and_one_that_is_changed_says_so(here: Path) -> None:
    made = grid((BETA,), 5)
    study(here / "studies" / "longer.yaml", made, PAIRS[:1], HYPOTHESIS)
    words = here / "studies" / "words.yaml"
    words.write_text(words.read_text().replace("5.0", "2.5"), encoding="utf-8")
    longer, changed = on_site()
    assert longer["state"].startswith("Incomplete: 9 of 15 cells")
    assert [(each["verdict"], each["finding"], each["difference"]) for each in longer["contrasts"]] == [
        ("withheld", None, None)
    ]
    assert changed["status"] == "exploratory"
    assert changed["deviations"] == ["The file has been changed since it was frozen: margin: 2.5, not 5.0."]


def test_what_is_not_frozen_is_a_draft_and_what_is_no_study_stops_none(here: Path) -> None:
    study(here / "studies" / "a-draft.yaml", grid((BETA,), 1), PAIRS, HYPOTHESIS)
    (here / "studies" / "a-draft.frozen.json").unlink()
    (here / "studies" / "broken.yaml").write_text("hypothesis: x\nmargn: 2\n", encoding="utf-8")
    (here / "studies" / "words.frozen.json").write_text("{}", encoding="utf-8")
    way_out = frozen_path(study(here / "studies" / "z.yaml", grid((BETA,), 1), PAIRS, HYPOTHESIS))
    document = json.loads(without_checksum(way_out.read_bytes()))
    document["cells"][0]["identity"] = "../../x"
    way_out.write_text(with_checksum(json.dumps(document)), encoding="utf-8")
    draft, broken, edited, leads_out = on_site()
    assert (draft["name"], draft["status"], draft["contrasts"]) == ("a-draft", "draft", [])
    assert draft["hypothesis"] == HYPOTHESIS
    assert [broken["status"], edited["status"]] == ["unreadable", "unreadable"]
    assert "Did you mean 'margin'?" in broken["notes"][0]
    assert "words.frozen.json" in edited["notes"][0]
    assert "identity" in leads_out["notes"][0]


def test_studies_are_looked_for_in_one_folder(here: Path) -> None:
    (here / "studies").rename(here / "mine")
    assert on_site() == []
    assert [each["name"] for each in on_site("--studies", "mine")] == ["words"]
    index = unpacked((here / "site" / "data" / "index.js").read_text(encoding="ascii"))
    assert "--studies mine" in index["command"]
    with pytest.raises(UserError, match="No folder of studies at yours"):
        shown_studies(Path("yours"), here / "results")
    served = ServeRequest(results=here / "results", studies=Path("mine")).files("1")
    assert [each["name"] for each in unpacked(served["data/index.js"])["studies"]] == ["words"]
    with pytest.raises(UserError, match="No folder of studies at yours"):  # told before anything is served
        ServeRequest(results=here, studies=Path("yours")).files("1")
