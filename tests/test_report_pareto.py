"""Accuracy against throughput in a report, from the command line to every form."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import fakes
import pytest
from rich.console import Console
from typer.testing import CliRunner

from dhrd_bench.cli import app
from dhrd_bench.commands.report import ReportRequest, report_command
from dhrd_bench.report.page import as_svg
from dhrd_bench.report.terminal import print_table
from dhrd_bench.report.timed import run_table
from dhrd_bench.results.schema import Energy, TrainingCost
from dhrd_bench.results.timed import Figure, timed_path
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import Point

IDLE = fakes.FakeMethod("idle", 0.5, inference="none", qps=1e6, tokens=0)
FORMS = ("terminal", "markdown", "html", "latex")


def report(root, *options, code=0):
    done = CliRunner().invoke(app, ["report", "--results", str(root), "--resamples", "200", *options])
    assert done.exit_code == code, done.output
    return done.stdout


def write_run(root, record):
    path = timed_path(root, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json())
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    trained = {
        "base": {"tokens": 1000, "seconds": 2.0, "teacher_tokens": 0},
        "better": {"tokens": 3000, "seconds": 2.0, "teacher_tokens": 600},
        "slow": {"tokens": 3000, "seconds": 9.0},
        "idle": {},
    }
    made = fakes.records(methods=(*fakes.THREE, IDLE))
    fakes.write(root, [one.model_copy(update={"train": TrainingCost(**trained[one.cell.method])}) for one in made])
    for scenario in ("offline", "server"):
        write_run(root, fakes.throughput(fakes.SMALL[1], scenario=scenario))
    return root


def rows_of(markdown, title):
    """Return a Markdown table as dicts by its first column."""
    lines = markdown.split(f"### {title}\n\n")[1].split("\n\n")[0].splitlines()
    head, _, *body = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in body]


def test_the_table_says_who_is_on_the_front_and_what_a_point_costs(results):
    text = report(results, "--format", "markdown", "--details")
    rows = {row["Method"]: row for row in rows_of(text, "Accuracy and throughput")}
    costs = {row["Method"]: row for row in rows_of(text, "Costs a point")}
    assert rows["better"]["Front"] == "**yes**"
    assert rows["slow"]["Front"] == "no"
    assert rows["slow"]["P(front)"] == "&lt;0.01"
    assert re.fullmatch(r"\d+(\.\d+)? \[.*, .*\]", rows["base"]["QPS"])
    assert rows["better"]["Teacher tokens"] == "600"
    assert re.fullmatch(r"\d+ \[\d+(\.\d+)?, [\d,]+\]", costs["better"]["Train tokens a point"])
    assert costs["better"]["Train seconds a point"] == "no extra cost"
    assert costs["slow"]["Train tokens a point"] == "no gain shown"
    assert rows["slow"]["Teacher tokens"] == costs["slow"]["Teacher tokens a point"] == "–", (
        "an old record tells nothing"
    )
    assert rows["idle"]["QPS"] == rows["idle"]["Front"] == rows["idle"]["P(front)"] == "–"
    assert "idle: reads nothing of its input" in text
    board = {row["Method"]: row for row in rows_of(text, "Leaderboard")}
    assert board["idle"]["QPS"] == board["idle"]["QPS ratio"] == "–"
    assert board["base"]["QPS"] != "–"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_shows_both_tables(results, form):
    text = report(results, "--format", form, "--details")
    for words in ("Accuracy and throughput", "no gain shown", "Timed side by side", "INVALID: not to be quoted"):
        assert words in " ".join(text.split())


def test_data_hold_the_figures_of_both_tables(results):
    board = json.loads(report(results, "--format", "json"))["leaderboards"][0]
    points = {point["method"]: point for point in board["points"]}
    lines = {line["method"]: line for line in board["methods"]}
    rows = {
        (row["method"], row["task"], row["figure"]): row
        for row in csv.DictReader(io.StringIO(report(results, "--format", "csv")))
    }
    better = rows["better", "", "front_probability"]
    assert float(better["value"]) == points["better"]["probability"]
    assert better["decision"] == "on the front"
    assert points["idle"]["on_front"] is None
    assert ("idle", "", "front_probability") not in rows
    per_point = lines["better"]["costs"]["teacher_tokens"]["per_point"]
    row = rows["better", "", "cost a point: teacher_tokens"]
    assert [float(row[key]) for key in ("value", "low", "high")] == [per_point[key] for key in ("value", "low", "high")]
    difference = lines["better"]["versus"]["difference"]
    assert per_point["value"] == pytest.approx(600 / difference["value"])
    assert per_point["high"] == pytest.approx(600 / difference["low"])
    assert rows["slow", "", "cost a point: tokens"]["decision"] == "no gain shown"
    qps = rows["base", "", "qps"]
    assert float(qps["low"]) < float(qps["value"]) < float(qps["high"])
    runs = {(one["method"], one["scenario"]): one for one in board["timed"]}
    assert len(runs) == 6
    assert runs["better", "offline"]["ratio_to_baseline"]["value"] == 1.0
    timed = rows["better", "beta", "timed ratio_to_baseline: offline, seed 0"]
    assert (float(timed["value"]), float(timed["p"]), timed["decision"]) == (1.0, 0.01, "VALID")


# ---------------------------------------------------------------- energy


def with_energy(root, sources):
    """A copy of the records in which each method's cells drew so much, as told by its source."""
    drawn = {"base": (100.0, 12.0), "better": (400.0, 24.0), "slow": (100.0, 12.0)}
    made = fakes.records()
    told = [
        Energy(source=sources[one.cell.method], train=drawn[one.cell.method][0], test=drawn[one.cell.method][1])
        for one in made
    ]
    fakes.write(root, [one.model_copy(update={"energy": energy}) for one, energy in zip(made, told, strict=True)])


