"""Names, labels, texts and errors of strangers are text in every form of output: no markup, no link, no control."""

from __future__ import annotations

import html.parser
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
import yaml
from hostile import ATTACKS
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from readers import SUITE, unseen
from rich.console import Console
from rich.table import Table as RichTable

from dhrd_bench import plugins
from dhrd_bench.commands.listing import KINDS
from dhrd_bench.commands.listing import show as list_kind
from dhrd_bench.data.rationales import Rationale, RationaleStore
from dhrd_bench.errors import UserError, shown
from dhrd_bench.progress import Display, literal
from dhrd_bench.rationales.card import StoreCard, save_card, write_card
from dhrd_bench.report.layout import Column, Document, Section, Table, TableCell
from dhrd_bench.report.page import as_html
from dhrd_bench.report.terminal import print_document
from dhrd_bench.report.text import as_latex, as_markdown
from dhrd_bench.results.predictions import as_csv, as_json, prediction_rows

CHEAP = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
PIECES = [*"[](){}<>!|\\`*_~#-+.:/&@\"'=x1 \n\t\x1b\x07\u009b\u202e", *ATTACKS]
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join).filter(str.strip)


def document(text: str) -> Document:
    """A document that holds `text` wherever a document holds a text."""
    rows = ((TableCell(text, text, True), TableCell(text)), (TableCell("plain"), TableCell(text, text)))
    table = Table(text, (Column(text, "left", wraps=True, help=text), Column(text)), rows, (text, text))
    return Document(text, (Section(text, text, (text,), (table,), (text,)),), (text,), (text,))


class Reader(html.parser.HTMLParser):
    """Which elements and attributes a page has, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.data = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attributes)))

    def handle_data(self, data: str) -> None:
        self.data += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def examples(test: Callable[[str], None]) -> Callable[[str], None]:
    """Every attack is tried, and some mixtures."""
    for text in ATTACKS:
        test = example(text)(test)
    return CHEAP(given(texts)(test))


@examples
def test_a_page_has_the_elements_that_it_has_for_plain_text(text: str) -> None:
    assert read(as_html(document(text))).tags == read(as_html(document("plain"))).tags


@examples
def test_markdown_has_the_structure_that_it_has_for_plain_text(text: str) -> None:
    """As an independent parser reads it, with GitHub's tables, strikethrough and bare links."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

    def structure(source: str) -> list[str]:
        found = []
        for token in parser.parse(source):
            found.append(token.type)
            # Whatever is left of inline markup is ours: strong figures, the command, line ends of captions.
            kinds = {child.type for child in token.children or []}
            assert not kinds & {"link_open", "image", "html_inline", "em_open", "s_open"}, source
        return found

    made = as_markdown(document(text))
    assert structure(made) == structure(as_markdown(document("plain"))), made
    assert not re.search(r"(?i)\b(https?|ftp)://|\bwww\.\w", re.sub("(?m)^Made from.*", "", made))
    assert not unseen(made.replace("\n", ""))


@examples
def test_markdown_shows_the_text_itself(text: str) -> None:
    made = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(as_markdown(document(text)))
    wanted = " ".join(shown(text).split())
    assert wanted in " ".join(read(made).data.split())


@examples
def test_latex_has_no_command_of_a_text(text: str) -> None:
    body = "\n".join(line for line in as_latex(document(text)).splitlines() if not line.startswith("%"))
    ours = {
        "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "footnotesize", "textbf",
        "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "infty", "times", "textdagger",
        "textdaggerdbl", "textperiodcentered", "noindent", "rightarrow", "leq", "pm", "surd",
    }  # fmt: skip
    assert set(re.findall(r"\\([A-Za-z]+)", body)) <= ours
    assert len(re.findall(r"(?<!\\)\{", body)) == len(re.findall(r"(?<!\\)\}", body))
    assert len(re.findall(r"(?<!\\)&", body)) == 3  # of one header and two rows with two columns
    assert not re.search(r"(?<!\\)[%#]|\^\^", body)


@examples
def test_a_terminal_is_sent_no_control_and_no_markup(text: str) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="truecolor", width=100)
    print_document(document(text), console)
    Display(console, 3).say(text)
    console.print(literal(text), highlight=False)
    table = RichTable(title=literal(text))
    table.add_column(literal(text))
    table.add_row(literal(text))
    console.print(table)
    sent = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())  # colours are ours
    assert not unseen(sent.replace("\n", ""))
    assert "\x1b]" not in stream.getvalue()
    colours = set(re.findall(r"\x1b\[([0-9;]*)m", stream.getvalue()))
    assert colours <= {"0", "1", "2", "1;2", "3"}, colours


