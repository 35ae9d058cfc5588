"""Which edits make another cell: of comments, docstrings, constants and helpers, on any Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dhrd_bench import plugins, registry
from dhrd_bench.grid import identity
from dhrd_bench.grid.identity import HARNESS_VERSION, method_code
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.run import run_plan
from dhrd_bench.grid.source import normal_form, read_source, source_digest
from dhrd_bench.progress import Display
from dhrd_bench.request import RunRequest

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"

METHOD = """
import dhrd_bench as db
{imports}

@db.register
class Mine(db.FineTuned):
    '{doc}'
    {comment}
    card = db.MethodCard(name="{name}", summary="s", objective="o", inference="pooled")

    def weights(self):
        return {{"cls":   {weight}}}

    def rows(self, row, encode):
        return []
"""


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    plugins.load_all()
    with plugins.isolated():
        yield


def written(folder: Path, name: str = "mine", helper: str | None = None, **parts: str) -> str:
    """Write a plug-in folder, include it and return the digest of its method's source."""
    folder.mkdir()
    words = {"imports": "", "doc": "One.", "comment": "# one", "weight": "1.0"} | parts
    (folder / f"{name}.py").write_text(METHOD.format(name=name, **words))
    if helper is not None:
        (folder / "_helper.py").write_text(helper)
    with plugins.isolated():
        plugins.include(folder)
        assert not plugins.state.broken
        return method_code(registry.methods.get(name))


# ---------------------------------------------------------------- source


def test_words_and_blank_space_do_not_count_and_code_does(tmp_path: Path) -> None:
    plain = written(tmp_path / "a")
    assert written(tmp_path / "b", doc="Another.", comment="") == plain
    assert written(tmp_path / "c", weight="(1.0)") != plain
    assert written(tmp_path / "d", weight="2.0") != plain


def test_a_helper_module_counts_and_another_method_of_the_folder_does_not(tmp_path: Path) -> None:
    imports = "from ._helper import FACTOR"
    plain = written(tmp_path / "a", helper="FACTOR = 1  # one\n", imports=imports)
    assert written(tmp_path / "b", helper="FACTOR = 1\n", imports=imports) == plain
    assert written(tmp_path / "c", helper="FACTOR = 2\n", imports=imports) != plain
    beside = tmp_path / "d"
    beside.mkdir()
    (beside / "other.py").write_text(METHOD.format(name="other", imports="", doc="", comment="", weight="3.0"))
    (beside / "mine.py").write_text(METHOD.format(name="mine", imports=imports, doc="", comment="", weight="1.0"))
    (beside / "_helper.py").write_text("FACTOR = 1\n")
    plugins.include(beside)
    assert method_code(registry.methods.get("mine")) == plain


def test_another_method_counts_if_it_is_imported(tmp_path: Path) -> None:
    digests = set()
    for weight in ("3.0", "4.0"):
        folder = tmp_path / weight
        folder.mkdir()
        (folder / "a_other.py").write_text(METHOD.format(name="other", imports="", doc="", comment="", weight=weight))
        imports = "from .a_other import Mine as Base"
        (folder / "mine.py").write_text(METHOD.format(name="mine", imports=imports, doc="", comment="", weight="1.0"))
        with plugins.isolated():
            plugins.include(folder)
            digests.add(method_code(registry.methods.get("mine")))
    assert len(digests) == 2


def test_the_whole_package_of_an_installed_method_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for number, constant in enumerate((1, 1, 2)):
        package = tmp_path / str(number) / f"package_{number}"
        (package / "deep").mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "deep" / "__init__.py").write_text("")
        (package / "deep" / "helper.py").write_text(f"CONSTANT = {constant}\n")
        words = {"imports": "", "doc": "", "comment": "", "weight": "1.0"}
        (package / "method.py").write_text(METHOD.format(name="packaged", **words))
        monkeypatch.syspath_prepend(str(package.parent))
        module = __import__(f"package_{number}.method", fromlist=["Mine"])
        digests.append(method_code(module.Mine))
        del registry.methods.entries["packaged"]
    assert digests[0] == digests[1] != digests[2]


