"""The paper's figures as data, and its claims beside ours."""

from __future__ import annotations

import csv
from pathlib import Path

import fakes
import pytest

from dhrd_bench.errors import UserError
from dhrd_bench.report import paper
from dhrd_bench.report.paper import Claim, PublishedFigures, _verdict, compare, find_published
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.design import Group
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.selection import select

REFERENCE = PublishedFigures(find_published())
TASKS = ("BoolQ", "CB", "COPA", "MultiRC", "RTE", "WiC", "WSC")


def rows(name):
    with (find_published() / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    "row", rows("table_accuracy.csv"), ids=lambda r: f"{r['backbone']} {r['setting']} {r['alpha']}"
)
def test_published_averages_are_those_of_the_task_columns(row):
    columns = {task: [float(row[c]) for c in names] for task, names in REFERENCE.paper.tasks.items()}
    average = sum(sum(values) / len(values) for values in columns.values()) / len(columns)
    assert average == pytest.approx(float(row["avg"]), abs=0.011)


def test_published_gains_are_those_over_pooled_on_the_same_backbone():
    table = rows("table_accuracy.csv")
    pooled = {row["backbone"]: float(row["avg"]) for row in table if row["setting"] == "pooled"}
    checked = 0
    for row in table:
        if row["rel_delta_pct"]:
            gain = 100 * (float(row["avg"]) - pooled[row["backbone"]]) / pooled[row["backbone"]]
            assert gain == pytest.approx(float(row["rel_delta_pct"]), abs=0.011)
            checked += 1
    assert checked == 12


def test_published_ratios_are_those_of_the_qps_columns():
    for row in rows("table_qps.csv"):
        assert float(row["pooled_qps"]) / float(row["cot_qps"]) == pytest.approx(float(row["ratio"]), rel=0.01)


@pytest.mark.parametrize(
    ("claim", "low", "high"),
    [
        ("gain", 0.65, 5.47),
        ("only-label", -3.84, -1.75),
        ("shuffle-reasoning", -20.24, -5.70),
        ("speed-cot", 96, 142),
        ("speed-kept", 0.95, 1.05),
    ],
)
def test_claimed_ranges_are_those_of_the_tables(claim, low, high):
    found = next(one for one in REFERENCE.paper.claims if one.id == claim)
    assert REFERENCE.published(found, TASKS, "smollm2-135m") == pytest.approx((low, high), abs=0.02)


def test_a_backbone_of_the_paper_is_compared_with_itself():
    claim = REFERENCE.paper.claims[0]
    for name in ("qwen3-8b", "Qwen/Qwen3-8B", "qwen3-8b[dtype=float32]"):
        assert REFERENCE.published(claim, TASKS, name) == pytest.approx((1.32, 1.32), abs=0.01)


def test_published_figures_cover_the_tasks_of_the_table():
    claim = REFERENCE.paper.claims[0]
    low, high = REFERENCE.published(claim, ("COPA", "RTE"), "llama-3.1-8b")
    assert low == high == pytest.approx(100 * ((95.4 + 92.2) / (93.8 + 91.4) - 1))
    assert REFERENCE.published(claim, ("COPA", "Other"), "llama-3.1-8b") is None


def claim(direction, figure="gain"):
    return Claim(
        id="c", text="t", figure=figure, method="m", over="o", direction=direction, published=(1.0, 5.0)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "ours", "verdict", "reason"),
    [
        ("more", (0.5, 3.0), "reproduced", ""),
        ("more", (6.0, 9.0), "reproduced", "larger than published"),
        ("more", (-1.0, 3.0), "undecided", ""),
        ("more", (0.1, 0.8), "contradicted", "smaller than published"),
        ("more", (-3.0, -1.0), "contradicted", "the opposite"),
        ("same", (2.0, 3.0), "reproduced", ""),
        ("same", (0.0, 3.0), "undecided", ""),
        ("same", (6.0, 7.0), "contradicted", "outside"),
    ],
)
def test_verdicts(direction, ours, verdict, reason):
    found = Estimate(sum(ours) / 2, *ours, 1.0, 10.0)
    assert _verdict(claim(direction), (1.0, 5.0), found) == (verdict, reason)
    if direction == "more":
        mirrored = Estimate(-found.value, -ours[1], -ours[0], 1.0, 10.0)
        assert _verdict(claim("less"), (-5.0, -1.0), mirrored) == (verdict, reason)


