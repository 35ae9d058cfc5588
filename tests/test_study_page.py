"""A study's report in words, and the command that makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import fakes
import pytest
from sites import BETA, grid, study

from dhrd_bench.studies.frozen import frozen_path, read_frozen
from dhrd_bench.studies.page import render
from dhrd_bench.studies.study import read_study
from dhrd_bench.studies.verdict import Judged, judge

SAID = {
    "better": "better scores higher than base on ",
    "worse": "better scores lower than base on ",
    "equivalent": "better and base are equivalent within 5 points on ",
    "undecided": "Whether better and base differ is undecided on ",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judged_at(file: Path) -> Judged:
    made = grid((BETA,), 3)
    fakes.write(file.parent.parent / "results", made)
    study(file, made, [("better", "base")], "Better is better.")
    return judge(read_study(file), read_frozen(frozen_path(file)), file.parent.parent / "results")


@pytest.mark.parametrize("finding", SAID)
def test_a_verdict_is_said_in_a_sentence_with_both_scores(
    finding: Literal["better", "worse", "equivalent", "undecided"], here: Path
) -> None:
    file = here / "studies" / "words.yaml"
    judged = judged_at(file)
    (verdict,) = judged.primary
    evidence = verdict.evidence
    assert verdict.ruling
    assert evidence
    assert verdict.detectable
    verdict = replace(verdict, ruling=replace(verdict.ruling, finding=finding))
    lines = render(replace(judged, primary=(verdict,)), "markdown", file).splitlines()
    (line,) = (line for line in lines if line.startswith(SAID[finding]))
    assert f": {evidence.score.value:.1f} and {evidence.baseline.value:.1f}, a difference of +" in line
    # How large a difference could have been missed is told where none is shown.
    told = f"; {verdict.detectable:.1f} points would have been found in four of five studies."
    assert line.endswith(told) == (finding == "undecided")


@pytest.mark.parametrize(("p", "told"), [(0.0021, "points, which is not zero (p = 0.002)."), (0.2, "] points.")])
def test_a_difference_within_the_margin_may_still_be_one(p: float, told: str, here: Path) -> None:
    file = here / "studies" / "words.yaml"
    judged = judged_at(file)
    (verdict,) = judged.primary
    assert verdict.ruling
    verdict = replace(verdict, ruling=replace(verdict.ruling, finding="equivalent", p=p))
    lines = render(replace(judged, primary=(verdict,)), "markdown", file).splitlines()
    (line,) = (line for line in lines if line.startswith(SAID["equivalent"]))
    assert line.endswith(told)


def test_a_report_names_its_file_as_from_the_working_folder(here: Path) -> None:
    file = here / "my studies" / "words.yaml"
    judged = judged_at(file)
    assert "`dhrd-bench study report 'my studies/words.yaml'`" in render(judged, "markdown", file)
    assert "`dhrd-bench study report 'my studies/words.yaml'`" in render(judged, "markdown", file.relative_to(here))
    # A report is the same on any machine: no path of one is in it.
    assert "`dhrd-bench study report elsewhere.yaml`" in render(judged, "markdown", here.parent / "elsewhere.yaml")
