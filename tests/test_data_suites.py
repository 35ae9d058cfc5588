"""The shipped suites: rows, rationales, prompts; and the engine's promise that hub and release agree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dhrd_bench.data.rationales import RationaleStore
from dhrd_bench.data.rows import input_hash
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError

ROOT = Path(__file__).parent.parent
TASKS = ["BoolQ", "CB", "COPA", "MultiRC", "RTE", "WiC", "WSC"]
PROMPTS = ["native", "paper"]


@pytest.fixture(scope="module")
def mini7() -> Suite:
    return Suite.named("mini7")


@pytest.fixture(scope="module")
def superglue7() -> Suite:
    return Suite.named("superglue7")


def test_both_suites_have_the_seven_tasks(mini7: Suite, superglue7: Suite) -> None:
    assert mini7.task_names() == superglue7.task_names() == TASKS
    assert mini7.prompt_names() == superglue7.prompt_names() == PROMPTS


def test_tasks_are_found_case_aside_once_each_and_suggested(mini7: Suite) -> None:
    assert mini7.resolve_tasks(None) == TASKS
    assert mini7.resolve_tasks(["rte", "COPA", "RTE"]) == ["RTE", "COPA"]
    with pytest.raises(UserError, match=r"no task 'multic'\. Did you mean 'MultiRC'"):
        mini7.resolve_tasks(["multic"])
    with pytest.raises(UserError, match="No task was named"):
        mini7.resolve_tasks([])
    with pytest.raises(UserError, match=r"no prompt 'papr'\. Did you mean 'paper'"):
        mini7.load("RTE", prompt="papr")


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("task", TASKS)
def test_mini7_loads_every_row_with_a_rationale(mini7: Suite, task: str, prompt: str) -> None:
    loaded = mini7.load(task, prompt=prompt)
    assert (len(loaded.train), len(loaded.test)) == {"MultiRC": (128, 81)}.get(task, (120, 80))
    assert loaded.source.kind == "embedded"
    assert loaded.rationale_coverage == 1.0
    assert loaded.notes == ()
    assert loaded.card.licence == "Apache-2.0"
    expected = {("CB", "paper"): 3, ("COPA", "paper"): 2}.get((task, prompt), 1)
    assert loaded.test.candidates == expected
    assert len(loaded.test.examples) == expected * len(loaded.test)
    for row in loaded.train:
        assert len(row.examples) == expected
        assert all(labeled.rationale == row.rationale for labeled in row.examples)
        if expected > 1:
            assert [labeled.label for labeled in row.examples] == [int(k == row.label) for k in range(expected)]
            assert loaded.card.labels == ("no", "yes")
        else:
            assert row.examples[0].label == row.label


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("task", TASKS)
def test_inputs_end_at_the_question_and_answers_differ_at_once(mini7: Suite, task: str, prompt: str) -> None:
    loaded = mini7.load(task, prompt=prompt)
    for example in loaded.test.examples:
        assert example.prompt.text.endswith("?")
        assert "{{" not in example.prompt.text
        assert "\x00" not in example.prompt.text
    assert len({example.id for example in loaded.test.examples}) == len(loaded.test.examples)
    assert len({answer[0] for answer in loaded.card.answers}) == len(loaded.card.labels)
    assert loaded.card.answer.strip() in loaded.card.instruction


def test_clusters_and_groups_are_multircs_paragraphs_and_questions(mini7: Suite) -> None:
    test = mini7.load("MultiRC").test
    assert test.clusters is not None
    assert test.groups is not None
    assert (len(set(test.clusters)), len(set(test.groups)), len(test)) == (10, 23, 81)
    assert mini7.load("RTE").test.clusters is None


def test_no_suite_folder_holds_superglue_rows() -> None:
    stores = {card.parent for card in ROOT.glob("suites/*/*/card.yaml")}  # a line of these has no field of a row
    kept = {path.relative_to(ROOT).parts[1] for path in ROOT.glob("suites/*/*/*.jsonl") if path.parent not in stores}
    assert kept == {"mini7"}
    assert all(RationaleStore(store).rows(task) for store in stores for task in RationaleStore(store).tasks())


def test_the_rationale_corpus_is_whole() -> None:
    counts = {
        path.stem: len(path.read_text().splitlines()) for path in ROOT.glob("suites/superglue7/rationales/*.jsonl")
    }
    assert counts == {"BoolQ": 400, "CB": 250, "COPA": 400, "MultiRC": 601, "RTE": 600, "WSC": 554, "WiC": 600}
    assert sum(counts.values()) == 3405


def test_importing_and_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dhrd_bench.data.suite import Suite; Suite.named('mini7').load('RTE');"
        "import dhrd_bench.data.splits, dhrd_bench.grid.scoring;"
        "assert not {'torch', 'datasets', 'evaluate', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- the release and the hub give the same rows


def _flat(task: str, row: dict) -> list[dict]:
    """Rows as the hub has them, written by hand and not by the engine."""
    if task == "MultiRC":
        return [
            {
                "paragraph": row["passage"]["text"],
                "question": question["question"],
                "answer": answer["text"],
                "idx": {"paragraph": row["idx"], "question": question["idx"], "answer": answer["idx"]},
                "label": answer["label"],
            }
            for question in row["passage"]["questions"]
            for answer in question["answers"]
        ]
    row = {**row, **row.pop("target", {})}
    names = {"CB": ["entailment", "contradiction", "neutral"], "RTE": ["entailment", "not_entailment"]}.get(task)
    label = names.index(row["label"]) if names else int(row["label"])
    return [{key: value for key, value in row.items() if key not in ("rationale", "version")} | {"label": label}]


CLASSES = {
    "CB": ["entailment", "contradiction", "neutral"],
    "COPA": ["choice1", "choice2"],
    "RTE": ["entailment", "not_entailment"],
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, superglue7: Suite) -> Path:
    """A stand-in for the hub's data set: parquet files of the seven configs, made of mini7's rows."""
    from datasets import ClassLabel, Dataset

    root = tmp_path_factory.mktemp("hub")
    configs = []
    for task in TASKS:
        config = superglue7.card.tasks[task].hub.config
        files = []
        for split, file in (("train", "train"), ("validation", "val")):
            lines = (ROOT / "suites/mini7" / task / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [flat for line in lines for flat in _flat(task, json.loads(line))]
            data = Dataset.from_list(rows).cast_column("label", ClassLabel(names=CLASSES.get(task, ["False", "True"])))
            (root / config).mkdir(exist_ok=True)
            data.to_parquet(root / config / f"{split}.parquet")
            files.append(f"    - split: {split}\n      path: {config}/{split}.parquet\n")
        configs.append(f"- config_name: {config}\n  data_files:\n{''.join(files)}")
    (root / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    return root


@pytest.mark.parametrize("task", TASKS)
def test_hub_and_release_give_the_same_rows(
    task: str, hub: Path, superglue7: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    genuine = datasets.load_dataset
    asked = []

    def from_stand_in(path: str, config: str, **options: object) -> object:
        asked.append((path, config, options.pop("revision")))
        return genuine(str(hub), config, cache_dir=str(tmp_path), **options)

    monkeypatch.setattr(datasets, "load_dataset", from_stand_in)
    monkeypatch.delenv("DHRD_DATA_DIR", raising=False)
    from_hub = superglue7.load(task)
    from_files = superglue7.load(task, data_dir=ROOT / "suites/mini7")
    assert from_hub.source.kind == "hub"
    assert from_hub.source.revision == "3de24cf8022e94f4ee4b9d55a6f539891524d646"
    assert {path for path, _, _ in asked} == {"aps/super_glue"}
    assert {revision for _, _, revision in asked} == {from_hub.source.revision}
    assert from_files.source.kind == "data-dir"
    assert from_hub.fingerprint == from_files.fingerprint == Suite.named("mini7").load(task).fingerprint
    assert from_hub.test == from_files.test
    # The corpus was written for other rows, which the hashes tell: none of it may be used.
    assert from_hub.rationale_coverage == 0
    assert sum(int(note.split()[0]) for note in from_hub.notes) > 0


def test_an_unreachable_hub_is_one_clear_error(superglue7: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach it\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.delenv("DHRD_DATA_DIR", raising=False)
    with pytest.raises(UserError) as caught:
        superglue7.load("RTE")
    message = str(caught.value)
    assert "\n" not in message
    assert "DHRD_DATA_DIR" in message
    assert "aps/super_glue" in message


# ---------------------------------------------------------------- the genuine release


GENUINE = {
    "BoolQ": (None, 3270, 400), "CB": (250, 56, 250), "COPA": (400, 100, 400), "MultiRC": (27243, 4848, 601),
    "RTE": (2490, 277, 600), "WiC": (5428, 638, 600), "WSC": (554, 104, 554),
}  # fmt: skip


@pytest.mark.superglue
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("task", TASKS)
def test_superglue_loads_whole_and_every_rationale_joins(superglue7: Suite, task: str, prompt: str) -> None:
    loaded = superglue7.load(task, prompt=prompt, data_dir=Path(os.environ["DHRD_DATA_DIR"]))
    train, test, rationales = GENUINE[task]
    assert len(loaded.test) == test
    assert len(loaded.train) == (train or len(loaded.train))
    assert sum(row.rationale is not None for row in loaded.train) == rationales
    assert not any("not used" in note or "does not have" in note for note in loaded.notes)
    if loaded.test.clusters and loaded.test.groups:
        assert (len(set(loaded.test.clusters)), len(set(loaded.test.groups))) == (83, 953)


@pytest.mark.superglue
def test_the_marked_pronoun_is_the_releases_own(superglue7: Suite) -> None:
    folder = Path(os.environ["DHRD_DATA_DIR"])
    for row in superglue7.load("WSC", data_dir=folder).train:
        (marked,) = re.findall(r"\*(.+?)\*", row.examples[0].example.prompt.text.splitlines()[0])
        assert marked == row.fields["span2_text"]


def test_the_hash_is_that_of_the_data_card() -> None:
    # printf 'a\x1fb' | sha256sum
    assert input_hash(["a", "b"]) == "f04cdced9736a69d"