def test_a_figure_without_an_interval_decides_nothing():
    assert _verdict(claim("more"), (1.0, 5.0), Estimate(3.0))[0] == "undecided"
    assert _verdict(claim("more"), (1.0, 5.0), None)[0] == "undecided"


def test_every_claim_gets_a_verdict():
    methods = [
        fakes.FakeMethod("pooled", 0.8, role="baseline"),
        fakes.FakeMethod("dhrd", 0.83),
        fakes.FakeMethod("cot", 0.7, role="reference", qps=1.0),
        fakes.FakeMethod("dhrd-only-label", 0.81),
    ]
    tasks = [fakes.FakeTask(name, 200) for name in TASKS]
    table = long_table(fakes.records(tasks, methods))
    found = {
        one.id: one
        for one in compare(analyse_selection(select(table, Group("fake", "tiny", "smoke")), resamples=200), REFERENCE)
    }
    assert found["gain"].verdict == "reproduced"
    assert found["entailment"].ours.low is not None
    assert found["speed-kept"].ours.value == pytest.approx(1, abs=0.05)
    assert found["speed-cot"].ours.value == pytest.approx(100, rel=0.05)
    assert found["only-label"].ours.value < 0
    assert found["shuffle-reasoning"].verdict == "not run"
    assert "dhrd-shuffle-reasoning" in found["shuffle-reasoning"].reason


def test_the_only_variant_of_a_method_stands_for_it_and_speeds_beside_others_show_nothing():
    """As after a search, which runs `dhrd[learning_rate=...]`, with workers."""
    methods = [
        fakes.FakeMethod("pooled", 0.8, role="baseline"),
        fakes.FakeMethod("dhrd[alpha=0.5]", 0.83),
        fakes.FakeMethod("cot[alpha=1]", 0.7, role="reference", qps=1.0),
        fakes.FakeMethod("cot[alpha=2]", 0.7, role="reference", qps=1.0),
    ]
    records = fakes.records([fakes.FakeTask(name, 200) for name in TASKS], methods)

    def found(records):
        analysis = analyse_selection(select(long_table(records), Group("fake", "tiny", "smoke")), resamples=200)
        return {one.id: one for one in compare(analysis, REFERENCE)}

    gain = found(records)["gain"]
    assert (gain.verdict, gain.method) == ("reproduced", "dhrd[alpha=0.5]")
    assert found(records)["speed-kept"].ours.value == pytest.approx(1, abs=0.05)
    assert found(records)["speed-cot"].reason == "needs cot"
    beside = records[0].environment.model_copy(update={"workers": 2})
    shared = found([records[0].model_copy(update={"environment": beside}), *records[1:]])
    assert shared["gain"].verdict == "reproduced"
    assert (shared["speed-kept"].verdict, shared["speed-kept"].ours) == ("not run", None)


def test_a_mistake_in_claims_is_named(tmp_path):
    for name in ("table_accuracy.csv", "table_qps.csv"):
        (tmp_path / name).write_text((find_published() / name).read_text())
    text = (find_published() / "claims.yaml").read_text()
    (tmp_path / "claims.yaml").write_text(text.replace("direction: more", "direction: up", 1))
    with pytest.raises(UserError, match=r"claims\.yaml: claims\.0\.direction"):
        PublishedFigures(tmp_path)
    (tmp_path / "claims.yaml").write_text(text.replace("accuracy: table_accuracy.csv", "accuracy: none.csv"))
    with pytest.raises(UserError, match=r"none\.csv"):
        PublishedFigures(tmp_path)
    (tmp_path / "claims.yaml").write_text(text.replace("figure: concentration", "figures: gain", 1))
    with pytest.raises(UserError, match="claims"):
        PublishedFigures(tmp_path)


def test_an_installed_package_carries_the_figures(tmp_path, monkeypatch):
    package = tmp_path / "dhrd_bench"
    (package / "report").mkdir(parents=True)
    monkeypatch.setattr(paper, "__file__", str(package / "report" / "paper.py"))
    with pytest.raises(UserError, match="missing from this installation"):
        find_published()
    (package / "reference").mkdir()
    (package / "reference" / "claims.yaml").write_text(Path(REFERENCE.folder / "claims.yaml").read_text())
    assert find_published() == package / "reference"