def test_energy_is_a_cost_in_every_form(tmp_path):
    with_energy(tmp_path, dict.fromkeys(("base", "better", "slow"), "rapl+nvml"))
    text = report(tmp_path, "--format", "markdown", "--details")
    rows = {row["Method"]: row for row in rows_of(text, "Accuracy and throughput")}
    costs = {row["Method"]: row for row in rows_of(text, "Costs a point")}
    assert rows["better"]["Train joules"] == "400"
    assert costs["slow"]["Train joules a point"] == "no gain shown"
    assert "told by the hardware's counters (rapl+nvml)" in text
    board = json.loads(report(tmp_path, "--format", "json"))["leaderboards"][0]
    assert board["energy_sources"] == ["rapl+nvml"]
    (line,) = [line for line in board["methods"] if line["method"] == "better"]
    examples = [task["examples"] for task in board["tasks"].values()]
    each = sum(24 / count for count in examples) / len(examples)
    assert line["costs"]["joules_an_example"]["mean"] == pytest.approx(each)
    assert line["costs"]["joules"]["per_point"]["value"] == pytest.approx(300 / line["versus"]["difference"]["value"])
    lines = csv.DictReader(io.StringIO(report(tmp_path, "--format", "csv")))
    values = {(row["method"], row["figure"]): row["value"] for row in lines}
    assert float(values["better", "cost: joules"]) == 400
    assert float(values["better", "cost: joules_an_example"]) == pytest.approx(each)


def test_energy_of_unlike_sources_is_not_compared(tmp_path, results):
    with_energy(tmp_path, {"base": "rapl", "better": "codecarbon", "slow": "rapl"})
    text = report(tmp_path, "--format", "markdown")
    assert "No joules: the records have them from unlike sources (codecarbon, rapl)." in text
    assert "Train joules" not in text
    assert "joules" not in report(results, "--format", "markdown").lower()  # nobody has told


# ---------------------------------------------------------------- pictures


