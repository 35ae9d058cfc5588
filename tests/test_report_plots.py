"""Figures for papers: what they draw, from the command line to the file, and that they are the same twice."""

from __future__ import annotations

import io
import json
import math
import sys
import xml.etree.ElementTree as ET
from itertools import product

import fakes
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from scored import scored
from typer.testing import CliRunner

import dhrd_bench.report
from dhrd_bench.cli import app
from dhrd_bench.errors import UserError
from dhrd_bench.report import plots
from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.report.plotdata import DATA, data_of
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.intervals import Variance
from dhrd_bench.stats.power import grown

SEEDS = range(3)


@pytest.fixture(scope="module")
def boards():
    table = long_table([scored(one) for one in fakes.records(seeds=SEEDS)])
    return analyse(table, resamples=200, margin=2.0).boards


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return fakes.write(tmp_path_factory.mktemp("results"), fakes.records(seeds=SEEDS))


def plot(*options):
    done = CliRunner().invoke(app, ["plot", *map(str, options), "--resamples", "200"])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def refused(*options) -> str:
    done = CliRunner().invoke(app, ["plot", *map(str, options), "--resamples", "200"])
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", DATA)
def test_every_figure_is_drawn_and_is_the_same_twice(boards, kind):
    data = data_of(kind, boards)
    first = plots.draw(kind, data, "svg")
    assert first == plots.draw(kind, data, "svg")
    assert ET.fromstring(first).tag.endswith("svg")
    assert b"<dc:date>" not in first


def test_pdf_and_png_are_the_same_twice_too(boards):
    data = data_of("gains", boards)
    pdf, again = (plots.draw("gains", data, "pdf") for _ in range(2))
    assert pdf == again
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    picture = plots.draw("gains", data, "png")
    assert picture == plots.draw("gains", data, "png")
    assert Image.open(io.BytesIO(picture)).width > 1000


def test_the_command_writes_a_figure_and_its_data(results, tmp_path):
    path = tmp_path / "here" / "gains.svg"
    said = plot("gains", "--results", results, "--output", path, "--data", "--margin", "2")
    assert said == f"Wrote {path} Wrote {path.with_suffix('.csv')}"
    data = pd.read_csv(path.with_suffix(".csv"))
    done = CliRunner().invoke(app, ["report", "--results", str(results), "--resamples", "200", "--format", "json"])
    lines = {line["method"]: line for line in json.loads(done.stdout)["leaderboards"][0]["methods"]}
    for row in data.itertuples():
        versus = lines[row.method]["versus"]
        assert (row.gain, row.low, row.high) == pytest.approx([versus["gain"][key] for key in ("value", "low", "high")])
        assert row.p == pytest.approx(versus["test"]["adjusted"])
        base = lines["base"]["score"]["value"]
        assert row.detectable == pytest.approx(100 * versus["detectable"] / base)
    assert set(data["method"]) == {"better", "slow"}


def test_mistakes_are_one_clear_line(results, tmp_path, monkeypatch):
    to = ("--output", tmp_path / "x.pdf")
    assert "There is no figure 'parto'. Did you mean 'pareto'?" in refused("parto")
    assert "Did you mean 'pdf'?" in refused("pareto", "--results", results, "--output", tmp_path / "x.pdff")
    other = [one.model_copy(update={"cell": one.cell.model_copy(update={"budget": "b"})}) for one in fakes.records()]
    two = fakes.write(tmp_path / "two", [*fakes.records(), *other])
    assert "2 leaderboards: fake · tiny · b; fake · tiny · smoke." in refused("seeds", "--results", two, *to)
    assert "nothing to draw: no method has class" in refused("calibration", "--results", results, *to)
    monkeypatch.delitem(sys.modules, "dhrd_bench.report.plots")
    monkeypatch.delattr(dhrd_bench.report, "plots")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "Figures need matplotlib" in refused("pareto", "--results", results, *to)
    assert not list(tmp_path.glob("x.*"))


def test_hostile_names_are_text():
    names = ["<script>alert(1)</script>", r"$\frac{1}{0}$" + "x" * 70, "مرحبا\u202e", "😀-->", "a\\b|c_d^e&\x1b[2J"]
    methods = [fakes.THREE[0], *(fakes.FakeMethod(name, 0.8) for name in names)]
    boards = analyse(fakes.table(fakes.SMALL[:2], methods, (0, 1)), resamples=100).boards
    for kind in ("pareto", "gains"):
        tree = ET.fromstring(plots.draw(kind, data_of(kind, boards), "svg"))
        assert not [each for each in tree.iter() if str(each.tag).endswith("script")]


