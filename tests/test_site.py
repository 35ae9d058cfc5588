"""The site: what its files hold, whom they trust, and where they may be written."""

from __future__ import annotations

import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from hostile import ATTACKS
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sites import BETA, grid, of_suite, unpacked

from dhrd_bench.commands.report import ReportRequest, report_command
from dhrd_bench.data.generated import generate
from dhrd_bench.data.inputs import NOT_AT_HAND, InputSource
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.report.leaderboard import Choice, Leaderboard, analyse
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.store import record_path
from dhrd_bench.results.table import LongTable, long_table
from dhrd_bench.site.build import INDEX, SCRIPTS, site_files, write_site
from dhrd_bench.site.curves import curves, risk_coverage
from dhrd_bench.site.shards import plain, shard
from dhrd_bench.stats.calibration import calibrations


@pytest.fixture(scope="module")
def table() -> LongTable:
    return long_table([*grid(), fakes.failed(BETA, fakes.THREE[1], 7, error="out of memory")])


@pytest.fixture(scope="module")
def board(table: LongTable) -> Leaderboard:
    return analyse(table, resamples=200, margin=5.0)


@pytest.fixture(scope="module")
def files(board: Leaderboard) -> dict[str, str]:
    return site_files(board)


def data(files: dict[str, str], name: str) -> Any:
    return unpacked(files[f"data/{name}.js"])


# ---------------------------------------------------------------- data


texts = st.one_of(st.sampled_from([*ATTACKS, "__proto__", "</script>", "\u2028\u2029", "'\\'", "\\x3c"]), st.text())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(values)
def test_what_a_page_receives_is_what_was_given_and_nothing_in_it_is_markup(value: Any) -> None:
    text = shard("name", value)
    assert text.isascii()
    assert "<" not in text
    assert text.count("\n") == 1
    assert unpacked(text) == value


def test_numbers_have_six_digits_and_what_is_no_number_is_null() -> None:
    assert plain({"a": [1 / 3, float("nan"), float("inf"), 12345678]}) == {"a": [0.333333, None, None, 12345678]}


def test_a_board_has_the_figures_of_the_report(board: Leaderboard, files: dict[str, str]) -> None:
    said = json.loads(board.render("json"))["leaderboards"][0]
    shown = data(files, "board-0")
    assert [line["method"] for line in said["methods"]] == [method["name"] for method in shown["methods"]]
    for line, method in zip(said["methods"], shown["methods"], strict=True):
        whole = method["whole"]
        pairs = [(line["score"], whole["score"]), (line["qps"], whole["qps"])]
        if line["versus"]:
            pairs += [(line["versus"][name], whole[name]) for name in ("gain", "difference")]
            assert whole["p"] == pytest.approx(line["versus"]["test"]["adjusted"], rel=1e-5)
            assert whole["detectable"] == pytest.approx(line["versus"]["detectable"], rel=1e-5)
        for task, own in zip(line["tasks"], method["tasks"], strict=True):
            pairs.append((task["score"], own["score"]))
        for wanted, (value, low, high) in pairs:
            assert (value, low, high) == pytest.approx((wanted["value"], wanted["low"], wanted["high"]), rel=1e-5)
    # Every other table of the report is there as it stands.
    assert [each["title"] for each in shown["tables"]] == [each.title for each in board.boards[0].section().tables[1:]]


def test_a_finding_is_what_the_tests_show(files: dict[str, str]) -> None:
    methods = {method["name"]: method for method in data(files, "board-0")["methods"]}
    assert "finding" not in methods["base"]["whole"]
    for name in ("better", "slow"):
        whole = methods[name]["whole"]
        wanted = "undecided" if whole["p"] > 0.05 else "better" if whole["difference"][0] > 0 else "worse"
        assert whole["finding"] in (wanted, "equivalent")