class Picture(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts, self.inside = [], [], False

    def handle_starttag(self, tag, attrs):
        self.inside = self.inside or tag == "svg"
        if self.inside:
            self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "svg"

    def handle_data(self, data):
        if self.inside and data.strip():
            self.texts.append(data)


def test_a_page_draws_the_picture_and_needs_nothing_else(results):
    page = report(results, "--format", "html")
    picture = Picture()
    picture.feed(page)
    tags = [tag for tag, _ in picture.tags]
    assert tags.count("svg") == 1
    assert tags.count("circle") == 3
    assert not {"script", "image", "use", "a", "style", "foreignobject"} & set(tags)
    assert not any(name.startswith("on") or "href" in name for _, attrs in picture.tags for name in attrs)
    assert {"base", "better", "slow"} <= set(picture.texts)
    assert "idle" not in picture.texts
    assert "http" not in page


def drawn(*points):
    picture = Picture()
    picture.feed(as_svg(points))
    return picture


@pytest.mark.parametrize(
    "qps",
    [
        [Estimate(100.0)],
        [Estimate(100.0, 90.0, 110.0), Estimate(100.0, 90.0, 110.0)],
        [Estimate(1e-3, 1e-30, 1e30), Estimate(1e5, 9e4, 1.1e5)],
        [Estimate(100.0)] * 20,
    ],
)
def test_all_of_the_picture_is_inside_its_frame(qps):
    picture = drawn(*(Point(f"m{i}", Estimate(72.0 + i % 3, 70.0, 90.0), one, True, 0.5) for i, one in enumerate(qps)))
    frame = next(attrs for tag, attrs in picture.tags if tag == "svg")["viewbox"].split()
    for tag, attrs in picture.tags:
        for name, size in (("x", 2), ("y", 3)):
            for key in (name, f"{name}1", f"{name}2", f"c{name}"):
                if key in attrs:
                    assert 0 <= float(attrs[key]) <= float(frame[size]), (tag, attrs)
    names = [(float(a["x"]), float(a["y"])) for tag, a in picture.tags if tag == "text" and a["class"] == "name"]
    assert len(set(names)) == len(qps), "names do not lie upon each other"


def test_names_in_the_picture_are_escaped_and_without_points_there_is_none():
    name = '"><script>alert(1)</script>&'
    picture = drawn(Point(name, Estimate(80.0), Estimate(10.0), True, None))
    assert name in picture.texts
    assert "script" not in [tag for tag, _ in picture.tags]
    assert as_svg([Point("idle", Estimate(50.0), None, None, None)]) == as_svg([]) == ""


@pytest.mark.parametrize("width", [80, 120])
def test_both_tables_fit_a_terminal(results, width):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    report_command(ReportRequest(results=results, resamples=200), console)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert any(line.startswith("Timed side by side") for line in lines)
    assert "…" not in stream.getvalue()


# ---------------------------------------------------------------- timed side by side


def test_runs_of_the_group_are_shown_as_they_were_named(results, tmp_path):
    root = fakes.write(tmp_path, fakes.records())
    write_run(root, fakes.throughput(fakes.SMALL[1]))
    other = fakes.throughput(fakes.SMALL[0])
    other.cell.budget = "laptop"
    write_run(root, other)
    bad = fakes.throughput(fakes.SMALL[2], seed=1)
    bad.measurements[1].verdict, bad.measurements[1].reasons = "INVALID", ["busy machine: others used 40%"]
    bad.measurements[1].identity = "an older one"
    write_run(root, bad)
    text = report(root, "--format", "markdown")
    rows = rows_of(text, "Timed side by side")
    assert [(row["Task"], row["Scenario"], row["Seed"]) for row in rows] == [("beta", "offline", "0")] * 3 + [
        ("gamma", "offline", "1")
    ] * 3
    by = {(row["Method"], row["Task"]): row for row in rows}
    assert by["better", "beta"]["p equal"] == "**0.010** ±5 %"
    assert by["better", "beta"]["To reference"] == "50.0× [49.0, 51.0]"
    assert by["base", "beta"]["To baseline"] == "baseline"
    assert by["slow", "beta"]["To reference"] == "reference"
    assert by["better", "gamma"]["Verdict"] == "INVALID busy machine: others used 40%"
    assert "Timed with another version than was scored: better on gamma, seed 1." in text
    only = rows_of(report(root, "--format", "markdown", "--tasks", "beta", "--methods", "better"), "Timed side by side")
    assert [(row["Method"], row["Task"]) for row in only] == [("better", "beta")]
    assert "Timed side by side" not in report(root, "--format", "markdown", "--tasks", "alpha")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "whole file"),
        ('{"scenario": "offline"}', "Field required"),
        (fakes.throughput(fakes.SMALL[0], schema_version="9.0.0").model_dump_json(), "9.0.0"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_the_rest_reported(tmp_path, text, said):
    root = fakes.write(tmp_path, fakes.records())
    path = write_run(root, fakes.throughput(fakes.SMALL[1]))
    path.with_name("offline-7.json").write_text(text)
    path.with_name("notes.json").write_text("{")
    shown = report(root, "--format", "markdown", code=2)
    assert "Timed side by side" in shown
    problem = shown.split("could not be read")[1]
    assert "offline-7.json" in problem
    assert said in problem
    assert "notes.json" not in problem


# ---------------------------------------------------------------- one run, as the throughput command prints it


def lines_of(record):
    console = Console(record=True, width=160, file=io.StringIO())
    print_table(run_table(record), console)
    return console.export_text().strip().splitlines()


def test_a_run_says_what_each_comparison_shows():
    record = fakes.throughput(fakes.SMALL[1], scenario="server", p99_bound=0.5)
    slow = record.measurements[2]
    slow.equivalent_p, slow.ratio_to_baseline = 1.0, Figure(value=0.02, low=0.01, high=0.03)
    slow.verdict, slow.reasons = "INVALID", ["busy machine: others used 40%"]
    slow.tokens_in, slow.tokens_out, slow.roofline_share = 120.4, 30.0, 0.07
    title, head, *rows = lines_of(record)
    assert title.strip() == "fake beta, tiny, smoke, seed 0: server, p99 within 0.5 s"
    assert "p50 ms" not in head
    row = next(row for row in rows if row.startswith("slow"))
    for words in ("2.00 [1.80, 2.20]", "reference", "0.0200× [0.0100, 0.0300]", "120/30", "7%", "INVALID busy machine"):
        assert words in row
    assert "better and base within 5 %: equivalent (p = 0.010)." in map(str.strip, rows)
    assert any("slow and base within 5 %: not equivalent, 0.0200×" in row for row in rows)
    slow.ratio_to_baseline.high = 1.2
    assert any("slow and base within 5 %: undecided (p = 1.000)" in row for row in lines_of(record))


def test_a_run_of_single_queries_has_percentiles():
    record = fakes.throughput(fakes.SMALL[1], scenario="single-stream")
    for measurement in record.measurements:
        measurement.percentiles = {name: Figure(value=0.0123) for name in ("p50", "p90", "p99")}
    _, head, row, *_ = lines_of(record)
    assert all(name in head for name in ("p50 ms", "p90 ms", "p99 ms"))
    assert row.split().count("12.3") == 3