# ---------------------------------------------------------------- what is drawn


def test_ten_methods_are_told_apart_without_colour(boards):
    data = pd.DataFrame([{"axis": "epoch", "method": f"m{m}", "x": x, "value": m, "low": m, "high": m}
                         for m, x in product(range(10), (1, 2))])  # fmt: skip
    figure = Figure()
    plots.curves(figure, data)
    looks = {(line.get_marker(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 10


def test_a_gain_is_filled_only_where_the_verdict_shows_something(boards):
    data = data_of("gains", boards).assign(finding=["better", "undecided"])
    figure = Figure()
    plots.gains(figure, data)
    dots = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots == ["black", "white"]


def test_power_at_what_was_run_is_what_the_report_calls_detectable(boards):
    data = data_of("power", boards)
    told = {line.method: line.versus.detectable for line in boards[0].analysis.lines if line.versus}
    for axis in ("seeds", "test examples"):
        now = data[(data["axis"] == axis) & data["now"]].set_index("method")["detectable"]
        assert now.to_dict() == pytest.approx(told)
    for _, line in data.groupby(["axis", "method"]):
        assert (line.sort_values("x")["detectable"].diff().dropna() <= 1e-9).all(), "more never finds less"


@given(
    st.floats(0, 100), st.floats(0, 1), st.floats(0, 100), st.floats(1, 200), st.integers(2, 20), st.integers(2, 20),
    st.floats(0.1, 50),
)  # fmt: skip
def test_grown_variances_are_those_of_the_model(examples, share, between, df, seeds, to, rows):
    """V_seed / S + V_example / C + V_interaction / (S C), as docs/statistics.md has it."""
    spread = Variance(examples, share * examples, between, df)
    assert grown(spread, seeds, seeds) == Variance(
        pytest.approx(examples), pytest.approx(share * examples), pytest.approx(between), df
    )
    found = grown(spread, seeds, to, rows)
    v_seed, v_mixed, v_example = between * seeds, share * examples * seeds, (1 - share) * examples
    assert found.total == pytest.approx(v_seed / to + v_example / rows + v_mixed / (to * rows))


def test_calibration_is_that_of_the_rows(boards):
    data = data_of("calibration", boards)
    board = boards[0]
    for method in set(data["method"]):
        rows = board.table.rows[board.table.rows["method"] == method]
        accuracy = (rows["prediction"] == rows["label"]).groupby(rows["task"], observed=True).mean().mean()
        own = data[data["method"] == method]
        sure = own[own["axis"] == "probability"]
        assert sure["share"].sum() == pytest.approx(1)
        assert (sure["share"] * sure["value"]).sum() == pytest.approx(accuracy)
        assert ((sure["low"] >= 0) & (sure["low"] <= sure["value"])).all()
        assert ((sure["value"] <= sure["high"]) & (sure["low"] < sure["high"]) & (sure["high"] <= 1)).all()
        full = own[(own["axis"] == "coverage") & (own["x"] == 1)]
        assert full["value"].item() == pytest.approx(1 - accuracy)


def test_curves_are_over_training_rows_where_records_hold_several_sizes(boards):
    by_epoch = data_of("curves", boards)
    assert set(by_epoch["axis"]) == {"epoch"}
    assert by_epoch[by_epoch["method"] == "base"]["value"].tolist() == [51, 61, 71]
    made = []
    for budget, size, right in (("small", 50, 0.7), ("large", 400, 0.9)):
        for one in fakes.records(fakes.SMALL[:2], [fakes.FakeMethod("base", right, role="baseline")]):
            cell = one.cell.model_copy(update={"budget": budget})
            made.append(one.model_copy(update={"cell": cell, "data": one.data.model_copy(update={"train_rows": size})}))
    data = data_of("curves", analyse(long_table(made), resamples=100).boards)
    assert set(data["axis"]) == {"training rows"}
    assert data["x"].tolist() == [50, 400]
    assert data["value"].is_monotonic_increasing


def test_scores_of_seeds_have_the_mean_that_the_report_has(boards):
    data = data_of("seeds", boards)
    for _, rows in data.groupby("method"):
        assert rows["score"].mean() == pytest.approx(rows["mean"].iloc[0])
        assert len(rows) == len(SEEDS)
    assert not data["collapsed"].any()
    assert math.isfinite(data["low"].min())