def test_every_cell_is_in_the_index_and_its_answers_are_in_its_task(
    table: LongTable, files: dict[str, str], board: Leaderboard
) -> None:
    (entry,) = data(files, "index")["boards"]
    cells = entry["cells"]
    assert len(cells["task"]) == len(table.cells) == 13
    failed = cells["status"].index("failed")
    assert (cells["error"][failed], cells["score"][failed], cells["seed"][failed]) == ("out of memory", None, 7)
    assert cells["epochs"][0] == [50.0, 60.0]  # without the loss
    for task, name in entry["tasks"]:
        found = data(files, name)
        for cell in found["cells"]:
            rows = table.rows[(table.rows["task"] == task) & (table.rows["method"] == cell["method"])]
            rows = rows[rows["seed"] == cell["seed"]]
            if rows.empty:
                assert "rows" not in cell
                continue
            shared = found["shared"][cell["rows"]]
            assert shared["id"] == rows["example"].tolist()
            assert shared["label"] == rows["label"].tolist()
            assert cell["answer"] == rows["prediction"].tolist()
            assert all(0 < sure <= 1 for sure in cell["sure"])
    # Cells of one task have their rows, settings and surroundings once.
    assert len(data(files, "board-0-task-0")["shared"]) <= 10


def test_a_choice_of_methods_and_tasks_is_kept(table: LongTable) -> None:
    choice = Choice(tasks=("Beta",), methods=("base", "better"))
    index = data(site_files(analyse(table, choice, resamples=200), choice), "index")
    assert set(index["boards"][0]["cells"]["task"]) == {"beta"}
    assert set(index["boards"][0]["cells"]["method"]) == {"base", "better"}


def test_what_reads_nothing_has_no_throughput() -> None:
    methods = (fakes.THREE[0], fakes.FakeMethod("blind", 0.6, tokens=0))
    made = site_files(analyse(long_table(fakes.records((BETA,), methods, (0,))), resamples=200))
    qps = dict(zip(*(data(made, "index")["boards"][0]["cells"][name] for name in ("method", "qps")), strict=True))
    assert qps["blind"] is None
    assert qps["base"] > 0


# ---------------------------------------------------------------- curves


def test_curves_have_the_calibration_error_and_the_area_that_the_statistics_have() -> None:
    # One seed, as the statistics are means over seeds; few rows, so that a curve is drawn at all of them.
    table = long_table(grid((fakes.FakeTask("alpha", 36, classes=3),), seeds=1))
    (board,) = analyse(table, resamples=200).boards
    methods = board.analysis.selection.grid.methods
    for wanted in calibrations(board.probabilities, methods, None, 100, 0):
        drawn = curves(board.probabilities, methods, wanted.method)
        assert drawn is not None
        error = sum(each.share * abs(each.sure - each.right.value) for each in drawn.bins)
        assert error == pytest.approx(wanted.figures["ece"].value)
        starts = [0.0, *(coverage for coverage, _ in drawn.risk)]
        area = sum((coverage - start) * risk for start, (coverage, risk) in zip(starts, drawn.risk, strict=False))
        assert area == pytest.approx(wanted.figures["aurc"].value)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), min_size=1, max_size=30))
def test_risk_is_what_counting_gives(rows: list[tuple[int, bool]]) -> None:
    sure, right = np.array([share / 100 for share, _ in rows]), np.array([each for _, each in rows])
    for least, error in risk_coverage(sure, right):
        given_out = sorted(sure, reverse=True)[round(least * len(rows)) - 1]
        answered = [good for share, good in zip(sure, right, strict=True) if share >= given_out]
        assert least == pytest.approx(len(answered) / len(rows))  # who are as sure go together
        assert error == pytest.approx(1 - np.mean(answered))


# ---------------------------------------------------------------- the page