def test_bases_of_the_standard_library_do_not_count_and_those_of_a_library_by_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {written(tmp_path / "a")}
    read: list[Path] = []

    def watched(path: Path) -> str:
        read.append(path)
        return read_source(path)

    monkeypatch.setattr(identity, "read_source", watched)
    for name, imports, base in (
        ("b", "import contextlib", "contextlib.AbstractContextManager"),
        ("c", "import jinja2", "jinja2.BaseLoader"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        source = METHOD.format(name="mine", imports=imports, doc="", comment="", weight="1.0")
        (folder / "mine.py").write_text(source.replace("(db.FineTuned)", f"(db.FineTuned, {base})"))
        with plugins.isolated():
            plugins.include(folder)
            read.clear()
            digests.add(method_code(registry.methods.get("mine")))
        assert {path.name for path in read} == ({"mine.py"} if name == "b" else {"mine.py", "loaders.py"})
    assert len(digests) == 3


SAMPLE = '''
class C:
    "doc é" "two"
    def f(self, a):
        """doc"""  # comment
        x = f"a{a!r:>{10}} {f'n{a}'} # no comment" f'{a}'
        y = rf"""multi {a
        }
        line {{x}}"""  # comment
        é = 1; return (x,
           y)   \\
           , é
'''
SAMPLE_DIGEST = "be282cf934a243d7"


def test_formatted_strings_are_one_token_and_comments_in_strings_stay() -> None:
    normal = normal_form(SAMPLE)
    assert """f"a{a!r:>{10}} {f'n{a}'} # no comment" f'{a}'""" in normal
    assert "doc" not in normal
    assert normal.count("comment") == 1
    assert normal.endswith("return ( x , y ) , é \n \x0f \x0f")


@given(st.text(alphabet=" \t", max_size=3), st.text(alphabet="abc é#'", max_size=8), st.integers(0, 3))
def test_comments_and_blank_lines_change_nothing(blank: str, words: str, lines: int) -> None:
    plain = "def f(a):\n    b = a + 1\n    return b\n"
    noisy = f"# {words}\ndef f( a ):{blank}# {words}\n" + f"{blank}\n" * lines + "    b = a  + 1\n\n    return b"
    assert source_digest([noisy]) == source_digest([plain])
    assert source_digest([plain.replace("1", "2")]) != source_digest([plain])


# ---------------------------------------------------------------- golden values


def test_the_built_in_methods_have_the_digests_on_file() -> None:
    """A changed digest voids the records of its method: if that is meant, write the file anew.

    PYTHONPATH=tests python -c "import test_identity; test_identity.write_golden()"
    """
    assert digests() == json.loads((GOLDEN / "method_code.json").read_text())


def digests() -> dict[str, str]:
    builtin = plugins.builtin_folder("baselines")
    classes = [registry.methods.get(name) for name in registry.methods]
    return {
        cls.card.name: method_code(cls)
        for cls in classes
        if Path(registry.methods.entry(cls.card.name).origin).parent == builtin
    }


def write_golden() -> None:
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "method_code.json").write_text(json.dumps(digests(), indent=2) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        (GOLDEN / "outcome.json").write_text(json.dumps(outcome(Path(folder)), indent=1) + "\n")


def interpreters() -> list[str]:
    """Other minor versions of Python that are installed."""
    names = [f"python3.{minor}" for minor in range(11, 16) if minor != sys.version_info.minor]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [*map(shutil.which, names), *(str(path) for path in pyenv.glob("3.1[1-9]*/bin/python"))]
    working: dict[str, str] = {}
    for place in filter(None, places):
        done = subprocess.run([place, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True)
        if done.returncode == 0 and int(done.stdout) != sys.version_info.minor:
            working.setdefault(done.stdout, place)
    return list(working.values())


PROBE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("source", sys.argv[1])
source = importlib.util.module_from_spec(spec)
spec.loader.exec_module(source)
texts = [source.read_source(path) for path in sys.argv[2:]]
print(json.dumps([source.source_digest([text]) for text in texts]))
"""


@pytest.mark.interpreters
def test_every_interpreter_gives_the_same_digests(tmp_path: Path) -> None:
    """On this one, and on every other that is installed, those that were written down on 3.11."""
    others = interpreters()
    (tmp_path / "sample.py").write_text(SAMPLE, encoding="utf-8")
    files = [
        tmp_path / "sample.py",
        *(path for room in ("baselines", "dhrd_bench") for path in ROOT.glob(f"{room}/**/*.py")),
    ]
    command = ["-c", PROBE, str(ROOT / "dhrd_bench" / "grid" / "source.py"), *map(str, sorted(files))]
    outcomes = {
        place: subprocess.run([place, *command], capture_output=True, text=True, check=True).stdout
        for place in (sys.executable, *others)
    }
    assert len(json.loads(outcomes[sys.executable])) == len(files) > 100
    assert len(set(outcomes.values())) == 1
    assert json.loads(outcomes[sys.executable])[sorted(files).index(tmp_path / "sample.py")] == SAMPLE_DIGEST


def outcome(results: Path) -> dict[str, object]:
    """Scores of a tiny run, by method: what `HARNESS_VERSION` stands for."""
    request = RunRequest(
        methods=("pooled", "dhrd", "label-lm", "cot"), tasks=("RTE",), backbone="tiny[dtype=float32,device=cpu]",
        seeds=(0,), budget="smoke[train_rows=8,dev_rows=3,test_rows=6,epochs=1,tuning=top:1,max_length=64,"
        "decoding={max_new_tokens: 6}]", results=results,
    )  # fmt: skip
    plan = make_plan(request)
    records = run_plan(plan, Display(Console(quiet=True), len(plan.cells)))
    scores = {record.cell.method: record.rows and record.rows.score for record in records}
    return {"harness": HARNESS_VERSION, "scores": scores}


def test_the_outcome_of_a_tiny_run_stands_for_the_harness_version(tmp_path: Path) -> None:
    """If this fails, training, inference or splitting has changed what comes out: raise `HARNESS_VERSION`,

    say so in the changelog, and write the golden file anew (see above). The last needs no new version if an optional
    part of the identity, as `tokens`, already tells the cells whose outcome has changed.
    """
    golden, now = json.loads((GOLDEN / "outcome.json").read_text()), outcome(tmp_path)
    assert now["harness"] == golden["harness"], "HARNESS_VERSION has moved: write the golden file anew"
    scores = now["scores"]
    assert isinstance(scores, dict)
    assert scores.keys() == golden["scores"].keys()
    for method, rows in golden["scores"].items():
        for row, expected in zip(scores[method], rows, strict=True):
            assert row == pytest.approx(expected, abs=1e-4, rel=1e-4), method


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"methods": "dhrd[alpha=0.5]"}, {"methods": "DHRD[alpha=0.50]"}),
        ({"methods": "dhrd"}, {"methods": "dhrd[alpha=1]"}),
        ({"methods": "dhrd[beta=2]"}, {"methods": "dhrd[beta=2.0, alpha=1.0]"}),
        ({"budget": "smoke"}, {"budget": "Smoke[epochs=3]"}),
        ({"budget": "smoke[decoding={temperature: 1}]"}, {"budget": "smoke[decoding={temperature: 1.0}]"}),
        ({"suite": "mini7"}, {"suite": "mini7[prompt=native]"}),
        ({"suite": "mini7[prompt=paper]"}, {"suite": "MINI7", "prompt": "paper"}),
        ({"backbone": "tiny"}, {"backbone": "Tiny[device=auto]"}),
        ({"tasks": "rte,copa"}, {"tasks": " RTE, COPA,"}),
        ({"seeds": "2"}, {"seeds": "0-1"}),
    ],
)
def test_two_spellings_are_one_cell(one: dict[str, str], other: dict[str, str], tmp_path: Path) -> None:
    plans = []
    for changes in (one, other):
        wanted = {"methods": "pooled", "tasks": "rte", "backbone": "tiny", "seeds": "0"} | changes
        plans.append(make_plan(RunRequest(results=tmp_path, **wanted)))
    assert [(cell.identity, cell.cell) for cell in plans[0].cells] == [(c.identity, c.cell) for c in plans[1].cells]
    assert plans[0].request == plans[1].request
