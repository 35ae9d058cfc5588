"""What surrounds the package: workflows, forms, the citation, the demo."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import dhrd, leaves
from typer.main import get_command

from dhrd_bench import __version__
from dhrd_bench.cli import app
from dhrd_bench.commands.demo import command_line, demo_requests
from dhrd_bench.request import RunRequest

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
FILES = sorted([*GITHUB.rglob("*.yml"), ROOT / "CITATION.cff"])
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
FORMS = sorted(set(GITHUB.glob("ISSUE_TEMPLATE/*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"})
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def named(paths: list[Path]) -> Any:
    return pytest.mark.parametrize("path", paths, ids=[path.relative_to(ROOT).as_posix() for path in paths])


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in read(path)["jobs"].values():
        yield from job["steps"]


def check_command_line(words: list[str]) -> None:
    """Fail if `words`, the first ones of a line of a script, call something that this project lacks."""
    program, *said = words
    if program == "make":
        targets = [word for word in said if "=" not in word]
        settings = [word.partition("=")[0] for word in said if "=" in word]
        assert targets
        assert all(re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE) for target in targets), words
        assert all(re.search(rf"^{re.escape(name)} \?=", MAKEFILE, re.MULTILINE) for name in settings), words
    elif program == "dhrd-bench":
        commands = leaves(get_command(app))
        name = next((each for each in (" ".join(said[:2]), said[0]) if each in commands), None)
        assert name is not None, words
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in said if word.startswith("--")} <= options, words
    elif program.startswith((".ci/", "./")):
        assert (ROOT / program).stat().st_mode & 0o100, words


def command_lines(script: str) -> Iterator[list[str]]:
    """Yield the calls of this project's own programs in a shell script, up to what the shell itself reads."""
    for line in script.splitlines():
        spoken = re.split(r"(?:^|\s)#", line)[0].replace('"', " ").replace("$", "")
        for found in re.finditer(r"(?:^|[\s(/])((?:make|dhrd-bench)\s[^|;&<>)]*|\.ci/\S+)", spoken):
            yield shlex.split(found[1])


@named(FILES)
def test_a_file_of_the_repository_is_yaml(path: Path) -> None:
    assert isinstance(read(path), dict)


@named(WORKFLOWS)
def test_a_workflow_calls_what_is_there(path: Path) -> None:
    calls = [words for step in steps(path) for words in command_lines(step.get("run", ""))]
    assert calls
    for words in calls:
        check_command_line(words)
    for step in steps(path):
        for name in re.findall(r"[\w/.-]+\.(?:toml|txt)\b", " ".join(map(str, step.get("with", {}).values()))):
            assert (ROOT / name).is_file(), name


def test_the_script_of_a_clean_clone_calls_what_is_there() -> None:
    calls = list(command_lines((ROOT / ".ci/run").read_text(encoding="utf-8")))
    assert {"make", "dhrd-bench"} <= {words[0] for words in calls}
    for words in calls:
        check_command_line(words)


@pytest.mark.parametrize(
    "script", ["make tset", "make test CONSTRAINT=x", "dhrd-bench reprot", "dhrd-bench report --form html", ".ci/walk"]
)
def test_what_is_not_there_is_noticed(script: str) -> None:
    with pytest.raises((AssertionError, FileNotFoundError)):
        check_command_line(next(command_lines(script)))


@named(WORKFLOWS)
def test_a_workflow_may_read_and_no_more(path: Path) -> None:
    """One job asks for a token of its own, to publish; it runs no line of the project. Nothing has a secret."""
    assert read(path)["permissions"] == {"contents": "read"}
    assert "secrets." not in path.read_text(encoding="utf-8")
    for name, job in read(path)["jobs"].items():
        assert job.get("permissions", {}) in ({}, {"id-token": "write"}), name
        assert job["timeout-minutes"], name
        if "permissions" in job:
            assert not any("run" in step or "checkout" in step["uses"] for step in job["steps"]), name


@named(WORKFLOWS)
def test_actions_are_pinned_by_version(path: Path) -> None:
    for action in (step["uses"] for step in steps(path) if "uses" in step):
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", action), action


def test_every_version_of_python_that_is_promised_is_tested() -> None:
    prefix = "Programming Language :: Python :: "
    promised = {each.removeprefix(prefix) for each in PROJECT["classifiers"] if each.startswith(prefix + "3.")}
    matrix = read(GITHUB / "workflows/ci.yml")["jobs"]["clean-clone"]["strategy"]["matrix"]
    assert promised <= set(matrix["python"])
    assert PROJECT["requires-python"] == f">={min(promised, key=lambda version: int(version[2:]))}"


@named(FORMS)
def test_a_form_asks_for_what_it_can_get(path: Path) -> None:
    """Forms that GitHub does not understand are left out of its list without a word."""
    form = read(path)
    assert form.keys() == {"name", "description", "labels", "body"}
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["type"] in ("input", "textarea", "dropdown") for field in asked)
    assert all(field["attributes"]["label"] for field in asked)
    assert all(field["attributes"].get("options", ["one"]) for field in asked if field["type"] == "dropdown")
    assert len({field["id"] for field in asked}) == len(asked)
    for text in re.findall(r"`(dhrd-bench [^`]*)`", path.read_text(encoding="utf-8")):
        if not text.startswith("dhrd-bench --"):
            check_command_line(shlex.split(text))


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


def test_what_the_demo_leaves_is_ignored() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    (made,) = re.findall(r"dhrd-bench demo --results \$\(RESULTS\)/(\S+)", MAKEFILE)
    places = [f"results/{made}", "dhrd-bench-demo"]  # of `make demo`, and of the command if it is told no other
    left = [f"{place}/mini7/tiny/smoke/pooled/RTE/seed-0.json" for place in places]
    done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == left


@pytest.mark.parametrize(("backbone", "results"), [(None, "a"), ("tiny", "b c/d'e"), ("tiny[dtype=float32]", "f")])
def test_the_demo_says_which_command_does_the_same(backbone: str | None, results: str) -> None:
    for request in demo_requests(Path(results), backbone):
        _, _, *words = shlex.split(command_line(request))
        options = leaves(get_command(app))["run"].make_context("run", words).params
        told = {name: value for name, value in options.items() if name in RunRequest.model_fields}
        assert RunRequest(**{name: value for name, value in told.items() if value not in (None, False)}) == request
        assert request.backbone == (backbone or "smollm2-135m")


@pytest.mark.slow
def test_the_demo_works_in_an_empty_folder(tmp_path: Path) -> None:
    """It makes its records, goes on from them, and says which commands do the same."""
    before = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    first = dhrd("demo", "--backbone", "tiny", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["dhrd-bench-demo"]
    assert first.stdout.count("6 to run") == 2
    *ran, report = re.findall(r"^dhrd-bench (?:run|report) .*", first.stdout, re.M)[:3]
    rest = first.stdout.split(report, 1)[1]
    assert rest.count("Leaderboard") == 2
    assert rest.rindex("Leaderboard") < rest.index("Next:") < rest.index("dhrd-bench new method")
    for line in ran:
        assert "6 cells: 6 have a record, 0 to run." in dhrd(*shlex.split(line)[1:], cwd=tmp_path).stdout
    assert dhrd(*shlex.split(report)[1:], cwd=tmp_path).returncode == 0
    after = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert after.stdout == before.stdout
