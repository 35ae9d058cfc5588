"""Records that are not what they say are found, and named."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from dhrd_bench.cli import app
from dhrd_bench.commands.rerun import rerun_command
from dhrd_bench.errors import UserError
from dhrd_bench.grid import environment
from dhrd_bench.grid.identity import digest, with_versions
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.recordcheck import Check, check_records
from dhrd_bench.grid.run import run_plan
from dhrd_bench.metrics import METRICS
from dhrd_bench.progress import Display
from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.request import Options, RunRequest
from dhrd_bench.results.checksum import with_checksum
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.schema import IdentityParts, Revision
from dhrd_bench.results.store import read_record
from dhrd_bench.results.timed import Figure, timed_path
from dhrd_bench.results.verified import read_verified

ROOT = Path(__file__).parent.parent
FAST = "smoke[epochs=1,max_length=96,test_rows=12,train_rows=8,tuning=top:1]"
CLEAN = Revision(commit="c" * 40, dirty=False)
Raw = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with records of a real run, as a clean checkout would make them."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "git_revision", lambda: CLEAN)
        plan = make_plan(
            RunRequest(results=root, methods="pooled,majority", tasks="rte", backbone="tiny", budget=FAST, seeds="1")
        )
        records = run_plan(plan, Display(Console(quiet=True), len(plan.missing)))
    assert [record.status for record in records] == ["ok", "ok"]
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results"))


def place(root: Path, method: str = "pooled") -> Path:
    return root / "mini7" / "tiny" / FAST / method / "RTE" / "seed-0.json"


def read(path: Path) -> Raw:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def forge(path: Path, raw: Raw, *, identity: bool = False) -> None:
    """Write an altered record with the checksum that it would have, and the identity, as who wants to deceive does."""
    if identity:
        parts = IdentityParts.model_validate(raw["parts"])
        budget = {key: value for key, value in parts.budget.items() if key != "decoding"}
        parts = with_versions(parts, budget, raw["data"]["rationale_fingerprint"])
        raw |= {"parts": parts.model_dump(mode="json", exclude_none=True), "identity": digest(parts.hashed())}
    raw.pop("checksum", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(with_checksum(json.dumps(raw)), encoding="utf-8")


def rescore(raw: Raw) -> None:
    """Make an altered record's figures those of its rows."""
    rows = raw["rows"]
    accuracy = 100 * METRICS["accuracy"].measure(
        np.array(rows["prediction"]), np.array(rows["label"]), rows["id"], len(raw["task"]["labels"])
    )
    raw |= {"metrics": {"accuracy": accuracy}, "score": accuracy}


def set_timing(raw: Raw, seconds: float) -> None:
    timing, rows = raw["timing"], len(raw["rows"]["id"])
    raw["timing"] |= {
        "examples": rows, "seconds": seconds, "qps": rows / seconds,
        "laps": [[rows, seconds]], "tokens_in": timing["tokens_in"],
    }  # fmt: skip


# ---------------------------------------------------------------- what is found


