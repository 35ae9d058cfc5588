"""Studies from the file to the findings: frozen, run, interrupted, changed, judged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dhrd_bench import plugins
from dhrd_bench.cli import app
from dhrd_bench.commands.study import app as study_app
from dhrd_bench.contracts import derive_seed
from dhrd_bench.errors import UserError
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.results.store import read_records, write_record
from dhrd_bench.results.tuned import Search, TunedMethod, write_tuned
from dhrd_bench.studies.frozen import frozen_path, read_frozen, write_frozen
from dhrd_bench.studies.study import read_study

SUITE = """\
kind: suite
name: calls
tasks:
  urgency:
    files: {train: train.jsonl, test: test.jsonl}
    fields: [text]
    label: {field: urgent, names: ["no", "yes"]}
    prompts: {native: {text: "{{ text }} Is it urgent?"}}
  noise:
    files: {train: train.jsonl, test: test.jsonl}
    fields: [text]
    label: {field: coin, names: ["no", "yes"]}
    prompts: {native: {text: "{{ text }} Heads?"}}
"""
BUDGET = "smoke[train_rows=60,dev_rows=0,test_rows=90]"


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Path]:
    """A suite with a task that words tell and one that nothing tells."""
    plugins.load_all()  # before: what is registered inside is gone afterwards
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "suite.yaml").write_text(SUITE)
    for split, count in (("train", 90), ("test", 90)):
        rows = [
            {
                "text": f"{split} {n}: the boiler is {'broken' if n % 3 else 'fine'}",
                "urgent": "yes" if n % 3 else "no",
                "coin": "yes" if derive_seed(split, str(n)) % 2 else "no",
                "rationale": f"It is {n}.",
            }
            for n in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with plugins.isolated():
        yield folder


def written(calls: Path, **changes: Any) -> Path:
    """Write a study beside the suite."""
    request = {
        "methods": "majority,tfidf-lr", "suite": "calls", "tasks": "urgency", "backbone": "tiny", "budget": BUDGET,
        "include": [str(calls)], "isolation": "none", "results": str(calls.parent / "results"),
    }  # fmt: skip
    request |= changes.pop("request", {})
    study = {
        "hypothesis": "Words tell what is urgent.",
        "requests": request,
        "primary": [{"method": "tfidf-lr", "baseline": "majority"}],
        "margin": 2.0,
        "seeds": "3",
    }
    path = calls.parent / "words.yaml"
    wanted = {key: value for key, value in (study | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(wanted, sort_keys=False))
    return path


def command(*arguments: object, code: int = 0) -> str:
    """Run ``dhrd-bench study`` in this process; return what it prints, or the user error that it ends with."""
    done = CliRunner().invoke(study_app, [*map(str, arguments)])
    if isinstance(done.exception, UserError):
        assert code == 2, done.exception
        return str(done.exception)
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def reported(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("report", path, "--format", "json"))
    return found


def results(path: Path) -> Path:
    return path.parent / "results"


# ---------------------------------------------------------------- from the file to the finding


def test_a_study_is_frozen_run_in_pieces_and_judged(calls: Path, tmp_path: Path) -> None:
    path = written(calls)
    said = command("freeze", path)
    assert "6 cells, 1 primary contrast." in said
    assert "still holds" in command("freeze", path)
    results(path).mkdir()
    before = reported(path)
    assert before["cells"] == {"done": 0, "of": 6}

    # A part, by the ordinary command: its records are the study's.
    request = yaml.safe_load(path.read_text())["requests"]
    config = tmp_path / "request.yaml"
    config.write_text(yaml.safe_dump(request))
    part = CliRunner().invoke(app, ["run", "--config", str(config), "--seeds", "1"], catch_exceptions=False)
    assert part.exit_code == 0, part.output
    assert "Incomplete: 2 of 6 cells" in command("run", path, "--stop-after", "0.0000001", code=1)
    halfway = reported(path)
    assert halfway["primary"][0]["verdict"] is None
    assert "difference" not in halfway["primary"][0]
    assert "withheld" in command("report", path)

    assert "4 to run" in command("run", path)
    assert "0 to run" in command("run", path)
    found = reported(path)
    assert (found["status"], found["stopped"]) == ("confirmatory", True)
    (primary,) = found["primary"]
    assert (primary["verdict"], primary["seeds"]) == ("better", 3)
    assert primary["difference"]["low"] > 0
    assert primary["p_corrected"] <= 0.05

    texts = [command("report", path, "--format", "markdown") for _ in range(2)]
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(results(path), elsewhere)
    texts.append(command("report", path, "--results", elsewhere, "--format", "markdown"))
    assert texts[0] == texts[1] == texts[2]
    assert "**better**" in texts[0]
    scores = [f"{primary[side]['value']:.1f}" for side in ("score", "baseline_score")]
    assert f"{primary['method']} scores higher than {primary['baseline']}" in texts[0]
    assert f": {scores[0]} and {scores[1]}, a difference of +" in texts[0]
    assert f"| {scores[0]} | {scores[1]} |" in texts[0]
    assert str(tmp_path) not in texts[0]
    command("report", path, "--format", "markdown", "--output", tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text() == texts[0]


def test_what_is_not_frozen_is_exploratory(calls: Path) -> None:
    path = written(calls)
    assert "Freeze the study first" in command("run", path, code=2)
    results(path).mkdir()
    assert reported(path)["exploratory_because"] == ["It was not frozen before it was run."]


# ---------------------------------------------------------------- what was changed


def test_a_changed_plan_is_not_run_and_its_findings_are_exploratory(calls: Path) -> None:
    path = written(calls)
    command("freeze", path)
    command("run", path)
    written(calls, margin=5.0)
    assert "margin: 5.0, not 2.0" in command("run", path, code=2)
    assert "margin: 5.0, not 2.0" in command("freeze", path, code=2)
    found = reported(path)
    assert found["status"] == "exploratory"
    assert "margin: 5.0, not 2.0" in found["exploratory_because"][0]

    command("freeze", path, "--amend", "the margin was a slip")
    command("run", path)
    (why,) = reported(path)["exploratory_because"]
    assert "the margin was a slip: margin: 5.0, not 2.0" in why


def test_another_code_or_data_is_named_and_not_run(calls: Path) -> None:
    path = written(calls)
    command("freeze", path)
    rows = (calls / "train.jsonl").read_text()
    (calls / "train.jsonl").write_text(rows.replace("boiler", "heater"))
    said = command("run", path, code=2)
    assert "task urgency of calls" in said
    assert "6 cells are others" in said


def test_what_was_scored_before_cannot_be_frozen(calls: Path) -> None:
    path = written(calls)
    command("freeze", path)
    command("run", path)
    frozen_path(path).unlink()
    said = command("freeze", path, code=2)
    assert "6 of 6 cells have been scored before" in said
    assert "other seeds than 0, 1, 2" in said
    assert not frozen_path(path).exists()
    assert "no" in command("freeze", path, "--amend", "why not", code=2)


def test_records_from_before_the_freezing_make_it_exploratory(calls: Path) -> None:
    path = written(calls)
    command("freeze", path)
    command("run", path)
    frozen = read_frozen(frozen_path(path))
    write_frozen(frozen.model_copy(update={"time": "2999-01-01T00:00:00+00:00"}), frozen_path(path))
    found = reported(path)
    assert found["status"] == "exploratory"
    assert "6 of 6 records were made before it was frozen" in found["exploratory_because"][0]


def test_a_frozen_file_that_was_edited_is_refused(calls: Path) -> None:
    path = written(calls)
    command("freeze", path)
    where = frozen_path(path)
    text = where.read_text()
    where.write_text(text.replace('"margin": 2.0', '"margin": 0.5'))
    assert "not as it was written" in command("report", path, code=2)
    document = json.loads(without_checksum(text.encode()))
    where.write_text(with_checksum(json.dumps(document | {"looks": "none"})))
    assert "looks" in command("report", path, code=2)


def test_records_of_another_identity_are_none_of_the_study(calls: Path) -> None:
    path = written(calls)
    command("freeze", path)
    command("run", path)
    frozen = read_frozen(frozen_path(path))
    cells = tuple(each.model_copy(update={"identity": "0" * 16}) for each in frozen.cells[:1]) + frozen.cells[1:]
    write_frozen(frozen.model_copy(update={"cells": cells}), frozen_path(path))
    found = reported(path)
    assert found["cells"] == {"done": 5, "of": 6}
    assert found["primary"][0]["verdict"] is None
    assert "1 cells have the record of another identity" in found["notes"][0]


def test_a_contrast_names_methods_without_the_settings_that_a_search_has_chosen(calls: Path) -> None:
    tuned = calls.parent / "tuning.yaml"
    choices = {"majority": "majority", "tfidf-lr": "tfidf-lr[ngrams=1]"}
    search = Search(
        suite="calls", tasks=["urgency"], backbone="tiny", budget=BUDGET, seeds=[0], dev_rows={"urgency": 9},
        sampler="random", random_seed=0, trials=1,
        methods={name: TunedMethod(identity="i", choice=chosen, trials=[chosen]) for name, chosen in choices.items()},
    )  # fmt: skip
    write_tuned(search, tuned)
    path = written(calls, request={"methods": "", "tuned": str(tuned)}, seeds="1")
    command("freeze", path)
    command("run", path)
    (primary,) = reported(path)["primary"]
    assert (primary["method"], primary["verdict"]) == ("tfidf-lr[ngrams=1]", "better")

    write_tuned(search.model_copy(update={"trials": 2}), tuned)
    assert "tuning file tuning.yaml" in command("run", path, code=2)


def test_records_that_cannot_be_compared_make_it_exploratory(calls: Path) -> None:
    path = written(calls, seeds="2")
    command("freeze", path)
    command("run", path)
    one = next(each for each in read_records(results(path))[0] if each.cell.method == "tfidf-lr")
    assert one.rows is not None
    fewer = {name: column[1:] if column else None for name, column in one.rows.model_dump().items()}
    write_record(results(path), one.model_copy(update={"rows": one.rows.model_validate(fewer)}))
    found = reported(path)
    assert found["status"] == "exploratory"
    assert "1 of 90 examples left out" in found["exploratory_because"][0]


# ---------------------------------------------------------------- looks


def test_a_sequential_study_stops_at_the_look_that_decides_and_no_later(calls: Path) -> None:
    path = written(calls, seeds=None, stop="group-sequential", looks=[2, 4])
    command("freeze", path)
    said = command("run", path)
    found = reported(path)
    assert found["stopped"]
    assert found["look"] in (2, 4)
    assert f"Stopped by its rule at {found['look']} seeds" in said
    assert len(read_records(results(path))[0]) == 2 * found["look"]
    assert found["primary"][0]["verdict"] == "better"
    assert "0 to run" in command("run", path)


def test_a_sequential_study_goes_on_to_the_last_look_where_nothing_is_shown(calls: Path) -> None:
    path = written(calls, request={"tasks": "noise"}, seeds="10-13", stop="group-sequential", looks=[2, 4], margin=0.1)
    command("freeze", path)
    command("run", path)
    found = reported(path)
    assert (found["stopped"], found["look"], found["primary"][0]["verdict"]) == (True, 4, "undecided")
    assert {record.cell.seed for record in read_records(results(path))[0]} == {10, 11, 12, 13}


# ---------------------------------------------------------------- several contrasts, curves


def test_contrasts_are_over_the_tasks_they_name_and_secondary_ones_are_a_family_of_their_own(calls: Path) -> None:
    over = {"method": "tfidf-lr", "baseline": "majority"}
    path = written(
        calls, request={"tasks": "urgency,noise"}, secondary=[over],
        primary=[over | {"tasks": "urgency"}, over | {"tasks": ["noise"]}],
    )  # fmt: skip
    command("freeze", path)
    command("run", path)
    found = reported(path)
    assert [each["tasks"] for each in found["primary"]] == [["urgency"], ["noise"]]
    assert found["primary"][0]["verdict"] == "better"
    (both,) = found["secondary"]
    one, other = (each["difference"]["value"] for each in found["primary"])
    assert both["difference"]["value"] == pytest.approx((one + other) / 2)
    assert both["p_corrected"] == both["p"]
    assert found["primary"][0]["p_corrected"] == pytest.approx(2 * found["primary"][0]["p"])


def test_a_curve_over_rows_has_a_point_a_budget(calls: Path) -> None:
    path = written(calls, curve={"rows": [60, 6]}, seeds="1")
    command("freeze", path)
    command("run", path)
    points = reported(path)["primary"]
    assert [(each["point"], each["train_rows"]) for each in points] == [(6.0, 6.0), (60.0, 60.0)]
    assert "train rows" in command("report", path)


def test_cells_of_a_curve_may_share_their_identity_and_have_a_record_each(calls: Path) -> None:
    path = written(calls, curve={"rationales": [0.5, 1]}, seeds="1")  # neither method reads any
    command("freeze", path)
    command("run", path)
    found = reported(path)
    assert found["cells"] == {"done": 4, "of": 4}
    assert [(each["point"], each["verdict"]) for each in found["primary"]] == [(0.5, "better"), (1.0, "better")]
    one, other = (each["difference"] for each in found["primary"])
    assert one == other


# ---------------------------------------------------------------- files that are none


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"margn": 1}, "margn.*Did you mean 'margin'"),
        ({"request": {"methds": "a"}}, "methds.*Did you mean 'methods'"),
        ({"primary": {"method": "a", "basline": "b"}}, "basline.*Did you mean 'baseline'"),
        ({"margin": 0}, "margin"),
        ({"looks": [2, 3]}, "looks"),
        ({"stop": "group-sequential"}, "looks"),
        ({"stop": "group-sequential", "looks": [1, 2], "seeds": None}, "rising"),
        ({"stop": "group-sequential", "looks": [2, 4]}, "last look is at 4"),
        ({"seeds": "many"}, "words.yaml.*many"),
        ({"request": {"force": True}}, "no 'force'"),
        ({"curve": {"rows": [1, 2], "rationales": [0, 1]}}, "'rows' or 'rationales'"),
        ({"hypothesis": None}, "hypothesis"),
    ],
)
def test_a_mistake_in_a_study_is_named_with_its_place(calls: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        read_study(written(calls, **changes))
    assert "words.yaml" in str(told.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"primary": {"method": "tfidf-lr", "baseline": "cot"}}, "No request runs tfidf-lr and cot"),
        ({"primary": {"method": "tfidf", "baseline": "majority"}}, "Did you mean 'tfidf-lr'"),
        ({"primary": {"method": "tfidf-lr", "baseline": "majority", "tasks": "urgncy"}}, "urgncy.*urgency"),
        ({"primary": {"method": "tfidf-lr", "baseline": "majority", "tasks": "noise"}}, "on noise"),
    ],
)
def test_a_contrast_that_no_request_runs_is_refused(calls: Path, changes: dict[str, Any], words: str) -> None:
    import re

    assert re.search(words, command("freeze", written(calls, **changes), code=2))


def test_the_studies_of_the_project_can_be_read() -> None:
    paths = sorted((Path(__file__).parent.parent / "studies").glob("*.yaml"))
    assert paths
    for path in paths:
        read_study(path)
