"""The commands, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from teacher_server import Act, serve
from typer.testing import CliRunner, Result

from dhrd_bench.commands.rationales import app
from dhrd_bench.data.rationales import RationaleStore
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


GENERATE = ("generate", "--suite", "mini7", "--task", "rte", "--teacher", "openai:m", "--limit", "6")


def numbered(number: int, user: str) -> Act:
    return Act(text=f"Reason {number} is that sentence {number * 7} leaves one way only. [END OF REASONING] No")


def test_generate_twice_then_train_on_it(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with serve(numbered) as server:
        options = (*GENERATE, "--base-url", server.url, "--output", store)
        first = call(*options)
        second = call(*options)
        assert len(server.requests) == 6
        more = call(*options, "--limit", "8")
        assert len(server.requests) == 8
    assert "RTE: 6 written, 0 already there" in first.output
    assert "tokens: 600 in, 120 out" in first.output
    assert "RTE: 0 written, 6 already there" in second.output
    assert "RTE: 2 written, 6 already there" in more.output
    assert sorted(path.name for path in store.iterdir() if path.name[0] != ".") == [
        "README.md",
        "RTE.jsonl",
        "card.yaml",
    ]

    suite = Suite.named("mini7")
    own, loaded = suite.load("rte"), suite.load("rte", rationales=store)
    assert loaded.rationale_coverage == pytest.approx(8 / 120)
    assert {row.rationale[:6] for row in loaded.train if row.rationale} == {"Reason"}
    assert loaded.rationale_fingerprint != own.rationale_fingerprint
    assert loaded.fingerprint == own.fingerprint
    with pytest.raises(UserError, match="CB"):
        suite.load("cb", rationales=store)

    shown = call("show", "--rationales", store, "--limit", "2")
    assert "openai:m" in shown.output
    assert shown.output.count("label not_entailment") + shown.output.count("label entailment") == 2

    pinned = f"{store}@{RationaleStore(store).fingerprint()[:16]}"
    assert "RTE: 8 rationales for 8 rows" in call("merge", pinned, "--output", tmp_path / "merged").output


def test_dry_run_sends_nothing(tmp_path: Path) -> None:
    with serve() as server:
        shown = call(*GENERATE, "--base-url", server.url, "--output", tmp_path, "--dry-run", "--prompt", "blind")
        assert server.requests == []
    assert "6 of 6 rows" in shown.output
    assert "Possible answers:" in shown.output
    assert not list(tmp_path.iterdir())


def test_a_dry_run_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "6 of 6 rows" in call(*GENERATE, "--output", tmp_path, "--dry-run").output
    with pytest.raises(UserError, match="No key in the environment variable OPENAI_API_KEY"):
        call(*GENERATE, "--output", tmp_path)
    assert not list(tmp_path.iterdir())


def test_budget_and_settings_file(tmp_path: Path) -> None:
    settings = tmp_path / "teacher.yaml"
    settings.write_text("prices: {m: {input: 1000, output: 5000, currency: EUR}}\nrequest: {temperature: 0.3}\n")
    with serve(numbered) as server:
        options = (*GENERATE, "--base-url", server.url, "--output", tmp_path / "store", "--settings", settings)
        stopped = call(*options, "--max-requests", "4", code=1)
        call(*options)
    assert "stopped: the budget of 4 requests is spent" in stopped.output
    assert "0.8000 EUR" in stopped.output
    assert all(request["temperature"] == 0.3 for request in server.requests)
    assert "1.2000 EUR" in (tmp_path / "store" / "README.md").read_text()


def test_blind_reports_its_acceptance_rate(tmp_path: Path) -> None:
    with serve(numbered) as server:
        options = ("--base-url", server.url, "--output", tmp_path, "--prompt", "blind")
        output = call(*GENERATE, *options, "--limit", "20").output
    assert "of the replies gave the gold label" in output
    rows = RationaleStore(tmp_path).rows("RTE")
    assert {(row.label, row.rejected) for row in rows} == {("not_entailment", None), ("entailment", "other label")}


def test_audit_prints_tables_or_json_and_its_exit_code_tells(tmp_path: Path) -> None:
    output = tmp_path / "audit.json"
    text = call("audit", "--suite", "mini7", "--task", "rte,wsc", "--output", output).output
    assert "audit passed" in text
    assert [task["task"] for task in json.loads(output.read_text())["tasks"]] == ["RTE", "WSC"]

    store = tmp_path / "store"
    with serve() as server:  # the same text for every row
        call(*GENERATE, "--base-url", server.url, "--output", store)
    failed = call("audit", "--suite", "mini7", "--rationales", store, "--json", code=1)
    problems = json.loads(failed.stdout)["tasks"][0]["problems"]
    assert "5 of 6 rationales repeat another row's." in [problem["message"] for problem in problems]
    call("audit", "--suite", "mini7", "--rationales", store, "--max-duplicates", "1")


def test_show_a_suites_own() -> None:
    output = call("show", "--suite", "mini7", "--task", "rte", "--id", "0").output
    assert "The second tank had the faster growth" in output
    assert "Fingerprint" in call("show", "--suite", "superglue7", "--limit", "0").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audit", "--suite", "mini8"), "mini7"),
        (("audit", "--suite", "mini7", "--task", "rtee"), "RTE"),
        (("audit", "--suite", "mini7", "--rationales", "/nowhere"), "No rationale store at /nowhere"),
        (("generate", "--suite", "mini7", "--teacher", "openai:m", "--base-url", "localhost:1"), "Write it as http://"),
        (("show",), "Name --rationales or --suite"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(*arguments)


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
from dhrd_bench.commands.rationales import app
try: app(["generate", "--help"])
except SystemExit: pass
heavy = {"torch", "transformers", "sklearn", "openai", "datasketch", "numpy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
