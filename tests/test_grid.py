"""Cells: identity, resume, failures, the clock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import dhrd
from grids import FAST, outcome, plan, registry_as_it_was, run
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dhrd_bench import plugins
from dhrd_bench.contracts import Predictions, derive_seed
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import digest
from dhrd_bench.grid.perform import Clock
from dhrd_bench.grid.plan import method_specs
from dhrd_bench.progress import Display
from dhrd_bench.request import parse_seeds
from dhrd_bench.results.store import find, keep_current, read_record, read_records, record_path, write_record

__all__ = ["registry_as_it_was"]  # a fixture that every test here uses


# ---------------------------------------------------------------- seeds and identities


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0", [0]),
        ("1", [0]),
        ("5", [0, 1, 2, 3, 4]),
        ("0,3,7", [0, 3, 7]),
        ("2-4", [2, 3, 4]),
        ("7,", [7]),
    ],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", ","])
def test_seeds_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match="seeds"):
        parse_seeds(text)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_derived_seeds_differ_where_the_names_differ(a: list[str], b: list[str]) -> None:
    separator = "\x1f"
    same = separator.join(a) == separator.join(b)
    assert (derive_seed(*a) == derive_seed(*b)) == same
    assert 0 <= derive_seed(*a) < 2**63


def test_identity_holds_what_matters_and_nothing_else(tmp_path: Path) -> None:
    def identities(**changes: Any) -> list[str]:
        return [planned.identity for planned in plan(tmp_path, **changes).cells]

    base = identities()
    assert len(set(base)) == len(base) == 8
    assert identities() == base
    # The batch size of decoding and how many seeds are run by default change no cell of these methods.
    assert identities(budget=FAST.replace("]", ",seeds=9,description=other]")) == base
    assert not set(base) & set(identities(budget=FAST.replace("epochs=1", "epochs=2")))
    assert not set(base) & set(identities(suite="mini7[prompt=paper]"))
    assert not set(base) & set(identities(backbone="tiny[dtype=bfloat16]"))
    assert not set(base) & set(identities(seeds="2-3"))
    changed = identities(methods="pooled,dhrd[alpha=0.5]")
    assert [a == b for a, b in zip(base, changed, strict=True)] == [True, False] * 4


def test_records_count_the_tokens_of_the_rationales_that_a_method_was_given(tmp_path: Path) -> None:
    from dhrd_bench.backbones import load

    wanted = plan(tmp_path, seeds="0", tasks="rte")
    counted = {one.cell.method: one.train.teacher_tokens for one in run(wanted)}
    data = wanted.cells[0].data
    texts = {row.rationale for row in (*data.train, *data.dev) if row.rationale}
    assert len(texts) > 5
    encoded = load(wanted.backbone).tokenizer(sorted(texts), add_special_tokens=False)["input_ids"]
    assert counted == {"pooled": 0, "dhrd": sum(map(len, encoded))}


def test_decoding_matters_to_generating_methods_only(tmp_path: Path) -> None:
    longer = "smoke[decoding={max_new_tokens: 9}]"
    for name, same in (("pooled", True), ("cot", False)):
        a, b = (plan(tmp_path, methods=name, budget=budget, seeds="0") for budget in ("smoke", longer))
        assert (a.cells[0].identity == b.cells[0].identity) is same


def test_methods_are_paired(tmp_path: Path) -> None:
    """Same rows in the same order for every method of a (task, seed), other rows for another seed."""
    by_key: dict[tuple[str, int], list[Any]] = {}
    for planned in plan(tmp_path, methods="pooled,dhrd,cot").cells:
        by_key.setdefault((planned.cell.task, planned.cell.seed), []).append(
            (planned.data.train, planned.data.dev, planned.test.ids)
        )
    for rows in by_key.values():
        assert rows[0] == rows[1] == rows[2]
    assert by_key["RTE", 0][0][0] != by_key["RTE", 1][0][0]
    assert by_key["RTE", 0][0][2] == by_key["RTE", 1][0][2]


def test_a_method_never_sees_test_labels(tmp_path: Path) -> None:
    planned = plan(tmp_path, seeds="0", tasks="rte").cells[0]
    seen = {row.example.id for row in (*planned.data.train, *planned.data.dev)}
    for example in planned.test.examples:
        assert not hasattr(example, "label")
        assert not hasattr(example, "rationale")
        assert not hasattr(example, "__dict__")  # slots: nothing can be hung on it
    train_texts = {row.example.prompt.text for row in planned.data.train}
    assert not train_texts & {example.prompt.text for example in planned.test.examples}
    assert seen


def test_digest_does_not_depend_on_key_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


# ---------------------------------------------------------------- running


def test_run_resume_and_superseded_records(tmp_path: Path) -> None:
    first = run(plan(tmp_path))
    assert [record.status for record in first] == ["ok"] * 8
    assert run(plan(tmp_path)) == []
    path = record_path(tmp_path, first[3].cell)
    before = {record_path(tmp_path, r.cell): outcome(r) for r in first}
    path.unlink()
    (again,) = run(plan(tmp_path))
    assert outcome(again) == before[path]
    # Another identity in the same place: the old record is kept beside the new one and found again.
    assert find(tmp_path, again.cell, again.identity) is not None
    other = again.model_copy(update={"identity": "f" * 16})
    write_record(tmp_path, other)
    assert find(tmp_path, again.cell, again.identity) is not None
    assert find(tmp_path, again.cell, "f" * 16) is not None
    records, problems = read_records(tmp_path)
    assert len(records) == 8
    assert not problems
    # Asked for again, the old one is the current one.
    keep_current(tmp_path, again, again.parts)
    assert read_record(path) == again
    assert read_record(path.with_name(f"{path.stem}.{'f' * 12}.json")).identity == "f" * 16
    assert len(read_records(tmp_path)[0]) == 8


def test_decoding_settings_split_no_table(tmp_path: Path) -> None:
    """Of one budget name with other decoding: the pooled record is reused and fits the same table."""
    budgets = [FAST.replace("]", f",decoding={{max_new_tokens: {tokens}}}]") for tokens in (5, 9)]
    short, long = (plan(tmp_path, methods="pooled,cot", seeds="0", budget=budget) for budget in budgets)
    assert {planned.parts.version for planned in (*short.cells, *long.cells)} == {short.cells[0].parts.version}
    for a, b in zip(short.cells, long.cells, strict=True):
        same = a.method.name == "pooled"
        assert (a.identity == b.identity) is same
        assert (a.parts.method_version == b.parts.method_version) is same


def test_records_are_complete(tmp_path: Path) -> None:
    for record in run(plan(tmp_path, methods="pooled,dhrd,cot", seeds="0", tasks="multirc")):
        path = record_path(tmp_path, record.cell)
        assert path == tmp_path / "mini7" / "tiny" / record.cell.budget / record.cell.method / "MultiRC" / "seed-0.json"
        back = read_record(path)
        assert back == record
        assert back.rows is not None
        assert back.timing is not None
        assert back.data is not None
        assert set(back.metrics) == {"f1a", "exact_match"}
        assert back.score == pytest.approx(sum(back.metrics.values()) / 2)
        assert len(set(back.rows.cluster or [])) <= len(set(back.rows.group or [])) < len(back.rows.id)
        assert sum(seconds for _, seconds in back.timing.laps) == pytest.approx(back.timing.seconds)
        assert sum(count for count, _ in back.timing.laps) == pytest.approx(back.timing.examples) == len(back.rows.id)
        assert back.timing.qps == pytest.approx(back.timing.examples / back.timing.seconds)
        assert back.timing.tokens_in > 0
        assert (back.timing.tokens_out > 0) == (back.cell.method == "cot")
        assert back.environment.packages["torch"]
        assert back.environment.git is None or len(back.environment.git.commit) == 40
        assert back.request is not None
        assert back.request.methods == ("pooled", "dhrd", "cot")
        text = path.read_text()
        assert str(tmp_path) not in text
        assert str(Path.home()) not in text
        # What the model wrote may quote the input: it stays out of the record.
        assert path.with_suffix(".generations.jsonl").exists() == (back.cell.method == "cot")
        assert json.loads(text)["rows"].keys() <= {"id", "label", "prediction", "cluster", "group", "score"}


def test_a_failed_cell_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "plug-ins"
    folder.mkdir()
    (folder / "sometimes.py").write_text(
        textwrap.dedent(
            """
            import dhrd_bench as db

            @db.register
            class Sometimes(db.Method):
                card = db.MethodCard(name="sometimes", summary="s", objective="o", inference="none", trains=False)

                def fit(self, task, context):
                    if task.card.name == "COPA":
                        raise ValueError("no COPA today")

                def predict(self, examples, context):
                    return db.Predictions(labels=[0] * len(examples))
            """
        )
    )
    plugins.include(folder)
    records = run(plan(tmp_path, methods="sometimes", seeds="0"))
    assert [record.status for record in records] == ["failed", "ok"]
    assert "no COPA today" in (records[0].error or "")
    assert str(tmp_path) not in (records[0].error or "")
    missing = plan(tmp_path, methods="sometimes", seeds="0").missing
    assert [planned.cell.task for planned in missing] == ["COPA"], "a failed cell is tried again"


def test_wrong_predictions_fail_the_cell(tmp_path: Path) -> None:
    from dhrd_bench.grid.scoring import score

    planned = plan(tmp_path, seeds="0", tasks="rte").cells[0]
    count = len(planned.test.examples)
    for bad in (
        Predictions([0] * (count - 1)),
        Predictions([7] * count),
        Predictions([0] * count, scores=[[float("nan")] * 2] * count),
    ):
        with pytest.raises(ValueError):
            score(planned.loaded.card, planned.test, bad)


def test_the_clock_counts_everything_once() -> None:
    clock = Clock()
    clock.start()
    started = time.perf_counter()
    for count in (3, 2):
        time.sleep(0.01)
        clock.lap(count)
    time.sleep(0.01)
    clock.stop(5)
    assert [count for count, _ in clock.laps] == [3, 2]
    assert sum(seconds for _, seconds in clock.laps) == pytest.approx(time.perf_counter() - started, abs=5e-3)
    silent = Clock()
    silent.start()
    silent.stop(4)
    assert [count for count, _ in silent.laps] == [4]


@pytest.mark.slow
def test_kill_in_the_middle_and_run_again_gives_the_undisturbed_table(tmp_path: Path) -> None:
    """SIGKILL, then the same command: the same records as a run in one go. `make chaos` does it more often."""

    short = FAST.replace("]", ",decoding={max_new_tokens: 16}]")

    def command(results: Path) -> list[str]:
        return [
            "run", "--methods", "pooled,dhrd,cot", "--tasks", "copa,rte", "--backbone", "tiny", "--budget", short,
            "--seeds", "2", "--results", str(results),
        ]  # fmt: skip

    victim = subprocess.Popen(
        [sys.executable, "-m", "dhrd_bench.cli", *command(tmp_path / "killed")],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert victim.stdout is not None
    for line in victim.stdout:
        if line.startswith("2/12"):
            break
    time.sleep(0.1)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    done = len(list((tmp_path / "killed").rglob("seed-?.json")))
    assert 2 <= done < 12
    assert f"{done} have a record, {12 - done} to run" in dhrd(*command(tmp_path / "killed")).stdout
    assert dhrd(*command(tmp_path / "whole")).returncode == 0
    killed, whole = (read_records(tmp_path / name)[0] for name in ("killed", "whole"))
    assert [outcome(record) for record in killed] == [outcome(record) for record in whole]


def test_lines_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets are markup to the terminal library."""
    lines = Display(Console(width=120), 2)
    lines.begin("COPA seed 0 dhrd[alpha=0.5]")
    lines.end("failed: no key [rows]")
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("1/2 COPA seed 0 dhrd[alpha=0.5] failed: no key [rows] (0 s, about 0:00:0")


