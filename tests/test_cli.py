"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import dhrd, in_a_new_interpreter, leaves, refused
from typer.main import get_command
from typer.testing import CliRunner

from dhrd_bench import __version__
from dhrd_bench.cli import app
from dhrd_bench.commands.help import EXAMPLES
from dhrd_bench.commands.new import create
from dhrd_bench.errors import UserError

TINY = ["--backbone", "tiny", "--tasks", "rte", "--methods", "pooled"]


def test_help_is_quick_and_light() -> None:
    heavy = ("torch", "pandas", "pydantic", "transformers")
    probe = f"import sys, dhrd_bench.cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert "run" in in_a_new_interpreter("--help", COVERAGE_PROCESS_CONFIG="").stdout  # it would be timed, too
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.0  # 0.1 s on an idle machine; the bound only catches a heavy import


def test_version_and_short_help_everywhere() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"dhrd-bench {__version__}\n"
    commands = [[], *([name] for name in get_command(app).commands)]
    commands += [["rationales", "generate"], ["results", "predictions"]]
    for command in commands:
        short, long = (CliRunner().invoke(app, [*command, flag]) for flag in ("-h", "--help"))
        assert short.exit_code == 0, short.output
        assert short.output == long.output
        assert "Usage" in short.output


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == set(leaves(get_command(app)))


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_help_shows_examples_that_can_be_typed(command: str) -> None:
    """An example is shown as it is written, and its words are arguments that the command takes."""
    shown = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=120, color=False).output
    parsed = leaves(get_command(app))[command]
    for example in EXAMPLES[command]:
        for line in example.splitlines():
            assert line.strip() in shown
        program, *words = shlex.split(example.replace("\\\n", ""))
        given = words[len(command.split()) :]
        assert [program, *words] == ["dhrd-bench", *command.split(), *given]
        parsed.make_context(command, given)


def test_every_option_of_run_is_in_a_panel() -> None:
    panels = {each.name: each.rich_help_panel for each in get_command(app).commands["run"].params}
    assert panels["methods"] == panels["seeds"] == "Which cells"
    assert panels["data_dir"] == "Data and plug-ins"
    assert [name for name, panel in panels.items() if panel is None] == []


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dhrd-bench run --methods poo", {"pooled"}),
        ("dhrd-bench run --methods majority,poo", {"majority,pooled"}),
        (
            "dhrd-bench run --suite ",
            {
                "derivations",
                "derivations-deep",
                "derivations-noise",
                "derivations-short",
                "mini7",
                "superglue7",
                "votes",
            },
        ),
        ("dhrd-bench run --backbone smol", {"smollm2-135m"}),
        ("dhrd-bench run --budget la", {"laptop"}),
        ("dhrd-bench report --suite mi", {"mini7"}),
        ("dhrd-bench check maj", {"majority"}),
        ("dhrd-bench list back", {"backbones"}),
        ("dhrd-bench new su", {"suite"}),
        ("dhrd-bench run --include FOLDER --methods my-o", {"my-own"}),
        ("dhrd-bench run --include nowhere --methods poo", {"pooled"}),
    ],
)
def test_a_shell_completes_names_without_torch(tmp_path: Path, line: str, wanted: set[str]) -> None:
    create("method", "my-own", tmp_path)
    words = line.replace("FOLDER", str(tmp_path))
    code = (
        "import sys, atexit; sys.argv = ['dhrd-bench']\n"
        "atexit.register(lambda: sys.stderr.write(str('torch' in sys.modules)))\n"
        "from dhrd_bench.cli import main; main()"
    )
    asked = {"_DHRD_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | asked)
    assert set(done.stdout.split()) == wanted
    assert done.stderr == "False"


def test_completion_can_be_installed() -> None:
    done = in_a_new_interpreter(
        "--show-completion", "bash", SHELL="/bin/bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "complete -o default -F" in done.stdout
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output


@pytest.mark.parametrize("command", ["run", "power", "throughput"])
@pytest.mark.parametrize("variable", [True, False])
def test_a_wrong_data_folder_is_told_before_torch_is_loaded(tmp_path: Path, command: str, variable: bool) -> None:
    (tmp_path / "empty").mkdir()
    named = str(tmp_path / "nowhere") if variable else str(tmp_path / "empty")
    arguments = [command, "--methods", "pooled", "--suite", "superglue7", *([] if variable else ["--data-dir", named])]
    code = (
        f"import sys; sys.argv = ['dhrd-bench', *{arguments!r}]\n"
        "from dhrd_bench.cli import main\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write(f\"loaded: {'torch' in sys.modules}\")"
    )
    environment = os.environ | ({"DHRD_DATA_DIR": named} if variable else {})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert named in done.stderr
    assert done.stderr.endswith("loaded: False")


def test_a_run_says_how_it_is_reported(tmp_path: Path) -> None:
    """The very command, with the folder, for names with settings, too."""
    results = tmp_path / "my results"
    budget = "smoke[train_rows=8,dev_rows=2,test_rows=6]"
    names = ["--methods", "majority", "--suite", "mini7[prompt=paper]", "--backbone", "tiny", "--budget", budget]
    done = CliRunner().invoke(app, ["run", *names, "--tasks", "rte", "--results", str(results)])
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("Report: ")]
    words = shlex.split(line.removeprefix("Report: "))
    assert words[:4] == ["dhrd-bench", "report", "--results", str(results)]
    shown = CliRunner().invoke(app, words[1:])
    assert shown.exit_code == 0, shown.output
    assert "majority" in shown.output
    assert "Report: " not in CliRunner().invoke(app, ["run", *names, "--tasks", "rte", "--dry-run"]).output


def test_bars_are_quiet_where_nobody_looks() -> None:
    code = (
        "import sys; sys.argv = ['dhrd-bench', '--version']\n"
        "from dhrd_bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "from tqdm.auto import tqdm\n"
        "list(tqdm(range(3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""


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


def test_folders_that_are_not_named_are_the_usual_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default goes through the option's parser as well, and is a path already."""
    monkeypatch.chdir(tmp_path)
    for command in (["report"], ["results", "migrate"]):
        with pytest.raises(UserError, match="No results folder at results"):
            CliRunner().invoke(app, command, catch_exceptions=False)
