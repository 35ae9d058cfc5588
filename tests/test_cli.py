"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = ["--backbone", "tiny", "--tasks", "rte", "--methods", "pooled"]


def dhrd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dhrd_bench.cli", *arguments]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"} | environment
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear line, exit code 2, no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    for word in words:
        assert word in line


def test_help_is_quick_and_light() -> None:
    heavy = ("torch", "pandas", "pydantic", "transformers")
    probe = f"import sys, dhrd_bench.cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert "run" in dhrd("--help").stdout
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.0  # 0.1 s on an idle machine; the bound only catches a heavy import


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "poled"], ["poled", "pooled"]),
        (["--suite", "superglu7"], ["superglu7", "superglue7"]),
        (["--tasks", "copas"], ["copas", "COPA"]),
        (["--tasks", ""], ["No task"]),
        (["--budget", "smok"], ["smok", "smoke"]),
        (["--budget", "smoke[epoch=1]"], ["epoch", "epochs"]),
        (["--budget", "smoke[epochs=none]"], ["epochs"]),
        (["--backbone", "smollm"], ["smollm", "smollm2-135m"]),
        (["--backbone", "tiny[engine=vlm]"], ["vlm", "vllm"]),
        (["--throughput", "offlin"], ["offlin", "offline"]),
        (["--methods", ""], ["No method"]),
        (["--methods", "dhrd[alpha=x]"], ["alpha"]),
        (["--seeds", "one"], ["seeds"]),
        (["--data-dir", "/nowhere/at/all", "--suite", "superglue7"], ["/nowhere/at/all"]),
        (["--include", "/nowhere/at/all"], ["/nowhere/at/all"]),
        (["--data-dir", ""], ["empty name"]),
        (["--cell-timeout", "soon"], ["soon", "30m"]),
        (["--isolation", "proces"], ["proces", "process"]),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    named = {arguments[i] for i in range(0, len(arguments), 2)}
    rest = [part for i in range(0, len(TINY), 2) if TINY[i] not in named for part in TINY[i : i + 2]]
    refused(dhrd("run", *rest, *arguments, "--results", str(tmp_path)), *words)


def test_a_results_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(dhrd("run", *TINY, "--results", str(tmp_path / "file" / "results")), "not writable")


@pytest.mark.parametrize("command", [["run", *TINY], ["report"]])
def test_a_results_folder_without_a_name_is_not_the_working_folder(command: list[str], tmp_path: Path) -> None:
    refused(dhrd(*command, "--results", ""), "empty name", "'.'")
    (tmp_path / "run.yaml").write_text("methods: pooled\nresults: ''\n")
    refused(dhrd("run", "--config", str(tmp_path / "run.yaml")), "empty name")


@pytest.mark.parametrize("command", ["report", "power", "throughput"])
def test_a_margin_below_nothing_is_refused(command: str) -> None:
    where = ["--results", str(Path(__file__).parent.parent / "results")] if command == "report" else TINY
    refused(dhrd(command, *where, "--margin", "-5"), "margin of -5")


def test_a_malformed_row_is_named_with_its_line(tmp_path: Path) -> None:
    source = Path(__file__).parent.parent / "suites" / "mini7" / "RTE"
    folder = tmp_path / "mini7" / "RTE"
    folder.mkdir(parents=True)
    for name in ("train", "val"):
        (folder / f"{name}.jsonl").write_text((source / f"{name}.jsonl").read_text())
    lines = (folder / "val.jsonl").read_text().splitlines()
    row = json.loads(lines[4])
    lines[4] = json.dumps(row | {"label": "perhaps"})
    (folder / "val.jsonl").write_text("\n".join(lines))
    refused(dhrd("run", *TINY, "--data-dir", str(tmp_path), "--results", str(tmp_path / "r")), "val.jsonl:5", "perhaps")


def test_run_then_report_then_again(tmp_path: Path) -> None:
    results = str(tmp_path / "results")
    arguments = ["run", "--methods", "pooled,dhrd,cot", "--backbone", "tiny", "--tasks", "rte", "--results", results]
    plan = dhrd(*arguments, "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "3 of 3 cells to run" in plan.stdout
    assert not Path(results).exists()
    first = dhrd(*arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("examples/s") == 3
    assert "\x1b" not in first.stdout, "plain lines when not a terminal"
    assert "3 have a record, 0 to run" in dhrd(*arguments).stdout
    shown = dhrd("report", "--results", results)
    assert shown.returncode == 0, shown.stderr
    for name in ("pooled", "dhrd", "cot"):
        assert name in shown.stdout
    table = json.loads(dhrd("report", "--results", results, "--format", "json").stdout)
    assert table
    markdown = tmp_path / "LEADERBOARD.md"
    assert dhrd("report", "--results", results, "--format", "markdown", "--output", str(markdown)).returncode == 0
    assert "dhrd-bench report" in markdown.read_text(), "the command stands beside the numbers"


def test_a_broken_record_is_named_and_the_others_are_reported(tmp_path: Path) -> None:
    results = tmp_path / "results"
    dhrd("run", "--methods", "pooled,dhrd", "--backbone", "tiny", "--tasks", "rte", "--results", str(results))
    (record,) = results.rglob("dhrd/RTE/seed-0.json")
    broken = json.loads(record.read_text())
    del broken["cell"]
    record.write_text(json.dumps(broken))
    shown = dhrd("report", "--results", str(results))
    assert "Traceback" not in shown.stderr
    assert shown.returncode == 2
    assert "seed-0.json" in shown.stderr
    assert "cell" in shown.stderr
    assert "pooled" in shown.stdout


def test_report_without_results(tmp_path: Path) -> None:
    refused(dhrd("report", "--results", str(tmp_path / "none")), "none")
    refused(dhrd("report", "--results", str(tmp_path)), "no records")


LISTED = {
    "methods": "pooled", "suites": "superglue7", "tasks": "MultiRC", "budgets": "paper", "backbones": "tiny",
}  # fmt: skip


def test_list(tmp_path: Path) -> None:
    for kind, word in LISTED.items():
        assert word in dhrd("list", kind).stdout
        assert word in json.dumps(json.loads(dhrd("list", kind, "--json").stdout))
    refused(dhrd("list", "method"), "methods")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    shown = dhrd("list", "--include", str(tmp_path))
    assert "broken.py" in shown.stdout
    assert "pooled" in shown.stdout


def test_doctor() -> None:
    shown = dhrd("doctor", "--json")
    found = json.loads(shown.stdout)
    assert found["matmul_gflops"]["float32"] > 0
    assert {row["suite"]: row["source"] for row in found["suites"]}["mini7"] == "embedded"
    assert "smollm2-135m" in dhrd("doctor").stdout