def test_parameterised_methods_have_records_of_their_own(tmp_path: Path) -> None:
    names = [spec.name for spec in method_specs(("dhrd", "dhrd[alpha=0.5]", "dhrd[beta=2, alpha=0.5]"))]
    assert names == ["dhrd", "dhrd[alpha=0.5]", "dhrd[alpha=0.5,beta=2.0]"]
    with pytest.raises(UserError, match=r"no setting 'alhpa'. Did you mean 'alpha'"):
        method_specs(("dhrd[alhpa=1]",))
    with pytest.raises(UserError, match=r"alpha"):
        method_specs(("dhrd[alpha=much]",))
    with pytest.raises(UserError, match="No method"):
        method_specs(())


def test_variants_differ_in_identity_and_place(tmp_path: Path) -> None:
    wanted = "dhrd,dhrd[alpha=0.5],dhrd[alpha=0.25],rationale-mtl,rationale-mtl[predict=score]"
    cells = plan(tmp_path, methods=wanted, tasks="copa", seeds="0").cells
    assert len({planned.identity for planned in cells}) == len(cells) == 5
    assert len({record_path(tmp_path, planned.cell) for planned in cells}) == 5
    assert [planned.method.card.inference for planned in cells][-2:] == ["generate", "score"]
    # A parameter may change what the card says: how long texts may get does not matter to scoring.
    assert ["decoding" in planned.parts.budget for planned in cells][-2:] == [True, False]
