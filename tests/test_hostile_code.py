"""What lies about is not run, what is named does not lead out of its folder, and records ask for nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import fakes
import pytest
import yaml
from readers import SUITE

from dhrd_bench import plugins
from dhrd_bench.backbones.fingerprint import damaged_files
from dhrd_bench.contracts import BackboneCard, Gguf
from dhrd_bench.data.cards import FilesCard, HubCard, RationaleCard, SuiteCard
from dhrd_bench.data.files import read_records
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.rerun import plan_again
from dhrd_bench.plugins import PACKAGE
from dhrd_bench.registry import backbones
from dhrd_bench.request import Options, RunRequest
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.predictions import read_texts
from dhrd_bench.results.store import find, record_path, write_record
from dhrd_bench.results.store import read_records as read_results
from dhrd_bench.results.timed import read_timed, timed_path

ROWS = [{"message": f"message {number}", "label": ("no", "yes")[number % 2]} for number in range(8)]
TRAP = "import pathlib\npathlib.Path({!r}).write_text('run')\n"

# ---------------------------------------------------------------- the package's own code


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of the package's syntax trees, and where it stands."""
    files = [(path.relative_to(PACKAGE), path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    return [
        (f"{name}:{getattr(node, 'lineno', 0)}", node) for name, text in files for node in ast.walk(ast.parse(text))
    ]


def calls() -> list[tuple[str, str, ast.Call]]:
    """Every call in the package: where, of what (dotted as written), and the call."""
    return [(place, dotted(node.func), node) for place, node in nodes() if isinstance(node, ast.Call)]


def dotted(node: ast.AST) -> str:
    """A name as it is written; nothing for what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_no_text_is_run_unpickled_or_handed_to_a_shell() -> None:
    banned = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.full_load"}
    banned |= {"yaml.unsafe_load", "yaml.load_all", "yaml.unsafe_load_all", "np.load", "pd.read_pickle", "joblib.load"}
    found = []
    for place, name, call in calls():
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        true = {arg for arg, value in given.items() if not (isinstance(value, ast.Constant) and value.value is False)}
        last = name.rpartition(".")[2]
        if name in banned or (last == "load" and name.startswith("torch.") and "weights_only" not in true):
            found.append(f"{place}: {name}")
        if "shell" in true or (last in ("extractall", "extract") and "filter" not in given) or "allow_pickle" in true:
            found.append(f"{place}: {name} with {sorted(filter(None, true))}")
    assert not found
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "code", "pty"}
    for place, node in nodes():
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & modules, place


def test_code_of_the_hub_is_run_where_a_card_says_so_and_nowhere_else() -> None:
    values = [
        ast.unparse(value.value)
        for _, _, call in calls()
        for value in call.keywords
        if value.arg == "trust_remote_code"
    ]
    assert set(values) <= {"self.backbone.card.trust_remote_code"}
    spelt = [node for _, node in nodes() if isinstance(node, ast.Dict) for key in node.keys if _says(key)]
    assert {ast.unparse(each) for each in spelt} == {
        "{'trust_remote_code': card.trust_remote_code}",
        "{'local_files_only': True, 'trust_remote_code': False}",
    }


def _says(key: ast.expr | None) -> bool:
    return isinstance(key, ast.Constant) and key.value == "trust_remote_code"


# ---------------------------------------------------------------- files that lie about


def test_a_suite_in_an_included_folder_brings_no_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies right in the folder is asked for; what lies in a suite's folder or the working folder is not."""
    ran = tmp_path / "ran"
    for place in ("include/strange", "results", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "trap.py").write_text(TRAP.format(str(ran)))
    (tmp_path / "include/strange/suite.yaml").write_text(SUITE)
    for split in ("train", "test"):
        (tmp_path / f"include/strange/{split}.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    fakes.write(tmp_path / "results", fakes.records(seeds=(0,)))
    monkeypatch.chdir(tmp_path)
    plugins.load_all()
    with plugins.isolated():
        plugins.include(tmp_path / "include")
        Suite.named("strange").load("calls", data_dir=tmp_path / "include" / "strange")
        assert len(load_results(tmp_path / "results").cells)
        assert not ran.exists()
        (tmp_path / "include" / "trap.py").write_text(TRAP.format(str(ran)))
    with plugins.isolated():
        plugins.include(tmp_path / "include")
    assert ran.exists(), "the trap works"


@pytest.mark.slow
def test_no_python_file_is_run_that_was_not_asked_for(tmp_path: Path) -> None:
    """By the command line, from a working folder full of traps with names that Python or the program may look for."""
    ran = tmp_path / "ran"
    names = ("yaml", "sitecustomize", "conftest", "plugin", "rouge", "dhrd_bench_plugin", "datasets_local", "suite")
    places = [tmp_path, *(tmp_path / name for name in ("results", "data", "plugins", "include/strange", "rationales"))]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            (place / f"{name}.py").write_text(TRAP.format(str(ran)))
    (tmp_path / "include/strange/suite.yaml").write_text(SUITE)
    for split in ("train", "test"):
        (tmp_path / f"include/strange/{split}.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    fakes.write(tmp_path / "results", fakes.records(seeds=(0,)))
    program = str(Path(sys.executable).with_name("dhrd-bench"))
    environment = os.environ | {"DHRD_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(PACKAGE.parent)}
    for arguments in (
        ["list", "suites", "--include", "include"],
        [
            "run",
            "--include",
            "include",
            "--suite",
            "strange",
            "--methods",
            "majority",
            "--backbone",
            "tiny",
            "--dry-run",
        ],
        ["report", "--results", "results", "--resamples", "100"],
    ):
        done = subprocess.run([program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not ran.exists(), arguments


# ---------------------------------------------------------------- what cards and records may ask for


@pytest.mark.parametrize(
    "path",
    ["../x.jsonl", "a/../../x.jsonl", "/etc/x.jsonl", "C:/x.jsonl", "C:x.jsonl", "..\\x.jsonl", "\\\\host\\x.jsonl",
     "a\x00.jsonl", "x" * 300 + ".jsonl", "a\n.jsonl", "\x1b.jsonl"],
)  # fmt: skip
def test_no_card_names_a_file_outside_its_folder(path: str) -> None:
    for make in (lambda: FilesCard(train=path), lambda: RationaleCard(file=path)):
        with pytest.raises(ValueError, match=r"leaves the suite's folder|no name of a file"):
            make()
    with pytest.raises(ValueError, match="release"):
        SuiteCard.model_validate(yaml.safe_load(SUITE) | {"release": path})


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "/x", "a\x00", "a\n", "con\x1b", "x" * 300])
def test_no_suite_or_task_has_a_name_that_is_a_path(name: str) -> None:
    raw = yaml.safe_load(SUITE)
    for document in (raw | {"name": name}, raw | {"tasks": {name: raw["tasks"]["calls"]}}):
        with pytest.raises(ValueError, match=r"name|tasks"):
            SuiteCard.model_validate(document)


def test_a_suite_asks_the_hub_and_no_folder_for_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/etc", "../x", "./x", "a/b/c", "~/x", "https://evil/x", "s3://x"):
        with pytest.raises(ValueError, match="path"):
            HubCard(path=path)
    raw = yaml.safe_load(SUITE)
    raw["tasks"]["calls"] |= {"files": None, "hub": {"path": "own/rows", "train": "train", "test": "test"}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "own" / "rows").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="own/rows is on this machine"):
        Suite.read(tmp_path / "suite.yaml").load("calls")


def test_a_card_cannot_have_code_run(tmp_path: Path) -> None:
    card = {"kind": "backbone", "name": "mine", "hub_id": "me/mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card | {"trust_remote_code": True}))
    plugins.load_all()
    with plugins.isolated():
        plugins.include(tmp_path)
        with pytest.raises(UserError, match=r"mine\.yaml: a card cannot have code.*mine\[trust_remote_code=true\]"):
            backbones.get("mine")
    for module, file in (("a.b", "x.gguf"), ("a", "../x.gguf"), ("a", "/x.gguf"), ("../a", "x"), ("a", "")):
        with pytest.raises(ValueError, match=r"module|file"):
            Gguf(package="p", module=module, file=file)
    assert not BackboneCard(name="x").trust_remote_code


def test_a_record_that_is_run_again_opens_nothing_because_it_says_so(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "trap.py").write_text(TRAP.format(str(ran)))
    record = fakes.record(fakes.FakeTask("RTE", 6), fakes.FakeMethod("majority", inference="none"), 0)
    request = RunRequest(
        methods=("majority",), include=(tmp_path / "trap",), data_dir=tmp_path / "nowhere", results=tmp_path / "out",
        rationales=str(tmp_path / "stolen"),
    )  # fmt: skip
    cell = record.cell.model_copy(update={"suite": "mini7", "budget": "smoke", "backbone": "tiny"})
    record = record.model_copy(update={"request": request, "cell": cell})
    with pytest.raises(UserError, match="Name its folder with --rationales"):
        plan_again(record, Options())
    plan = plan_again(record.model_copy(update={"request": request.model_copy(update={"rationales": None})}), Options())
    assert (plan.request.include, plan.request.data_dir) == ((), None)
    assert not ran.exists()
    trusting = record.model_copy(
        update={"cell": cell.model_copy(update={"backbone": "evil/lm[trust_remote_code=true]"})}
    )
    with pytest.raises(UserError, match="asks that code of the hub be run"):
        plan_again(trusting, Options())


# ---------------------------------------------------------------- links and names that lead elsewhere


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return folder


def test_a_link_in_a_suites_folder_is_not_followed_out_of_it(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "real.jsonl").write_text((outside / "rows.jsonl").read_text())
    (folder / "train.jsonl").symlink_to("real.jsonl")  # inside it may lead where it likes
    (folder / "test.jsonl").symlink_to("real.jsonl")
    assert len(Suite.read(folder / "suite.yaml").load("calls").train) == len(ROWS)
    (folder / "test.jsonl").unlink()
    (folder / "test.jsonl").symlink_to(outside / "rows.jsonl")
    with pytest.raises(UserError, match=r"test\.jsonl is a link that leads out of the suite's folder"):
        Suite.read(folder / "suite.yaml").load("calls")
    (folder / "test.jsonl").unlink()
    (folder / "test.jsonl").symlink_to("real.jsonl")
    (folder / "why").symlink_to(outside)
    (folder / "suite.yaml").write_text(
        SUITE.replace("    fields:", "    rationale: {file: why/rows.jsonl}\n    fields:")
    )
    with pytest.raises(UserError, match=r"rows\.jsonl is a link that leads out of the suite's folder"):
        Suite.read(folder / "suite.yaml").load("calls")


def test_a_link_among_the_records_is_neither_read_nor_written_through(tmp_path: Path, outside: Path) -> None:
    record = fakes.record(fakes.FakeTask("t", 6), fakes.THREE[0], 0)
    results = tmp_path / "results"
    kept = record_path(outside, record.cell)
    write_record(outside, record)
    before = kept.read_bytes()
    path = record_path(results, record.cell)
    path.parent.mkdir(parents=True)
    path.symlink_to(kept)  # a file
    records, (problem,) = read_results(results)
    assert (records, problem.path, problem.reason) == ([], path, "is a link that leads out of its folder")
    assert find(results, record.cell, record.identity) is None
    with pytest.raises(UserError, match="leads out of its folder"):
        write_record(results, record)
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(kept.parent)  # its folder
    with pytest.raises(UserError, match="leads out of its folder"):
        write_record(results, record)
    assert find(results, record.cell, record.identity) is None
    (kept.parent / "seed-0.generations.jsonl").write_text('{"id": "1", "text": "secret"}\n')
    assert [path for path in kept.parent.iterdir() if path.suffix == ".json"] == [kept]
    assert kept.read_bytes() == before
    texts = results / "seed-0.generations.jsonl"
    texts.symlink_to(kept.parent / "seed-0.generations.jsonl")
    assert read_texts(results / "seed-0.json") == {}
    timed = fakes.throughput(fakes.FakeTask("t", 6))
    place = timed_path(results, timed)
    place.parent.mkdir(parents=True)
    (outside / "timed.json").write_text(timed.model_dump_json())
    place.symlink_to(outside / "timed.json")
    assert [problem.reason for problem in read_timed(results)[1]] == ["is a link that leads out of its folder"]
    link = tmp_path / "by-link"
    link.symlink_to(outside)  # the folder that the user names may be a link itself
    assert len(load_results(link).cells) == 1


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "..", ".", "a/../../b", "a\x00b", "..\\..\\x", "\x1b[2J", "x" * 400]
)
def test_no_name_in_a_record_leads_out_of_the_results(name: str, tmp_path: Path) -> None:
    record = fakes.record(fakes.FakeTask("t", 6), fakes.THREE[0], 0)
    root = tmp_path / "results"
    for part in ("suite", "task", "method", "backbone", "budget"):
        raw = json.loads(record.model_dump_json())
        raw["cell"][part] = name
        cell = type(record).model_validate(raw).cell  # as it is read
        path = record_path(root, cell)
        assert path.resolve().is_relative_to(root.resolve())
        assert path.resolve() != root.resolve()
        assert "\x00" not in str(path)


def test_a_saved_data_set_reads_its_own_files(tmp_path: Path, outside: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "rows"))
    assert len(list(read_records(tmp_path / "rows"))) == len(ROWS)
    state = tmp_path / "rows" / "state.json"
    said = json.loads(state.read_text())
    Dataset.from_list(ROWS).save_to_disk(str(outside / "rows"))
    other = next((outside / "rows").glob("*.arrow"))
    for name in (f"../outside/rows/{other.name}", str(other)):
        state.write_text(json.dumps(said | {"_data_files": [{"filename": name}]}))
        with pytest.raises(UserError, match="one of its files is not in its folder"):
            list(read_records(tmp_path / "rows"))
    state.write_text(json.dumps(said))
    own = next((tmp_path / "rows").glob("*.arrow"))
    own.unlink()
    own.symlink_to(other)
    with pytest.raises(UserError, match="a link that leads out of the data set"):
        list(read_records(tmp_path / "rows"))


def test_a_list_of_digests_names_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("x")
    for digests in ({"../secret": "0"}, {"/etc/passwd": "0"}, {"**": "0", "../*": "1"}, ["a"], "a", None):
        assert damaged_files(tmp_path / "in", digests)  # type: ignore[arg-type]
