"""Every method there is runs on what the project ships, and all are ranked in one table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dhrd_bench import registry
from dhrd_bench.cli import app
from dhrd_bench.data.rationales import RationaleStore
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.rationales.audit import audit
from dhrd_bench.rationales.card import make_card, read_store_card
from dhrd_bench.request import RunRequest

STORE = Path(__file__).parent.parent / "suites" / "mini7" / "rationales_blind"
TASKS = ["COPA", "RTE"]
NEED_MORE = ["scott", "soft-labels"]
"""What learns from more than the rationales in the rows of mini7."""
FAST = "smoke[train_rows=4,dev_rows=2,test_rows=6,epochs=1,tuning=top:1,max_length=96]"


def plan(tmp_path: Path, *methods: str, tasks: tuple[str, ...] = ("RTE", "COPA"), **changes: str) -> list[str]:
    """Return the identities of the cells that are planned."""
    request = RunRequest(
        methods=methods, suite="mini7", tasks=tasks, backbone="tiny", budget=FAST, results=tmp_path, **changes
    )
    return [cell.identity for cell in make_plan(request).cells]


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(["pooled", *NEED_MORE], id="those that need more than the rows have"),
        pytest.param(registry.methods.names(), marks=pytest.mark.slow, id="all"),
    ],
)
def test_they_are_ranked_in_one_table(methods: list[str], tmp_path: Path) -> None:
    run = [
        "run", "--suite", "mini7", "--tasks", "rte,copa", "--methods", ",".join(methods), "--rationales", "blind",
        "--backbone", "tiny", "--budget", FAST, "--seeds", "1", "--results", str(tmp_path),
    ]  # fmt: skip
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    report = ["report", "--suite", "mini7", "--results", str(tmp_path), "--resamples", "100", "--format", "json"]
    (board,) = json.loads(CliRunner().invoke(app, report, catch_exceptions=False).stdout)["leaderboards"]
    assert sorted(line["method"] for line in board["methods"]) == sorted(methods)
    for line in board["methods"]:
        assert line["ranked"], line["method"]
        assert sorted(each["task"] for each in line["tasks"]) == TASKS


@pytest.mark.parametrize("method", NEED_MORE)
def test_a_refusal_says_by_which_options_it_is_run(method: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        plan(tmp_path, method)
    assert "Give --rationales blind, a store of the suite's" in refusal.value.hint
    with pytest.raises(UserError) as refusal:
        plan(tmp_path, method, tasks=("BoolQ", "COPA", "RTE"))
    found = re.search(r"Give --tasks (\S+) --rationales (\S+), ", refusal.value.hint)
    assert found
    assert len(plan(tmp_path, method, tasks=tuple(found[1].split(",")), rationales=found[2])) >= len(TASKS)
    with pytest.raises(UserError) as refusal:
        plan(tmp_path, method, tasks=("BoolQ", "WiC"))
    assert "blind" not in refusal.value.hint


def test_a_store_s_name_is_its_folder(tmp_path: Path) -> None:
    asked = plan(tmp_path, "dhrd", "scott", rationales=str(STORE))
    pin = RationaleStore(STORE).fingerprint()[:16]
    for same in ("blind", f"blind@{pin}"):
        assert plan(tmp_path, "dhrd", "scott", rationales=same) == asked
        assert plan(tmp_path, "dhrd@blind", "scott@blind", rationales=same) == asked, "it goes without saying"
    assert not set(plan(tmp_path, "dhrd")) & set(asked)
    with pytest.raises(UserError, match=f"has the fingerprint {pin}, not 00000000"):
        plan(tmp_path, "dhrd", rationales="blind@00000000")
    with pytest.raises(UserError, match=r"No rationale store at bilnd\. Did you mean 'blind'\?"):
        plan(tmp_path, "dhrd", rationales="bilnd")


def test_it_is_shown_and_audited_by_its_name() -> None:
    shown = CliRunner().invoke(app, ["rationales", "show", "--suite", "mini7", "--rationales", "blind", "--limit", "1"])
    assert shown.exit_code == 0, shown.output
    assert "mini7, label hidden" in shown.output
    assert RationaleStore(STORE).fingerprint()[:16] in shown.output
    done = CliRunner().invoke(app, ["rationales", "audit", "--suite", "mini7", "--rationales", "blind", "--json"])
    assert done.exit_code == 0, done.output
    for task in json.loads(done.stdout)["tasks"]:
        assert (task["covered"], task["mismatched"], task["contaminated"], task["duplicates"]) == (120, 0, 0, 0)
        assert task["verdicts"] == task["names"] == 0
        assert task["predictable"] < 0.6, "its words tell little of the label"


@pytest.mark.parametrize("task", TASKS)
def test_each_row_has_an_opinion_and_an_argument_for_the_other_label(task: str) -> None:
    suite = Suite.named("mini7")
    own, blind = suite.load(task), suite.load(task, rationales="blind")
    texts: list[str] = []
    for before, row in zip(own.train, blind.train, strict=True):
        assert row.rationale
        ((other, against),) = row.counterfactuals
        assert other == 1 - row.label
        assert row.answer == row.label, "as the card says of all rows"
        (example,) = row.examples
        assert example.soft
        assert 0.5 < max(example.soft) < 1
        assert example.soft.index(max(example.soft)) == row.answer
        assert 20 <= len(row.rationale.split()) <= 45
        assert 15 <= len(against.split()) <= 40
        texts += [before.rationale or "", row.rationale, against]
    assert len(set(texts)) == 3 * len(own.train)
    assert len({max(row.examples[0].soft or ()) for row in blind.train}) > 5


def test_its_card_is_that_of_its_lines() -> None:
    store = RationaleStore(STORE)
    card = read_store_card(store)
    assert make_card(store) == card
    assert [recipe.label_seen for recipe in card.recipes] == [False, True]
    found = audit(Suite.named("mini7"), store=store, without_rows=True)
    assert found.label_seen is False, "counterfactuals, written with the label in sight, are not audited"
    for task in TASKS:
        shares = [line.confidence for line in store.rows(task) if line.confidence is not None]
        assert f"| {task} | 100 % | {sum(shares) / len(shares):.2f} |" in card.notes
