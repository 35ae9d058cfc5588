"""The structure of the package: floors, circles, what loads what."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
LIMIT_LINES, LIMIT_PARAMETERS = 60, 10


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    # Imports for the type checker count as well: who reads a file has to read what it names.
    return grimp.build_graph("dhrd_bench", cache_dir=None)


def test_no_files_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises with the circle, if there is one
    assert graph.nominate_cycle_breakers("dhrd_bench") == set()  # nor do rooms


def test_every_room_stands_on_its_floor() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import dhrd_bench as db; print(db.analyse(db.load_results('results')))",
        "import dhrd_bench as db; db.RunRequest(methods='pooled')",
        "from dhrd_bench import registry; registry.methods.get('dhrd').card; registry.budgets.get('laptop')",
    ],
)
def test_what_needs_no_torch_loads_none(code: str) -> None:
    heavy = "[name for name in ('torch', 'transformers', 'datasets', 'peft') if name in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; sys.exit(str({heavy}) if {heavy} else 0)"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def functions() -> list[tuple[str, ast.FunctionDef]]:
    # The command line declares options: there a parameter is a line of help.
    files = [
        path for path in (ROOT / "dhrd_bench").rglob("*.py") if path.parent.name != "commands" and path.name != "cli.py"
    ]
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node)
        for path in sorted(files)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]


def test_functions_are_short_and_take_few_parameters() -> None:
    long, wide = [], []
    for name, node in functions():
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = [each for each in every if each.arg not in ("self", "cls")]
        if lines > LIMIT_LINES:
            long.append(f"{name}: {lines} lines")
        if len(parameters) > LIMIT_PARAMETERS:
            wide.append(f"{name}: {len(parameters)} parameters")
    assert not long
    assert not wide


def test_no_test_module_imports_another() -> None:
    """What several need lies in a module without tests, so that each can be run, moved and read by itself."""
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[-1].startswith("test_")], path.name