@examples
def test_an_error_is_one_line_without_control(text: str) -> None:
    error = UserError(f"No {text}.", f"Did you mean {text}?")
    assert not unseen(str(error) + error.message + error.hint)


# ---------------------------------------------------------------- from files to output


def test_a_report_of_hostile_names_is_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the door of the command, with names in all places of a record and in a file's own name."""
    from dhrd_bench.commands.report import ReportRequest, report_command

    nasty = "\x1b]52;c;aGk=\x07<img src=x>|[red]`x`[a](b)"
    method = fakes.FakeMethod(nasty, 0.9)
    made = fakes.records((fakes.FakeTask(nasty.replace("/", ""), 30),), [*fakes.THREE, method], (0, 1))
    made.append(fakes.failed(fakes.SMALL[0], fakes.THREE[1], 0, error=nasty))
    fakes.write(tmp_path, made)
    folder = tmp_path / "\x1b[31mred"
    folder.mkdir()
    (folder / "seed-0.json").write_text(json.dumps({nasty: nasty}))
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "\x1b[2J.json").write_text("[" * 100_000)
    for form in ("terminal", "markdown", "html", "latex", "json", "csv"):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=False, width=200)
        report_command(ReportRequest(results=tmp_path, format=form, resamples=100), console)  # type: ignore[arg-type]
        printed = stream.getvalue()
        assert "better" in printed
        assert not unseen(printed.replace("\n", "")), form
        assert "<img" not in printed or form not in ("html", "markdown")
    assert not unseen(capsys.readouterr().err.replace("\n", ""))


def test_predictions_hold_texts_and_send_nothing(tmp_path: Path) -> None:
    record = fakes.record(fakes.FakeTask("t", 6), fakes.THREE[0], 0)
    wanted = dict.fromkeys(record.rows.id, "\x1b[2Ja\x9b31m\x7f�é\n") if record.rows else {}
    rows = prediction_rows(record, wanted)
    assert [row["text"] for row in json.loads(as_json(rows))] == list(wanted.values())
    for text in (as_json(rows), as_csv(rows)):
        assert not unseen(text.replace("\n", ""))
        text.encode()


def test_a_stores_page_is_made_of_text(tmp_path: Path) -> None:
    nasty = "a|b <script>x</script> [x](http://evil) `"
    with RationaleStore(tmp_path).writer("calls") as writer:
        told = Rationale(idx=1, rationale="x", input_sha256_16="0" * 16, label=nasty, teacher=nasty)
        writer.append(told.model_copy(update={"currency": nasty, "cost": 1.0}))
    save_card(tmp_path, StoreCard(name=nasty, licence=nasty, language=nasty))
    write_card(RationaleStore(tmp_path))
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse((tmp_path / "README.md").read_text())
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or []}
    assert not kinds & {"link_open", "html_inline", "html_block"}
    rows = [token for token in tokens if token.type == "tr_open"]
    cells = [token for token in tokens if token.type in ("td_open", "th_open")]
    assert (len(rows), len(cells)) == (4, 2 * 4 + 2 * 9)  # a recipe and a task, and their heads


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_lists_of_strangers_cards_are_lists(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "\x1b]8;;http://evil\x07[red]x[/red][/]"
    suite: dict[str, Any] = yaml.safe_load(SUITE)
    suite["tasks"]["calls"] |= {"licence": nasty, "label": {"field": "label", "names": [nasty, "yes"]}}
    documents = {
        "s/suite.yaml": suite,
        "b.yaml": {"kind": "budget", "name": nasty, "description": nasty},
        "l.yaml": {"kind": "backbone", "name": nasty, "licence": nasty, "parameters": nasty},
        "broken.yaml": {"kind": nasty},
    }
    plugins.load_all()
    with plugins.isolated():
        for name, raw in documents.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(yaml.safe_dump(raw))
        plugins.include(tmp_path)
        list_kind(kind, as_json=False)
        list_kind(kind, as_json=True)
    printed = capsys.readouterr().out
    assert not unseen(printed.replace("\n", ""))
    assert "[red]x[/red]" in printed
