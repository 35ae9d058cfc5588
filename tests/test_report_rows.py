"""The long table as Parquet: the queries that docs/report.md has for DuckDB and pandas give what they say."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import fakes
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from dhrd_bench.commands.report import ReportRequest, report_command

PAGE = Path(__file__).parent.parent / "docs" / "report.md"
METHODS = (fakes.FakeMethod("pooled", 0.6, role="baseline"), fakes.FakeMethod("dhrd", 0.8))


def query(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (code,) = found
    return str(code)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The rows as pandas reads them; the file lies where the queries look for it."""
    folder = fakes.write(tmp_path / "results", fakes.records(fakes.SMALL[:2], METHODS, (0, 1)))
    monkeypatch.chdir(tmp_path)
    request = ReportRequest(results=folder, format="parquet", output=Path("rows.parquet"), resamples=100)
    assert report_command(request, Console(quiet=True)) == 0
    return pd.read_parquet("rows.parquet")


def test_duckdb_finds_the_examples_that_one_method_has_at_every_seed_and_another_at_none(rows: pd.DataFrame) -> None:
    found = set(duckdb.sql(query("sql")).fetchall())
    right = rows.pivot_table("correct", ["task", "example"], "method", "mean", observed=True)
    assert found == set(right.index[(right["dhrd"] == 1) & (right["pooled"] == 0)])
    assert 0 < len(found) < len(right)
    # The engines agree on the whole table, and not only on these.
    accuracy = duckdb.sql("SELECT method, task, seed, avg(correct::INT) FROM 'rows.parquet' GROUP BY ALL").fetchall()
    means = rows.groupby(["method", "task", "seed"], observed=True)["correct"].mean()
    assert {(method, task, int(seed)): mean for method, task, seed, mean in accuracy} == pytest.approx(
        {(method, task, int(seed)): mean for (method, task, seed), mean in means.items()}
    )


def test_pandas_finds_accuracy_and_how_far_seeds_agree(rows: pd.DataFrame) -> None:
    given: dict[str, Any] = {}
    exec(query("python"), given)
    records = {
        (one.cell.method, one.cell.task, one.cell.seed): one for one in fakes.records(fakes.SMALL[:2], METHODS, (0, 1))
    }
    answers = {key: np.array(one.rows.prediction) for key, one in records.items() if one.rows}
    for method, task in product(("pooled", "dhrd"), ("alpha", "beta")):
        for seed in (0, 1):
            one = records[method, task, seed].rows
            assert one is not None
            wanted = np.mean(np.array(one.label) == answers[method, task, seed])
            assert given["accuracy"].loc[(method, task), seed] == pytest.approx(wanted)
    for task in ("alpha", "beta"):
        assert given["alike"][task] == pytest.approx(np.mean(answers["dhrd", task, 0] == answers["dhrd", task, 1]))