class Reader(html.parser.HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_a_page_runs_nothing_but_its_own_files(files: dict[str, str]) -> None:
    tags = Reader(files[INDEX]).tags
    sources = [attributes["src"] for tag, attributes in tags if tag == "script"]
    assert None not in sources
    assert all(source in files for source in sources if source)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    (policy,) = [attributes["content"] for tag, attributes in tags if attributes.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert "require-trusted-types-for 'script'" in policy
    for name in SCRIPTS:  # texts become texts, never markup or code
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", files[f"assets/{name}"]
        )


def test_the_page_is_the_same_whatever_names_there_are() -> None:
    nasty = fakes.FakeTask("__proto__", 20)
    methods = (fakes.FakeMethod("</script><img src=x onerror=alert(1)>", role="baseline"), fakes.FakeMethod("x" * 150))
    made = site_files(analyse(long_table(fakes.records((nasty,), methods, (0,))), resamples=200))
    plain_one = site_files(analyse(long_table(fakes.records((BETA,), fakes.THREE[:2], (0,))), resamples=200))
    assert made[INDEX] == plain_one[INDEX]
    assert data(made, "index")["boards"][0]["tasks"] == [["__proto__", "board-0-task-0"]]


# ---------------------------------------------------------------- texts of examples


def fingerprint(task: str) -> str:
    return Suite.named("mini7").load(task).fingerprint


def test_inputs_are_shown_where_the_licence_allows_and_the_rows_are_those() -> None:
    texts = InputSource().of("mini7", "RTE", "native", fingerprint("RTE"))
    test = Suite.named("mini7").load("RTE").test
    assert texts.texts == {name: example.prompt.text for name, example in zip(test.ids, test.examples, strict=True)}
    assert texts.licence == "Apache-2.0"
    assert "other rows" in InputSource().of("mini7", "RTE", "native", "0" * 16).reason
    assert not InputSource().of("mini7", "RTE", "native", "0" * 16).texts


def test_inputs_are_not_shown_else_and_the_hub_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DHRD_DATA_DIR", raising=False)
    closed = InputSource().of("superglue7", "CB", "native", "")
    assert "licence" in closed.reason
    assert not closed.open
    assert InputSource().of("superglue7", "BoolQ", "native", "").reason == NOT_AT_HAND
    assert InputSource(private=True).of("superglue7", "CB", "native", "").reason == NOT_AT_HAND
    assert "not known" in InputSource().of("a-suite-of-nobody", "CB", "native", "").reason
    assert "No data folder" in InputSource(tmp_path / "gone").of("superglue7", "BoolQ", "native", "").reason


def test_rationales_of_the_data_stand_beside_the_answers(tmp_path: Path) -> None:
    """What a generated suite derives a label by; rows of a file have none in their test split."""
    for suite, task, wanted in (("derivations-short", "rules", True), ("mini7", "RTE", False)):
        record = of_suite(suite, task)
        made = site_files(analyse(long_table([record]), resamples=200), source=InputSource())
        found = data(made, "board-0-task-0")
        rows = found["shared"][found["cells"][0]["rows"]]
        assert len(rows["text"]) == len(rows["id"]) == 20
        assert (rows["why"] is not None) == wanted
        if wanted:
            card = Suite.named(suite).card.tasks[task].generated
            assert card is not None
            known = {f"{row['world']}-{row['row']}": row["rationale"] for _, row in generate(card)["test"]}
            assert rows["why"] == [known[name] for name in rows["id"]]


def test_what_was_written_is_shown_as_the_inputs_are(tmp_path: Path) -> None:
    record = of_suite("mini7", "RTE")
    for suite, wanted in (("mini7", True), ("fake", False)):
        one = record.model_copy(update={"cell": record.cell.model_copy(update={"suite": suite})})
        fakes.write(tmp_path / suite, [one])
        assert one.rows is not None
        path = record_path(tmp_path / suite, one.cell).with_suffix(".generations.jsonl")
        path.write_text(json.dumps({"id": one.rows.id[3], "text": "so yes"}) + "\n", encoding="utf-8")
        made = site_files(analyse(load_results(tmp_path / suite), resamples=200), source=InputSource())
        found = data(made, "board-0-task-0")["cells"][0].get("wrote")
        assert found == ([None, None, None, "so yes", *[None] * 16] if wanted else None)


# ---------------------------------------------------------------- writing


def written(results: Path, output: Path, **options: Any) -> str:
    stream = io.StringIO()
    request = ReportRequest(results=results, format="html", output=output, resamples=200, **options)
    assert report_command(request, Console(file=stream, width=200)) == 0
    return stream.getvalue()


def test_html_is_a_site_in_a_folder_and_one_page_in_a_file(tmp_path: Path) -> None:
    results = fakes.write(tmp_path / "results", grid())
    site = tmp_path / "site"
    assert f"Wrote {site / INDEX}" in written(results, site, data_dir=tmp_path)
    index = unpacked((site / "data" / "index.js").read_text(encoding="ascii"))
    assert f"--format html --output {site} --resamples 200 --data-dir {tmp_path}" in index["command"]
    assert "<script" in (site / INDEX).read_text(encoding="utf-8")
    written(results, tmp_path / "page.html")
    assert "<table>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_site_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path: Path, files: dict[str, str]) -> None:
    site = tmp_path / "site"
    write_site(files | {"data/board-9.js": ""}, site)
    (site / "CNAME").write_text("example.org", encoding="utf-8")
    write_site(files, site)
    there = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert there == {*files, "CNAME"}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x", encoding="utf-8")
    for place in (mine, mine / "thesis.tex"):
        with pytest.raises(UserError, match="is no site, and not empty"):
            write_site(files, place)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
