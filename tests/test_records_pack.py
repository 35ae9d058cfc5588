"""Records of several machines, brought together; what a contribution takes along; the group of commands."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dhrd_bench.cli import app
from dhrd_bench.errors import UserError
from dhrd_bench.results import pack as packing
from dhrd_bench.results.pack import merge, opened, pack
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import read_record, record_path, superseded_path, write_record
from dhrd_bench.results.timed import timed_path

ROOT = Path(__file__).parent.parent
TASK = fakes.FakeTask("alpha", 12)
ONE = fakes.record(TASK, fakes.FakeMethod("one"), 0)


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["records", *map(str, arguments)])
    if isinstance(done.exception, UserError):
        raise done.exception
    return done.exit_code, done.output


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def other(record: CellRecord, **changes: Any) -> CellRecord:
    return record.model_copy(update=changes)


# ---------------------------------------------------------------- packing


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "zip"])
def test_what_was_packed_is_there_again(tmp_path: Path, ending: str) -> None:
    here, there, archive = tmp_path / "here", tmp_path / "there", tmp_path / f"records.{ending}"
    for record in fakes.records(seeds=(0, 1)):
        write_record(here, record)
    write_record(here, other(ONE, identity="a" * 16))
    write_record(here, other(ONE, identity="b" * 16))  # the one of before is kept beside it
    timed = fakes.throughput(TASK)
    timed_path(here, timed).parent.mkdir(parents=True)
    timed_path(here, timed).write_text(timed.model_dump_json(indent=1) + "\n")
    kept = content(here)
    record_path(here, ONE.cell).with_suffix(".generations.jsonl").write_text('{"text": "of a closed suite"}')
    assert call("pack", here, "--output", archive)[0] == 0
    first = archive.read_bytes()
    pack(here, archive)
    assert archive.read_bytes() == first
    code, said = call("merge", archive, "--results", there)
    assert code == 0
    assert content(there) == kept
    assert f"{len(kept) - 1} added, 0 there already, 1 put beside" in said
    assert call("merge", here, archive, "--results", there)[0] == 0
    assert content(there) == kept


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no kind of archive\. Name a file that ends in \.tar\.gz"):
        call("pack", fakes.write(tmp_path, [ONE]), "--output", tmp_path / "records.rar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="There are no records below"):
        call("pack", tmp_path / "empty", "--output", tmp_path / "records.zip")


# ---------------------------------------------------------------- merging


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_order_of_machines_changes_nothing(tmp_path_factory: Any, data: st.DataObject) -> None:
    """A grid in parts, some cells on two machines, merged in any order, is the grid."""
    every = fakes.records(tasks=[TASK], seeds=(0, 1))
    together = tmp_path_factory.mktemp("together")
    machines = [tmp_path_factory.mktemp("machine") for _ in range(3)]
    for record in every:
        for machine in data.draw(st.sets(st.sampled_from(machines), min_size=1)):
            write_record(machine, record)
        write_record(together, record)
    merged = tmp_path_factory.mktemp("merged")
    for machine in data.draw(st.permutations(machines)):
        assert {each.state for each in merge(machine, merged)} <= {"added", "same"}
    assert content(merged) == content(together)


def test_of_two_records_of_one_identity_the_one_here_stays_and_both_are_named(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    path = write_record(here, ONE)
    assert ONE.rows is not None
    write_record(there, fakes.with_rows(ONE, prediction=[1 - label for label in ONE.rows.prediction]))
    before = path.read_bytes()
    code, said = call("merge", there, "--results", here)
    assert code == 1
    assert f"conflict: 12 of 12 predictions differ; kept {path}" in said
    assert path.read_bytes() == before
    code, said = call("merge", there, "--results", here, "--replace")
    assert code == 1
    assert f"it took the place of {path}" in said
    assert content(here) == content(there)
    write_record(there, other(read_record(path), finished="2027-01-01T00:00:00Z"))
    assert "the predictions are the same, other fields differ" in call("merge", there, "--results", here)[1]


def test_a_record_of_another_identity_is_put_beside_the_current_one(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    path = write_record(here, ONE)
    write_record(there, other(ONE, identity="f" * 16))
    code, said = call("merge", there, "--results", here)
    assert code == 0
    assert "beside: its cell has another record here, which stays" in said
    assert read_record(path) == ONE
    assert read_record(superseded_path(path, "f" * 16)).identity == "f" * 16
    assert "1 there already" in call("merge", there, "--results", here)[1]


def test_a_failed_cell_gives_way_and_takes_no_place(tmp_path: Path) -> None:
    good, bad, mixed = tmp_path / "good", tmp_path / "bad", tmp_path / "mixed"
    path = write_record(good, ONE)
    write_record(bad, other(fakes.failed(TASK, fakes.FakeMethod("one"), 0), identity=ONE.identity))
    assert "1 left" in call("merge", bad, "--results", good)[1]
    assert read_record(path) == ONE
    assert call("merge", bad, good, "--results", mixed)[0] == 0
    assert content(mixed) == content(good)


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for method in ("one", "two"):
        write_record(there, fakes.record(TASK, fakes.FakeMethod(method), 0))
    record_path(there, ONE.cell).write_text("{", encoding="utf-8")
    code, said = call("merge", there, "--results", here)
    assert code == 1
    assert "one/alpha/seed-0.json: unreadable: " in said
    assert "1 added" in said
    # Nor is a file here that cannot be read written over.
    record_path(here, ONE.cell).parent.mkdir(parents=True)
    record_path(here, ONE.cell).write_text("{", encoding="utf-8")
    write_record(tmp_path / "good", ONE)
    assert "conflict: what is here is no record" in call("merge", tmp_path / "good", "--results", here)[1]
    assert record_path(here, ONE.cell).read_text() == "{"


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE, text: bytes = b"{}") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, "/etc/passwd", len(text)
        archive.addfile(member, io.BytesIO(text))
    return path


def zip_with(path: Path, name: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "/etc/passwd")
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: tar_with(folder / "a.tgz", "../seed-0.json"), "leads out of the archive"),
        (lambda folder: tar_with(folder / "a.tgz", "/tmp/seed-0.json"), "leads out of the archive"),
        (lambda folder: tar_with(folder / "a.tgz", "a/seed-0.json", tarfile.SYMTYPE, b""), "is a link or a device"),
        (lambda folder: tar_with(folder / "a.tgz", "a/seed-0.json", tarfile.LNKTYPE, b""), "is a link or a device"),
        (lambda folder: tar_with(folder / "a.tgz", "a/seed-0.json", tarfile.FIFOTYPE, b""), "is a link or a device"),
        (lambda folder: tar_with(folder / "a.tgz", "seed-0.json", text=b" " * 2000), "is too much"),
        (lambda folder: zip_with(folder / "a.zip", "..\\seed-0.json"), "leads out of the archive"),
        (lambda folder: zip_with(folder / "a.zip", "C:/seed-0.json"), "leads out of the archive"),
        (lambda folder: zip_with(folder / "a.zip", "seed-0.json", 0o120777), "is a link or a device"),
        (lambda folder: folder / "nothing.zip", "No such file"),
        (lambda folder: ROOT / "pyproject.toml", "is neither a folder of records nor an archive"),
    ],
)
def test_archives_that_would_do_harm_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], words: str
) -> None:
    monkeypatch.setattr(packing, "LARGEST", 1000)
    with pytest.raises(UserError, match=words), opened(make(tmp_path)):
        pytest.fail("it was opened")
    assert not (tmp_path.parent / "seed-0.json").exists()


def test_a_broken_archive_is_no_traceback(tmp_path: Path) -> None:
    archive = tmp_path / "records.tar.gz"
    pack(fakes.write(tmp_path / "here", [ONE]), archive)
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UserError, match="is neither a folder of records nor an archive"):
        call("merge", archive, "--results", tmp_path / "there")


# ---------------------------------------------------------------- the group and the workflow


def test_the_group_goes_by_its_old_name_too() -> None:
    runner = CliRunner()
    new, old = (runner.invoke(app, [group, "schema"]).output for group in ("records", "results"))
    assert new == old
    assert json.loads(new)["title"] == "dhrd-bench records"
    shown = runner.invoke(app, ["--help"]).output
    assert "records" in shown
    assert "│ results " not in shown


def test_the_workflow_runs_what_there_is(tmp_path: Path) -> None:
    """It is valid YAML with valid shell, may write nothing, and each of its commands exists with its options."""
    text = (ROOT / ".github" / "workflows" / "records.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow[True] == {"pull_request": {"paths": ["results/**"]}}  # YAML reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    for step in steps:
        assert "${{" not in step  # what a pull request is called must not become shell
        subprocess.run(["bash", "-n", "-c", step], check=True)
    called = [part for step in steps for line in step.splitlines() for part in line.split("dhrd-bench ")[1:]]
    assert len(called) == 4
    for command in called:
        words = command.split("||")[0].split("<")[0].split()
        options = [word for word in words if word.startswith("--")]
        name = words[:2] if words[0] == "records" else words[:1]
        described = CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "200"}).output
        assert all(option in described for option in options), (command, described)
