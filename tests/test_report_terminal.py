"""A report in a terminal of any width, sorted, by one metric, with details; and its forms as data."""

from __future__ import annotations

import functools
import io
import json
import re
from pathlib import Path

import fakes
import jsonschema
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from scored import scored
from typer.testing import CliRunner

from dhrd_bench.cli import app
from dhrd_bench.errors import UserError, shown
from dhrd_bench.report.data import BoardFigures, schema
from dhrd_bench.report.leaderboard import Choice, Leaderboard, analyse
from dhrd_bench.report.page import as_html
from dhrd_bench.report.scores import main_table
from dhrd_bench.report.terminal import as_text, print_document, print_table
from dhrd_bench.report.text import as_latex, as_markdown
from dhrd_bench.results.schema import Cell, TaskInfo
from dhrd_bench.results.table import long_table

SEEDS = range(3)
DOCS = Path(__file__).parent.parent / "docs"
STATED = dict(
    re.findall(r"^\| ([A-Z][\w ]+) \| ([^|]+) \|$", (DOCS / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
)
ORDER = STATED["Leaderboard"].split(", ")
"""In which the columns of the main table go, as the documentation says."""


@functools.cache
def leaderboard(**choice) -> Leaderboard:
    table = long_table([scored(one) for one in fakes.records(seeds=SEEDS)])
    return analyse(table, Choice(**choice), resamples=200, margin=5.0)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return fakes.write(tmp_path_factory.mktemp("results"), [scored(one) for one in fakes.records(seeds=SEEDS)])


def report(root, *options):
    done = CliRunner().invoke(app, ["report", "--results", str(root), "--resamples", "200", *map(str, options)])
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(root, *options) -> str:
    done = CliRunner().invoke(app, ["report", "--results", str(root), "--resamples", "200", *options])
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def printed(board: Leaderboard, width: int, details: bool = False, wide: bool = False, **options) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, **({"force_terminal": True, "color_system": None} | options))
    print_document(board.document(details), console, wide)
    return stream.getvalue()


# ---------------------------------------------------------------- width


@settings(deadline=None, max_examples=15)
@given(st.integers(40, 170))
@example(50)
@example(80)
def test_columns_go_in_the_stated_order_and_are_named(width: int) -> None:
    stream = io.StringIO()
    table = main_table(leaderboard().boards[0].analysis)
    print_table(table, Console(file=stream, width=width, force_terminal=True, color_system=None))
    text = stream.getvalue()
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    gone = re.search(r"No room for (.*?)\.\s", " ".join(text.split()) + " ")
    names = gone.group(1).split(", ") if gone else []
    assert [name for name in ORDER if name in names] == ORDER[: len(names)]
    for column in table.columns:  # the legend is of what is shown
        assert (f" {column.head}: " in f" {' '.join(text.split())}") == (bool(column.help) and column.head not in names)
    for row in table.rows:  # and no figure is cut
        for column, cell in zip(table.columns, row, strict=True):
            if column.head not in names:
                assert cell.main in text
                assert cell.detail in text


def test_the_order_in_which_columns_go_is_documented_for_every_table() -> None:
    for table in leaderboard().document(details=True).sections[0].tables:
        spare = sorted((column for column in table.columns if column.spare), key=lambda column: -column.spare)
        stated = STATED.get(table.title, "").split(", ")
        assert [column.head for column in spare] == [name for name in stated if name in {c.head for c in spare}]


def test_a_narrow_terminal_has_every_line_and_a_wide_report_every_column() -> None:
    for width in (40, 50, 80):
        text = printed(leaderboard(), width, details=True)
        assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
        assert "…" not in text
        assert "--wide shows all columns." in text
    for text in (printed(leaderboard(), 60, wide=True), leaderboard().render("terminal")):
        assert "No room for" not in text
        head = next(line for line in text.splitlines() if line.startswith("Rank"))
        assert all(name in head for name in ORDER)


def test_nothing_is_told_by_colour_or_weight_alone(monkeypatch) -> None:
    plain = printed(leaderboard(), 100)
    styled = printed(leaderboard(), 100, color_system="truecolor")
    assert re.sub(r"\x1b\[[0-9;]*m", "", styled) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    codes = re.findall(r"\x1b\[([0-9;]*)m", printed(leaderboard(), 100, color_system="truecolor"))
    assert {code for each in codes for code in each.split(";")} <= {"", "0", "1", "2"}, "bold and dim only"


# ---------------------------------------------------------------- sorted, by one metric


@pytest.mark.parametrize(
    ("column", "methods"),
    [("score", ["better", "base", "slow"]), ("qps", ["better", "base", "slow"]), ("method", ["base", "better", "slow"]),
     ("gain", ["better", "slow", "base"])],
)  # fmt: skip
def test_lines_are_sorted_and_nothing_else_changes(column: str, methods: list[str]) -> None:
    found = leaderboard(sort=column).boards[0]
    lines = list(found.analysis.lines)
    if column == "qps":
        assert [line.qps.value for line in lines] == sorted((line.qps.value for line in lines), reverse=True)
    else:
        assert [line.method for line in lines] == methods
    table, before = main_table(found.analysis), main_table(leaderboard().boards[0].analysis)
    assert set(table.rows) == set(before.rows)
    assert found.verdict == leaderboard().boards[0].verdict


def test_a_method_without_a_rank_stays_last_however_lines_are_sorted() -> None:
    made = [one for one in fakes.records() if (one.cell.method, one.cell.task) != ("better", "beta")]
    board = analyse(long_table(made), Choice(sort="gain"), resamples=100).boards[0]
    assert [line.method for line in board.analysis.lines] == ["slow", "base", "better"]


def test_one_metric_is_scored_on_the_tasks_that_have_it() -> None:
    board = leaderboard(metric="accuracy").boards[0]
    assert "2 tasks scored by accuracy" in board.section().about
    rows = board.table.rows
    for line in board.analysis.lines:
        own = rows[rows["method"] == line.method]
        for task in line.tasks:
            right = own[own["task"] == task.task]
            assert task.score.value == pytest.approx(100 * (right["prediction"] == right["label"]).mean())
    assert [task.task for task in board.analysis.lines[0].tasks] == ["alpha", "beta"]


def test_mistaken_names_are_suggested(results) -> None:
    for option, name, meant in (("--metric", "acuracy", "accuracy"), ("--sort", "scor", "score"),
                                ("--format", "parqet", "parquet")):  # fmt: skip
        assert f"Did you mean '{meant}'?" in refused(results, option, name)
    assert "No task has the metric 'f1a'" in refused(results, "--metric", "f1a", "--tasks", "beta")


# ---------------------------------------------------------------- details


def test_details_are_the_figures_of_json_and_only_where_asked_for() -> None:
    brief, full = leaderboard().render("markdown"), leaderboard().render("markdown", details=True)
    titles = ["Costs a point", "Further figures", "How probable", "Slices", "Calibration", "Agreement of seeds"]
    assert [f"### {title}\n" in brief for title in titles] == [False] * len(titles)
    assert [f"### {title}\n" in full for title in titles] == [True] * len(titles)
    board = json.loads(leaderboard().render("json"))["leaderboards"][0]

    def row(title: str, method: str) -> str:
        return next(line for line in full.split(f"### {title}\n")[1].splitlines() if f"| {method} |" in line)

    (belief,) = [each for each in board["hierarchical"] if each["method"] == "slow"]
    assert row("How probable", "slow").count("&lt;0.01") == (belief["suite"]["better"] < 0.01) + (
        belief["suite"]["same"] < 0.01
    ) + (belief["new_task"]["better"] < 0.01)
    (sure,) = [each for each in board["calibration"] if each["method"] == "better" and each["task"] is None]
    assert f"{sure['figures']['ece']['value']:.3f}" in row("Calibration", "better")
    (agree,) = [each for each in board["seed_agreement"] if each["method"] == "base" and each["task"] is None]
    assert f"| {agree['agreement']['value']:.1f} [" in row("Agreement of seeds", "base")
    first = min(board["slices"], key=lambda each: (each["test"]["adjusted"], each["test"]["p"]))
    assert f"| {first['task']} | {first['slice']} | {first['method']} |" in full


def test_gains_over_several_backbones_have_a_table() -> None:
    made = [
        one.model_copy(update={"cell": one.cell.model_copy(update={"backbone": backbone})})
        for backbone in ("one", "two", "three")
        for one in fakes.records(fakes.SMALL[:2], fakes.THREE[:2])
    ]
    found = analyse(long_table(made), resamples=100)
    assert "Pooled over backbones" not in found.render("markdown")
    assert re.search(r"\| fake \| smoke \| better \| 3 \| \+\d", found.render("markdown", details=True))


# ---------------------------------------------------------------- data


def test_json_is_as_its_schema_says(results) -> None:
    made = json.loads(schema())
    check = jsonschema.Draft202012Validator(made)
    figures = json.loads(leaderboard().render("json"))
    check.validate(figures)
    assert set(figures["leaderboards"][0]) == set(BoardFigures.__dataclass_fields__)
    for key in BoardFigures.__dataclass_fields__:
        lacking = dict(figures["leaderboards"][0])
        del lacking[key]
        assert not check.is_valid(figures | {"leaderboards": [lacking]}), key
    wrong = json.loads(json.dumps(figures))
    wrong["leaderboards"][0]["verdict"]["claims"][0]["finding"] = "best"
    assert not check.is_valid(wrong)


def test_the_schema_that_is_shipped_is_that_of_the_command(tmp_path) -> None:
    path = tmp_path / "schema.json"
    assert CliRunner().invoke(app, ["report", "--schema", "--output", str(path)]).exit_code == 0
    shipped = DOCS / "leaderboard.schema.json"
    assert shipped.read_text(encoding="utf-8") == path.read_text(encoding="utf-8") == schema()


def test_parquet_holds_the_rows_behind_the_scores(results, tmp_path) -> None:
    path = tmp_path / "rows.parquet"
    report(results, "--format", "parquet", "--output", path, "--tasks", "beta")
    rows = pd.read_parquet(path)
    assert set(rows["task"]) == {"beta"}
    found = 100 * rows.groupby("method")["correct"].mean()
    board = json.loads(report(results, "--format", "json", "--tasks", "beta"))["leaderboards"][0]
    assert found.to_dict() == pytest.approx({line["method"]: line["score"]["value"] for line in board["methods"]})
    assert "--output rows.parquet" in refused(results, "--format", "parquet")


# ---------------------------------------------------------------- hostile names

NAMES = [
    "b<script>alert(1)</script>\\\\|a|b\\|`$_{^}%#&~\x1b[2J\u202e",
    "b" + "x" * 90,
    "bمرحبا😀\u200d😀",
]


SEPARATORS = {
    "markdown": r"(?<!\\)\|",
    "latex": r"(?<!\\)&",
    "html": r"</?(?:t[rdh]|table|h\d|p|li|script)\b",
    "csv": "^",
}
"""What separates cells in a form, or, of CSV, begins a line."""


def shape(value):
    """Return the structure of data: keys, lengths and kinds."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else isinstance(value, str)


def separators(form: str, text: str) -> list[int]:
    """Return how many separators each line has; a comment of LaTeX has none, whatever stands in it."""
    return [
        0 if (form, line[:1]) == ("latex", "%") else len(re.findall(SEPARATORS[form], line))
        for line in text.splitlines()
    ]


@functools.cache
def called(name: str) -> Leaderboard:
    """Return a report in which a method has this name, and tasks and labels begin with it."""
    made = []
    for one in fakes.records(fakes.SMALL[:2], fakes.THREE[:2], (0, 1)):
        method = name if one.cell.method == "better" else one.cell.method
        labels = [f"{name}{number}" for number in range(len(one.task.labels))]
        # As a record of a file is read: names have no control characters.
        task = f"{name} {one.cell.task}"
        cell = Cell(**one.cell.model_dump() | {"method": method, "task": task})
        info = TaskInfo(labels=labels, metrics=one.task.metrics)
        made.append(one.model_copy(update={"cell": cell, "task": info}))
    return analyse(long_table(made), resamples=100)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_change_nothing_but_themselves(name: str) -> None:
    plain, hostile = called("bplain"), called(name)
    documents = [each.document(details=True) for each in (plain, hostile)]
    for form, render in (("markdown", as_markdown), ("latex", as_latex), ("html", as_html), ("terminal", as_text)):
        text, other = map(render, documents)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", other), form
        if form in SEPARATORS:
            assert separators(form, text) == separators(form, other), form
    text, other = (each.render("csv") for each in (plain, hostile))
    assert separators("csv", text) == separators("csv", other)
    text, other = (json.loads(each.render("json"))["leaderboards"][0] for each in (plain, hostile))
    for part in ("verdict", "methods"):
        assert shape(text[part]) == shape(other[part])
    rows, others = plain.rows(), hostile.rows()
    assert set(others["method"]) == {"base", shown(name)}
    assert (others["correct"].sum(), len(others)) == (rows["correct"].sum(), len(rows))
    for width in (50, 80):
        stream = io.StringIO()
        print_document(documents[1], Console(file=stream, width=width, force_terminal=True, color_system=None))
        assert max(cell_len(line.rstrip()) for line in stream.getvalue().splitlines()) <= width
        assert not re.search(r"[\x1b\u202e]", stream.getvalue())
