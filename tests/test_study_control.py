"""The negative control: where nothing can be learnt, studies find no more than alpha allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from scipy import stats
from typer.testing import CliRunner

from dhrd_bench import plugins
from dhrd_bench.cli import app
from dhrd_bench.studies.frozen import frozen_path, read_frozen
from dhrd_bench.studies.study import read_study
from dhrd_bench.studies.verdict import judge

REPEATS, ALPHA = 20, 0.05
TASKS = "rules,roads"


def command(*arguments: str) -> None:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_of_labels_that_nothing_tells_no_more_is_found_than_chance_has_it(tmp_path: Path) -> None:
    """At a level of 5 % at most 5 of 20 studies find something, but for one time in a thousand (binomial)."""
    plugins.load_all()  # before: what is registered inside is gone afterwards
    wrong = 0
    for number in range(REPEATS):
        folder = tmp_path / f"noise-{number}"
        rows = ["--rows", "120", "--test-rows", "120", "--seed", str(1000 + number)]
        study = {
            "hypothesis": "Nothing is to be found.",
            "requests": {
                "methods": "majority,tfidf-lr,embedding-lr", "suite": folder.name, "tasks": TASKS, "backbone": "tiny",
                "budget": "smoke[train_rows=80,dev_rows=0,test_rows=120,max_length=96]", "include": [str(folder)],
                "results": str(tmp_path / "results"), "isolation": "none",
            },
            "primary": [
                {"method": "tfidf-lr", "baseline": "majority"},
                {"method": "embedding-lr", "baseline": "majority"},
                {"method": "embedding-lr", "baseline": "tfidf-lr"},
            ],
            "margin": 2.0, "alpha": ALPHA, "seeds": 3,
        }  # fmt: skip
        path = tmp_path / f"study-{number}.yaml"
        path.write_text(yaml.safe_dump(study))
        with plugins.isolated():
            command("generate", "derivations-noise", "--tasks", TASKS, *rows, "--output", str(folder))
            command("study", "freeze", str(path))
            command("study", "run", str(path))
        judged = judge(read_study(path), read_frozen(frozen_path(path)), tmp_path / "results")
        assert judged.stopped
        assert not judged.exploratory
        findings = [verdict.ruling and verdict.ruling.finding for verdict in judged.primary]
        wrong += "better" in findings or "worse" in findings
    assert wrong <= stats.binom.ppf(0.999, REPEATS, ALPHA)
