"""Plug-ins: folders, packages, broken ones, starting files, the walk-through."""

from __future__ import annotations

import json
import re
import site
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import dhrd, in_a_new_interpreter

import dhrd_bench as db
from dhrd_bench import plugins, registry
from dhrd_bench.commands.new import create
from dhrd_bench.conformance import run_checks

ROOT = Path(__file__).parent.parent

METHOD = """
import dhrd_bench as db

@db.register
class {cls}({base}):
    card = db.MethodCard(name="{name}", summary="s", objective="o", paper="p", inference="pooled")
"""


def method_file(folder: Path, file: str, name: str, base: str = "db.Method", cls: str = "Mine") -> Path:
    path = folder / file
    path.write_text(METHOD.format(cls=cls, base=base, name=name))
    return path


@pytest.fixture
def own_registry() -> Iterator[None]:
    """Whatever a test registers is gone after it."""
    plugins.load_all()
    with plugins.isolated():
        yield


# ---------------------------------------------------------------- folders


def test_files_of_a_folder_may_refer_to_each_other(own_registry: None, tmp_path: Path) -> None:
    method_file(tmp_path, "a_variant.py", "variant", base='db.method("middle")')
    method_file(tmp_path, "b_middle.py", "middle", base='db.method("origin")')
    method_file(tmp_path, "c_origin.py", "origin", base='db.method("dhrd")')
    plugins.include(tmp_path)
    assert not plugins.state.broken
    names = [cls.card.name for cls in registry.methods.get("variant").__mro__ if hasattr(cls, "card")]
    assert names == ["variant", "middle", "origin", "dhrd"]


def test_a_variant_of_nothing_and_a_circle_are_broken_plug_ins(own_registry: None, tmp_path: Path) -> None:
    method_file(tmp_path, "a.py", "hen", base='db.method("egg")')
    method_file(tmp_path, "b.py", "egg", base='db.method("hen")')
    method_file(tmp_path, "c.py", "typo", base='db.method("dhrdd")')
    method_file(tmp_path, "d.py", "good", base='db.method("dhrd")')
    plugins.include(tmp_path)
    assert {Path(origin).name for origin in plugins.state.broken} == {"a.py", "b.py", "c.py"}
    assert "Did you mean 'dhrd'?" in plugins.state.broken[str(tmp_path / "c.py")]
    assert "good" in registry.methods.names()


def test_two_classes_of_one_name(own_registry: None, tmp_path: Path) -> None:
    path = method_file(tmp_path, "twice.py", "twice")
    path.write_text(path.read_text() + METHOD.format(cls="Other", base="Mine", name="twice"))
    with pytest.raises(registry.NameTakenError, match=r"Mine and Other, both in .*twice.py"):
        plugins.include(tmp_path)


def test_a_variant_that_kept_the_name(own_registry: None, tmp_path: Path) -> None:
    (tmp_path / "v.py").write_text('import dhrd_bench as db\n\n@db.register\nclass V(db.method("dhrd")):\n    pass\n')
    with pytest.raises(registry.NameTakenError, match=r"called 'dhrd': .*baselines/dhrd.py and .*v.py"):
        plugins.include(tmp_path)


def test_parameters_need_defaults(own_registry: None, tmp_path: Path) -> None:
    path = method_file(tmp_path, "m.py", "needy")
    path.write_text(path.read_text() + "    class Params(db.MethodParams):\n        width: int\n")
    plugins.include(tmp_path)
    assert plugins.state.broken[str(path)] == "Method 'needy': parameter 'width' has no valid default."


def test_including_a_folder_twice_is_including_it_once(own_registry: None, tmp_path: Path) -> None:
    method_file(tmp_path, "m.py", "once")
    plugins.include(tmp_path)
    plugins.include(tmp_path / ".." / tmp_path.name)
    assert "once" in registry.methods.names()