def test_records_as_a_run_wrote_them_pass(root: Path) -> None:
    done = CliRunner().invoke(app, ["records", "check", str(root), "--clean", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"records": 2, "failed": False, "findings": []}


def test_the_committed_records_pass() -> None:
    """Made from a clean checkout, with the rows that the suites' generators make."""
    checked = check_records([ROOT / "results"], clean=True)
    assert checked.findings == ()
    assert checked.records >= 80


def change_score(root: Path) -> None:
    raw = read(place(root))
    raw["score"] += 1
    forge(place(root), raw)


def change_metric(root: Path) -> None:
    raw = read(place(root))
    accuracy = raw["metrics"]["accuracy"] + 100 / 12
    raw |= {"metrics": {"accuracy": accuracy}, "score": accuracy}
    forge(place(root), raw)


def flip(raw: Raw) -> None:
    """Make a row right that was wrong."""
    rows = raw["rows"]
    at = next(n for n, label in enumerate(rows["label"]) if rows["prediction"][n] != label)
    rows["prediction"][at] = rows["label"][at]


def flip_prediction(root: Path) -> None:
    raw = read(place(root))
    flip(raw)
    forge(place(root), raw)


def flip_prediction_and_score_it(root: Path) -> None:
    raw = read(place(root))
    flip(raw)
    rescore(raw)
    forge(place(root), raw)


def change_class(root: Path) -> None:
    raw = read(place(root))
    rows = raw["rows"]
    at = next(n for n, label in enumerate(rows["label"]) if rows["prediction"][n] != label)
    rows["label"][at] = rows["prediction"][at]
    rescore(raw)
    forge(place(root), raw)


def drop_row(root: Path) -> None:
    raw = read(place(root))
    for column in raw["rows"].values():
        del column[0]
    rescore(raw)
    set_timing(raw, raw["timing"]["seconds"])
    raw["data"]["test_rows"] -= 1
    forge(place(root), raw)


def swap_ids(root: Path) -> None:
    raw = read(place(root))
    rows = raw["rows"]
    other = next(n for n, label in enumerate(rows["label"]) if label == rows["label"][0] and n)
    rows["id"][0], rows["id"][other] = rows["id"][other], rows["id"][0]
    forge(place(root), raw)


def change_seed(root: Path) -> None:
    raw = read(place(root))
    raw["parts"]["seed"] = 1
    forge(place(root), raw)


def change_seed_everywhere(root: Path) -> None:
    raw = read(place(root))
    raw["parts"]["seed"] = raw["cell"]["seed"] = 1
    raw["request"]["seeds"] = [0, 1]
    place(root).unlink()
    forge(place(root).with_name("seed-1.json"), raw, identity=True)


def change_identity(root: Path) -> None:
    raw = read(place(root))
    raw["identity"] = raw["identity"][::-1]
    forge(place(root), raw)


def rename(root: Path) -> None:
    place(root).rename(place(root).with_name("seed-7.json"))


def move(root: Path) -> None:
    place(root).replace(place(root, "majority"))


def edit_checksum(root: Path) -> None:
    raw = read(place(root))
    place(root).write_text(json.dumps(raw | {"checksum": "0" * 16}), encoding="utf-8")


def raise_qps(root: Path) -> None:
    raw = read(place(root))
    raw["timing"]["qps"] *= 1000
    forge(place(root), raw)


def raise_qps_and_cut_seconds(root: Path) -> None:
    raw = read(place(root))
    raw["timing"] |= {"qps": 1000 * raw["timing"]["qps"], "seconds": raw["timing"]["seconds"] / 1000}
    forge(place(root), raw)


def beat_the_machine(root: Path) -> None:
    """All of the timing is altered alike; the methods were timed side by side on the same machine, though."""
    raw = read(place(root))
    was = raw["timing"]["qps"]
    set_timing(raw, raw["timing"]["seconds"] / 1000)
    forge(place(root), raw)
    record = read_record(place(root))
    timed = fakes.throughput(fakes.FakeTask("RTE", 12), fakes.THREE[:1], cell=record.cell)
    update = {"identity": record.identity, "qps": Figure(value=was), "achieved_flops": 1e8, "roofline_share": 0.1}
    measurements = [timed.measurements[0].model_copy(update=update)]
    timed = timed.model_copy(update={"measurements": measurements, "environment": record.environment})
    path = timed_path(root, timed)
    path.parent.mkdir(parents=True)
    path.write_text(timed.model_dump_json(), encoding="utf-8")


def duplicate(root: Path) -> None:
    shutil.copy(place(root), place(root).with_name("best.json"))


def remove_field(root: Path) -> None:
    raw = read(place(root))
    del raw["parts"]["rows"]
    forge(place(root), raw)


def add_field(root: Path) -> None:
    raw = read(place(root))
    raw["data"]["reviewed"] = True
    forge(place(root), raw)


def change_harness(root: Path) -> None:
    raw = read(place(root))
    raw["parts"]["harness"] = "1.1"
    forge(place(root), raw)


def change_harness_and_identity(root: Path) -> None:
    raw = read(place(root))
    raw["parts"]["harness"] = "1.1"
    forge(place(root), raw, identity=True)


def clear_dirty(root: Path) -> None:
    """The field alone, by hand."""
    raw = read(place(root))
    raw["environment"]["git"]["dirty"] = True
    forge(place(root), raw)
    place(root).write_text(place(root).read_text().replace('"dirty": true', '"dirty": false'))


def change_budget(root: Path) -> None:
    raw = read(place(root))
    raw["parts"]["budget"]["learning_rate"] *= 2
    forge(place(root), raw)


def change_budget_and_identity(root: Path) -> None:
    raw = read(place(root))
    raw["parts"]["budget"]["learning_rate"] *= 2
    forge(place(root), raw, identity=True)


def train_longer(root: Path) -> None:
    raw = read(place(root))
    raw["train"]["epochs"] *= 4
    forge(place(root), raw)


def change_role(root: Path) -> None:
    raw = read(place(root))
    raw["method"]["role"] = "method"
    forge(place(root), raw)


def pass_for_another_method(root: Path) -> None:
    raw = read(place(root, "majority"))
    raw["cell"]["method"] = "pooled"
    forge(place(root), raw)


def read_nothing(root: Path) -> None:
    raw = read(place(root))
    raw["timing"]["tokens_in"] = 0
    forge(place(root), raw)


TAMPERINGS: dict[Callable[[Path], None], tuple[str, str]] = {
    change_score: ("metrics", "its score is"),
    change_metric: ("metrics", "its predictions give"),
    flip_prediction: ("metrics", "its predictions give"),
    flip_prediction_and_score_it: ("rows", "another class than its largest score has"),
    change_class: ("data", "of another class there"),
    drop_row: ("data", "not those that its budget draws for testing"),
    swap_ids: ("data", "their order"),
    change_seed: ("identity", "its parts have"),
    change_seed_everywhere: ("data", "not those that seed 1 draws"),
    change_identity: ("identity", "its parts have"),
    rename: ("place", "it is the record of"),
    move: ("place", "it is the record of"),
    edit_checksum: ("checksum", "it was changed after it was made"),
    raise_qps: ("timing", "its QPS is"),
    raise_qps_and_cut_seconds: ("timing", "its laps add up to"),
    beat_the_machine: ("plausibility", "at its peak"),
    duplicate: ("duplicate", "has the same identity"),
    remove_field: ("schema", "it is no record: parts.rows"),
    add_field: ("schema", "no field 'data.reviewed'"),
    change_harness: ("identity", "its parts have"),
    change_harness_and_identity: ("versions", "harness 1.1 is not known here"),
    clear_dirty: ("checksum", "it was changed after it was made"),
    change_budget: ("identity", "its parts have"),
    change_budget_and_identity: ("budget", "another learning_rate"),
    train_longer: ("budget", "its epochs are 4, its budget allows 1"),
    change_role: ("method", "its role"),
    pass_for_another_method: ("names", "its method is 'pooled' in one place and 'majority' in another"),
    read_nothing: ("timing", "0 tokens were read"),
}


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found_and_named(root: Path, tamper: Callable[[Path], None]) -> None:
    tamper(root)
    kind, words = TAMPERINGS[tamper]
    done = CliRunner().invoke(app, ["records", "check", str(root), "--json"])
    assert done.exit_code == 1, done.output
    found = [(f["check"], f["message"]) for f in json.loads(done.output)["findings"] if f["severity"] == "failure"]
    assert any(check == kind and words in message for check, message in found), found
    assert all(f["path"] and f["cure"] for f in json.loads(done.output)["findings"] if f["severity"] == "failure")


def test_what_cannot_be_seen_is_what_docs_say(root: Path) -> None:
    """If this fails the check has learned something: say so in docs/records.md."""
    raw = read(place(root))
    raw["environment"]["git"] = {"commit": "a" * 40, "dirty": False}
    raw["environment"]["cpu"] = "another"
    set_timing(raw, raw["timing"]["seconds"] / 2)
    raw["rows"]["score"] = [[-1.0, 1.0] if label else [1.0, -1.0] for label in raw["rows"]["label"]]
    raw["rows"]["prediction"] = raw["rows"]["label"]
    rescore(raw)
    forge(place(root), raw)
    assert not check_records([root]).failed


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_record_is_too_broken_to_be_checked(made: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    """Any value in any place: a finding or none, never an error of the program."""
    raw = read(place(made))
    inner: Any = raw
    while isinstance(inner, dict | list) and inner:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        holder, key = inner, data.draw(st.sampled_from(keys))
        inner = holder[key]
        if data.draw(st.booleans()):
            break
    holder[key] = data.draw(
        st.none() | st.integers(-2, 10**20) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8) | st.sampled_from(["a[", "1.x", "none[b=1]"]) | st.just([]) | st.just({})
    )  # fmt: skip
    path = place(tmp_path_factory.mktemp("broken"))
    forge(path, raw)
    check_records([path])


def test_without_its_suite_a_record_is_checked_as_far_as_it_goes(root: Path) -> None:
    path = place(root)
    for method in ("pooled", "majority"):
        raw = read(place(root, method))
        raw["cell"]["suite"] = raw["parts"]["suite"]["name"] = "elsewhere"
        target = root / "elsewhere" / place(root, method).relative_to(root / "mini7")
        forge(target, raw, identity=True)
    shutil.rmtree(root / "mini7")
    checked = check_records([root])
    assert not checked.failed
    assert any("not drawn again" in f.message and "elsewhere" in f.message for f in checked.findings)
    path = root / "elsewhere" / path.relative_to(root / "mini7")
    raw = read(path)
    raw["rows"]["id"].reverse()
    forge(path, raw)
    # One record beside another of the same rows still gives it away.
    assert kinds(check_records([root])) == {"agreement"}


def plain(output: str) -> str:
    """The text of a table, without its lines."""
    return " ".join(output.replace("│", " ").split())


def kinds(checked: Check) -> set[str]:
    return {finding.kind for finding in checked.findings if finding.severity == "failure"}


def test_a_later_minor_schema_is_a_note(root: Path) -> None:
    raw = read(place(root))
    raw |= {"schema_version": "1.99.0", "mood": "fine"}
    forge(place(root), raw)
    checked = check_records([root])
    assert not checked.failed
    assert any("schema 1.99.0" in finding.message for finding in checked.findings)


def test_a_changed_checkout_is_a_warning_and_fails_what_is_new(root: Path, tmp_path: Path) -> None:
    raw = read(place(root))
    raw["environment"]["git"]["dirty"] = True
    forge(place(root), raw)
    (finding,) = check_records([root]).findings
    assert (finding.severity, finding.kind) == ("warning", "checkout")
    assert kinds(check_records([root], clean=True)) == {"checkout"}
    output = tmp_path / "mine.tar.gz"
    done = CliRunner().invoke(app, ["records", "submit", str(root), "--output", str(output)])
    assert isinstance(done.exception, UserError)
    assert "changed checkout" in plain(done.output)
    assert not output.exists()


def test_what_is_said_of_many_files_is_said_once(root: Path) -> None:
    for method in ("pooled", "majority"):
        raw = read(place(root, method))
        del raw["checksum"]
        place(root, method).write_text(json.dumps(raw), encoding="utf-8")
    done = CliRunner().invoke(app, ["records", "check", str(root), "--output", str(root / "check.json")])
    assert done.exit_code == 0
    assert done.output.count("no checksum") == 1
    assert "and 1 more" in plain(done.output)
    assert done.output.endswith("2 records: 0 failures, 0 warnings, 2 notes.\n")
    assert len(json.loads((root / "check.json").read_text())["findings"]) == 2
    with pytest.raises(UserError, match="There is nothing at"):
        check_records([root / "nowhere"])


def test_a_contribution_takes_its_check_along(root: Path, tmp_path: Path) -> None:
    output, there = tmp_path / "mine.zip", tmp_path / "there"
    done = CliRunner().invoke(app, ["records", "submit", str(root), "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert "packed 2 records and their check" in done.output
    with zipfile.ZipFile(output) as archive:
        assert json.loads(archive.read("check.json")) == {"records": 2, "failed": False, "findings": []}
    assert CliRunner().invoke(app, ["records", "merge", str(output), "--results", str(there)]).exit_code == 0
    for method in ("pooled", "majority"):
        assert place(there, method).read_bytes() == place(root, method).read_bytes()
    drop_row(root)
    output.unlink()
    done = CliRunner().invoke(app, ["records", "submit", str(root), "--output", str(output)])
    assert isinstance(done.exception, UserError)
    assert not output.exists()


# ---------------------------------------------------------------- verified


def test_a_maintainer_verifies_a_record_and_the_report_marks_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, width=200)
    monkeypatch.setattr(environment, "git_revision", lambda: Revision(commit="d" * 40, dirty=True))
    with pytest.raises(UserError, match="This checkout was changed"):
        rerun_command(place(root), Options(), console, verify="Ada")
    monkeypatch.setattr(environment, "git_revision", lambda: CLEAN)
    assert rerun_command(place(root), Options(), console, verify="Ada") == 0
    record = read_record(place(root))
    (entry,) = read_verified(root).values()
    assert (entry.by, entry.commit, entry.flips, entry.rows) == ("Ada", CLEAN.commit, 0, 12)
    table = load_results(root)
    assert table.verified == {record.identity}
    page = analyse(table, resamples=100).render("markdown")
    assert "pooled✓" in page
    assert "majority✓" not in page
    # A verified record needs no clean checkout; an altered one is not verified.
    raw = read(place(root))
    raw["environment"]["git"]["dirty"] = True
    forge(place(root), raw)
    assert not check_records([root], clean=True).failed
    flip(raw)
    forge(place(root), raw)
    assert load_results(root).verified == frozenset()
    assert "checkout" in kinds(check_records([root], clean=True))


def test_a_record_that_comes_out_otherwise_is_not_verified(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "git_revision", lambda: CLEAN)
    raw = read(place(root))
    flip(raw)
    rescore(raw)
    forge(place(root), raw)
    assert rerun_command(place(root), Options(), Console(quiet=True), verify="Ada") == 1
    assert read_verified(root) == {}
    elsewhere = root / "seed-0.json"
    shutil.copy(place(root), elsewhere)
    with pytest.raises(UserError, match="is not the place of its cell"):
        rerun_command(elsewhere, Options(), Console(quiet=True), verify="Ada")
    (root / "verified.json").write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(UserError, match="is not what `rerun --verify` writes"):
        load_results(root)
