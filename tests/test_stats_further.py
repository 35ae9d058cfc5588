"""The page's table of the further statistics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dhrd_bench.stats.validate_further import BEGIN, END, as_markdown, main, run

PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"


def lines():
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line][2:]
    return {what: (wanted, [float(end) for end in band.split("-")]) for what, wanted, _, band, _ in cells}


def test_the_page_claims_no_more_than_its_simulations_show():
    found = lines()
    assert sum(wanted == "≤ 5" for wanted, _ in found.values()) >= 12
    for what, (wanted, (low, high)) in found.items():
        if wanted == "≤ 5":
            assert low <= 5, what
        elif wanted == "95" and "2 seeds" not in what:
            assert high >= 94, what
        elif re.fullmatch(r"[\d.]+-[\d.]+", wanted):
            least, most = map(float, wanted.split("-"))
            assert low <= most, what
            assert high >= least, what


def test_the_page_has_every_line_that_the_program_writes():
    made = run(1, ["peeking", "pooling", "agreement", "equals"])
    assert {what for what, _ in made} <= set(lines())


def test_only_what_stands_between_the_marks_is_replaced(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    assert main(["--trials", "2", "--only", "pooling", "--write", str(page)]) == 0
    table = as_markdown(run(2, ["pooling"]))
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{table}{END}\nafter\n"
    assert capsys.readouterr().out == table


def test_an_unknown_simulation_is_refused():
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