def test_broken_plug_ins_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "name.py").write_text("import os\n\nfoo\n")
    (tmp_path / "card.py").write_text(METHOD.format(cls="C", base="db.Method", name="Bad Name"))
    (tmp_path / "_helper.py").write_text("raise RuntimeError('not a plug-in')\n")
    (tmp_path / "suite.yaml").write_text("kind: suit\n")
    method_file(tmp_path, "good.py", "good-one")
    done = dhrd("list", "methods", "--include", str(tmp_path))
    assert done.returncode == 0
    assert "good-one" in done.stdout
    assert re.search(r"not loaded .*syntax.py: SyntaxError: .*line 1", done.stdout)
    assert re.search(r"not loaded .*name.py: NameError: name 'foo' is not defined \(line 3\)", done.stdout)
    assert re.search(r"not loaded .*card.py: ValidationError: .*name.*\(line 6\)", done.stdout)
    assert re.search(r"not loaded .*suite.yaml: .*'suit'.* Did you mean 'suite'", done.stdout)
    assert "_helper" not in done.stdout
    listed = json.loads(dhrd("list", "methods", "--json", "--include", str(tmp_path)).stdout)
    assert "good-one" in [row["method"] for row in listed]
    unknown = dhrd("check", "god-one", "--include", str(tmp_path))
    assert unknown.returncode == 2
    assert "name.py" in unknown.stderr
    assert "Did you mean 'good-one'?" in unknown.stderr


def test_two_plug_ins_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        method_file(tmp_path / folder, "m.py", "same-name")
    folders = [word for folder in ("one", "two") for word in ("--include", str(tmp_path / folder))]
    done = dhrd("list", "methods", *folders)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Two methods are called 'same-name'" in done.stderr
    assert str(tmp_path / "one" / "m.py") in done.stderr
    assert str(tmp_path / "two" / "m.py") in done.stderr


# ---------------------------------------------------------------- starting files


@pytest.mark.parametrize("name", ["my-method", "none", "4bit", "x"])
def test_a_new_method_passes_the_kit_as_it_stands(name: str, own_registry: None, tmp_path: Path) -> None:
    made = create("method", name, tmp_path / "plugins")
    assert made.next_step == f"dhrd-bench check {name} --include {tmp_path / 'plugins'}"
    plugins.include(tmp_path / "plugins")
    assert not plugins.state.broken
    if name == "my-method":
        assert [(o.check, o.detail) for o in run_checks(name) if o.status != "pass"] == []
    assert registry.methods.get(name).card.name == name
    assert len(made.files[0].read_text().splitlines()) < 60
    subprocess.run([sys.executable, "-m", "ruff", "check", "--ignore", "D", made.files[0]], check=True, cwd=ROOT)


