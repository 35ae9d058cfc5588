"""One request from the command line, a file or Python to the record; a cell run again; records migrated."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from command_line import dhrd
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dhrd_bench.cards import Reference, canonical
from dhrd_bench.commands.records import record_schema
from dhrd_bench.commands.rerun import rerun_command
from dhrd_bench.contracts import Budget, Decoding, Lora
from dhrd_bench.errors import UserError
from dhrd_bench.grid.migrate import migrate, syntax_tree_code
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.rerun import compare, plan_again
from dhrd_bench.grid.run import run_plan
from dhrd_bench.progress import Display
from dhrd_bench.registry import methods
from dhrd_bench.request import Options, RunRequest, read_request
from dhrd_bench.results.schema import CellRecord, Rows
from dhrd_bench.results.store import read_record, read_records, record_path

ROOT = Path(__file__).parent.parent
FAST = "smoke[train_rows=8,dev_rows=3,test_rows=8,epochs=1,tuning=top:1,max_length=96]"


def request(results: Path, **changes: Any) -> RunRequest:
    wanted: dict[str, Any] = {"methods": "pooled", "tasks": "rte", "backbone": "tiny", "budget": FAST, "seeds": "1"}
    return RunRequest(results=results, **(wanted | changes))


def ran(results: Path, **changes: Any) -> list[CellRecord]:
    plan = make_plan(request(results, **changes))
    return run_plan(plan, Display(Console(quiet=True), len(plan.cells)))


# ---------------------------------------------------------------- references


budgets = st.builds(
    Budget,
    name=st.just("b"),
    train_rows=st.none() | st.integers(1, 99),
    learning_rate=st.floats(1e-9, 1.0),
    require_rationale=st.booleans(),
    description=st.text(alphabet='ab ,[]{}=:"é\\', max_size=12),
    tuning=st.sampled_from(["lora", "top:3", "head"]),
    lora=st.builds(Lora, r=st.integers(1, 64), targets=st.tuples(st.sampled_from(["q_proj", "v_proj"]))),
    decoding=st.builds(Decoding, temperature=st.floats(0, 2)),
)


@given(budgets)
def test_the_one_spelling_of_a_card_is_read_back_as_the_card(budget: Budget) -> None:
    default = Budget(name="b")
    spelled = canonical("b", budget, default)
    if '"' not in budget.description and "\\" not in budget.description:
        assert Reference.parse(str(spelled)).apply(default, "Budget") == budget
    assert canonical("b", spelled.apply(default, "Budget"), default) == spelled


@pytest.mark.parametrize("text", ["a[b", "a]", "a[b]c", "[b=1]", "a[b]", "a[b=1,b=2]", ""])
def test_references_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match="Cannot read"):
        Reference.parse(text)


def test_a_nested_setting_keeps_what_is_not_named() -> None:
    card = Budget(name="b", decoding=Decoding(max_new_tokens=7))
    changed = Reference.parse("b[decoding={temperature: 1, top_p: 0.5}]").apply(card, "Budget")
    assert changed.decoding == Decoding(max_new_tokens=7, temperature=1.0, top_p=0.5)


# ---------------------------------------------------------------- requests


def test_the_printed_request_plans_the_same_cells(tmp_path: Path) -> None:
    arguments = [
        "run", "--methods", "pooled, dhrd[alpha=0.5]", "--tasks", "rte, copa", "--backbone", "tiny", "--budget", FAST,
        "--seeds", "0,3", "--prompt", "paper", "--results", str(tmp_path / "results"),
    ]  # fmt: skip
    printed = dhrd(*arguments, "--dry-run", "--format", "yaml")
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "run.yaml").write_text(printed.stdout)
    again = dhrd("run", "--config", str(tmp_path / "run.yaml"), "--dry-run", "--format", "yaml")
    assert again.stdout == printed.stdout
    asked = read_request(tmp_path / "run.yaml", Options())
    direct = RunRequest(
        methods="pooled,dhrd[alpha=0.5]", tasks="rte,copa", backbone="tiny", budget=FAST, seeds="0,3",
        suite="mini7[prompt=paper]", results=tmp_path / "results",
    )  # fmt: skip
    identities = [cell.identity for cell in make_plan(asked).cells]
    assert identities == [cell.identity for cell in make_plan(direct).cells]
    assert len(set(identities)) == 8


def test_flags_lie_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("methods: [pooled, 'dhrd[alpha=0.5]']\nseeds: 2-4\nbudget: laptop\n")
    laid = read_request(path, Options(budget="smoke", suite=None), Options(seeds="0", throughput="offline"))
    assert laid.methods == ("pooled", "dhrd[alpha=0.5]")
    assert (laid.seeds, laid.budget, laid.suite, laid.throughput) == ((2, 3, 4), "smoke", "mini7", ("offline",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metods: pooled", ["run.yaml", "metods", "Did you mean 'methods'"]),
        ("- pooled", ["run.yaml", "mapping"]),
        ("methods: [", ["run.yaml"]),
        ("methods: pooled\nseeds: one", ["seeds", "one"]),
        ("methods: pooled\nthroughput: offlin", ["offlin", "offline"]),
        ("methods: pooled\nexecutor: cloud", ["executor"]),
        ("methods: pooled\nsuite: mini7[prompt=paper]\nprompt: native", ["Two prompts"]),
    ],
)
def test_a_mistake_in_the_file_is_one_line(text: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    done = dhrd("run", "--config", "run.yaml", "--dry-run", "--format", "yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert all(word in line for word in words), line


def test_a_record_stores_its_request_without_places(tmp_path: Path) -> None:
    (record,) = ran(tmp_path / "results")
    text = record_path(tmp_path / "results", record.cell).read_text()
    assert record.request is not None
    assert (record.request.methods, record.request.seeds) == (("pooled",), (0,))
    assert str(tmp_path) not in text


@pytest.mark.slow
def test_a_misspelt_keyword_is_a_type_error(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        textwrap.dedent(
            """
            import dhrd_bench as db
            from dhrd_bench.grid.plan import make_plan
            from dhrd_bench.request import Options

            db.RunRequest(methods=("pooled",), task=("RTE",))
            Options(metods="pooled")
            make_plan(request=db.RunRequest(), sedes=1)
            db.plan(db.RunRequest(budjet="smoke"))
            """
        )
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), "wrong.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    for word in ("task", "metods", "sedes", "budjet"):
        assert f'"{word}"' in done.stdout, done.stdout


# ---------------------------------------------------------------- a cell run again


def test_a_cell_run_again_is_the_same_to_the_last_digit(tmp_path: Path) -> None:
    (record,) = ran(tmp_path, methods="dhrd[alpha=0.5]", suite="mini7[prompt=paper]")
    path = record_path(tmp_path, record.cell)
    before = path.read_bytes()
    console = Console(record=True, width=200)
    assert rerun_command(path, Options(), console) == 0
    text = console.export_text()
    assert "All 8 predictions are identical." in text
    assert "differ" not in text
    assert path.read_bytes() == before


def test_what_differs_is_said(tmp_path: Path) -> None:
    (record,) = ran(tmp_path)
    assert record.rows is not None
    packages = record.environment.packages | {"torch": "1.0"}
    flipped = [1 - label for label in record.rows.prediction]
    changed = record.model_copy(
        update={
            "environment": record.environment.model_copy(update={"packages": packages}),
            "rows": record.rows.model_copy(update={"prediction": flipped}),
        }
    )
    path = tmp_path / "seed-0.json"
    path.write_text(changed.model_dump_json(exclude_none=True))
    console = Console(record=True, width=200)
    assert rerun_command(path, Options(), console) == 1
    assert "packages.torch: 1.0 -> " in console.export_text()
    with pytest.raises(UserError, match="no record"):
        rerun_command(tmp_path / "nothing.json", Options(), console)


def test_how_many_predictions_may_flip_depends_on_the_dtype() -> None:
    def rows(*predictions: int) -> Rows:
        names = [str(number) for number in range(len(predictions))]
        return Rows(id=names, label=[0] * len(names), prediction=list(predictions))

    base = rows(*[0] * 50)
    assert compare(base, base, "float32").identical
    one, four, six = (compare(base, rows(*[1] * flips, *[0] * (50 - flips)), "bfloat16") for flips in (1, 4, 6))
    assert (one.close, four.close, six.close) == (True, True, False)
    assert compare(base, rows(1, *[0] * 49), "float32").close
    assert not compare(base, rows(1, 1, *[0] * 48), "float32").close
    with pytest.raises(UserError, match="different rows"):
        compare(base, rows(0), "float32")


def test_the_dtype_that_a_machine_chose_is_chosen_again(tmp_path: Path) -> None:
    (record,) = ran(tmp_path, backbone="tiny[dtype=bfloat16]")
    as_chosen = record.model_copy(update={"cell": record.cell.model_copy(update={"backbone": "tiny"})})
    (planned,) = plan_again(as_chosen, Options()).cells
    assert planned.identity == record.identity


# ---------------------------------------------------------------- records of earlier releases


def test_old_records_are_migrated_to_what_a_plan_asks_for(tmp_path: Path) -> None:
    made = ran(tmp_path, methods="pooled,dhrd")
    wanted = {record.cell.method: record.identity for record in made}
    for record in made:
        path = record_path(tmp_path, record.cell)
        body = json.loads(path.read_text())
        body["schema_version"] = "1.0.0"
        body["identity"] = "0" * 16
        body["parts"]["method"]["code"] = syntax_tree_code(methods.get(record.cell.method))
        del body["request"], body["checksum"]
        path.write_text(json.dumps(body))
    aside = record_path(tmp_path, made[0].cell).with_name(f"seed-0.{'0' * 12}.json")
    aside.write_text(record_path(tmp_path, made[0].cell).read_text())
    tried = list(migrate(tmp_path, write=False))
    assert [each.state for each in tried] == ["migrated"] * 3
    assert {record.identity for record in read_records(tmp_path)[0]} == {"0" * 16}
    list(migrate(tmp_path, write=True))
    assert not aside.exists()
    assert aside.with_name(f"seed-0.{wanted[made[0].cell.method][:12]}.json").exists()
    records, problems = read_records(tmp_path)
    assert not problems
    assert {record.cell.method: record.identity for record in records} == wanted
    assert [record.parts for record in records] == [
        read_record(record_path(tmp_path, record.cell)).parts for record in records
    ]
    assert make_plan(request(tmp_path, methods="pooled,dhrd")).missing == []
    assert {each.state for each in migrate(tmp_path, write=True)} == {"current"}


def test_a_record_of_another_source_is_left_as_it_is(tmp_path: Path) -> None:
    (record,) = ran(tmp_path)
    path = record_path(tmp_path, record.cell)
    body = json.loads(path.read_text()) | {"schema_version": "1.0.0"}
    body["parts"]["method"]["code"] = "f" * 16
    del body["checksum"]
    path.write_text(json.dumps(body))
    done = dhrd("results", "migrate", "--results", str(tmp_path))
    assert done.returncode == 1
    assert "another source" in done.stdout
    assert json.loads(path.read_text()) == body


def test_the_published_schema_is_that_of_the_code() -> None:
    """If this fails: dhrd-bench records schema --output docs/records.schema.json"""
    assert json.loads((ROOT / "docs" / "records.schema.json").read_text()) == record_schema()


def test_the_schema_describes_the_committed_records() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = next((ROOT / "results").rglob("seed-0.json"))
    jsonschema.validate(json.loads(path.read_text()), record_schema())


@pytest.mark.parametrize("text", [":", "@x", "...", "---", "-", "a:b", "yes", "1.0", "plain"])
def test_a_setting_that_is_no_plain_yaml_is_quoted(text: str) -> None:
    spelled = canonical("b", Budget(name="b", description=text), Budget(name="b"))
    assert Reference.parse(str(spelled)) == spelled
    assert spelled.apply(Budget(name="b"), "Budget").description == text