def test_a_new_suite_loads_and_runs(tmp_path: Path) -> None:
    made = dhrd("new", "suite", "my-suite", "--into", "mine", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "wrote mine/my-suite/suite.yaml" in made.stdout
    command = made.stdout.rpartition("dhrd-bench ")[2].split()
    done = dhrd(*command, "--backbone", "tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (tmp_path / "results").rglob("seed-0.json")
    assert json.loads(record.read_text())["status"] == "ok"


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("methd", "x", "Did you mean 'method'?"),
        ("method", "My Method", "small letters"),
        ("method", "a--b", "single hyphens"),
        ("method", "dhrd", "baselines/dhrd.py"),
        ("suite", "mini7", "mini7/suite.yaml"),
        ("method", "there", "exists already"),
    ],
)
def test_what_cannot_be_made(kind: str, name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "there.py").touch()
    with pytest.raises(db.UserError, match=re.escape(words)):
        create(kind, name, tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(db.UserError, match="--into"):
        create("method", "mine", tmp_path / "file" / "plugins")


# ---------------------------------------------------------------- the walk-through


def walk_through() -> str:
    """The example of docs/own-method.md."""
    text = (ROOT / "docs/own-method.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- dhrd_brief.py -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


def test_the_example_of_contributing_conforms_and_does_what_it_says(own_registry: None, tmp_path: Path) -> None:
    source = walk_through()
    assert len(source.splitlines()) < 60
    (tmp_path / "dhrd_brief.py").write_text(source)
    subprocess.run([sys.executable, "-m", "ruff", "check", "--ignore", "D102", tmp_path], check=True, cwd=ROOT)
    plugins.include(tmp_path)
    assert [(o.check, o.detail) for o in run_checks("dhrd-brief") if o.status != "pass"] == []

    class Encode:
        def reasoning(self, rationale: str) -> str:
            return rationale

    row = db.LabeledExample(db.Example("a", db.Prompt("", "", "")), 0, "One. Two! Three? Four")
    made = registry.methods.get("dhrd-brief")
    assert made().reasoning(row, Encode()) == "One."  # type: ignore[attr-defined]
    assert made(made.Params(sentences=3)).reasoning(row, Encode()) == "One. Two! Three?"  # type: ignore[attr-defined]


# ---------------------------------------------------------------- a package


PYPROJECT = """
[build-system]
requires = ["setuptools>=70"]
build-backend = "setuptools.build_meta"

[project]
name = "brief-plugin"
version = "0.1.0"

[project.entry-points."dhrd_bench.methods"]
dhrd-brief = "brief_plugin.dhrd_brief:DhrdBrief"
broken = "brief_plugin.broken:Broken"

[project.entry-points."dhrd_bench.suites"]
help-desk = "brief_plugin.help_desk"

[tool.setuptools]
packages = ["brief_plugin", "brief_plugin.help_desk"]

[tool.setuptools.package-data]
"brief_plugin.help_desk" = ["*.yaml", "*.jsonl"]
"""


@pytest.mark.slow
def test_a_third_party_package(tmp_path: Path) -> None:
    """Built, installed into a clean environment beside dhrd-bench, listed, checked and run."""
    package = tmp_path / "source" / "brief_plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "dhrd_brief.py").write_text(walk_through())
    (package / "broken.py").write_text("import a_package_that_is_not_there\n")
    (package.parent / "pyproject.toml").write_text(textwrap.dedent(PYPROJECT))
    create("suite", "help-desk", package)
    (package / "help-desk").rename(package / "help_desk")
    (package / "help_desk" / "__init__.py").touch()

    def run(*command: str | Path) -> None:
        done = subprocess.run(list(command), capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", package.parent)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean")
    python = tmp_path / "clean" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel)
    # dhrd-bench and what it needs are those of this environment; the package is the clean one's own.
    here = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    )
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages()]
    (Path(here.stdout.strip()) / "dhrd_bench_of_this_environment.pth").write_text("".join(lines))
    assert (
        "brief-plugin"
        not in subprocess.run([sys.executable, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    )

    listed = in_a_new_interpreter("list", "methods", python=str(python), cwd=tmp_path)
    assert "dhrd-brief" in listed.stdout
    assert re.search(
        r"not loaded brief-plugin:brief_plugin.broken:Broken: ModuleNotFoundError: .*not_there", listed.stdout
    )
    assert "help-desk" in in_a_new_interpreter("list", "suites", python=str(python), cwd=tmp_path).stdout
    checked = in_a_new_interpreter("check", "dhrd-brief", python=str(python), cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "none failed" in checked.stdout
    ran = in_a_new_interpreter(
        "run",
        "--suite",
        "help-desk",
        "--methods",
        "pooled,dhrd-brief",
        "--backbone",
        "tiny",
        python=str(python),
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(list((tmp_path / "results" / "help-desk").rglob("seed-0.json"))) == 2
    # A folder may not take the package's name.
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.py").write_text(walk_through())
    refused = in_a_new_interpreter("list", "methods", "--include", "folder", python=str(python), cwd=tmp_path)
    assert refused.returncode == 2
    assert "Two methods are called 'dhrd-brief'" in refused.stderr
    assert "brief_plugin/dhrd_brief.py" in refused.stderr
    assert "folder/mine.py" in refused.stderr


def test_check_on_the_command_line() -> None:
    done = dhrd("check", "majority", "--json")
    assert done.returncode == 0, done.stderr
    assert {each["status"] for each in json.loads(done.stdout)["outcomes"]} == {"pass"}
    refused = dhrd("check")
    assert refused.returncode == 2
    assert "--all" in refused.stderr
