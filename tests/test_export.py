"""A record's classifier in the hands of others: the answers are the record's, whoever loads it."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import dhrd, refused
from rich.console import Console

from dhrd_bench.backbones import load as load_backbone
from dhrd_bench.backbones import resolve
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.exporting import load, onnx
from dhrd_bench.exporting.export import export
from dhrd_bench.exporting.hub import push
from dhrd_bench.exporting.model import PooledClassifier, PooledConfig
from dhrd_bench.finetuned import FineTuned
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.grid.run import run_plan
from dhrd_bench.modeling.pooling import make_pool, pooled
from dhrd_bench.progress import Display
from dhrd_bench.request import Options, RunRequest
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import record_path

ROOT = Path(__file__).parent.parent
SHORT = "smoke[dev_rows=4,epochs=1,max_length=1024,test_rows={rows},train_rows=8,tuning={tuning}]"
QUIET = Console(quiet=True)


def silent(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
    """Show nothing."""


class Made:
    """Records of one run, and the folders that were exported of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: dict[str, CellRecord] = {}
        self.folders: dict[str, Path] = {}
        self.numbers = count()

    def run(
        self, methods: str, rows: int, tuning: str = "top:1", backbone: str = "tiny", task: str = "ordering"
    ) -> None:
        budget = SHORT.format(rows=rows, tuning=tuning)
        suite = "derivations" if task == "ordering" else "mini7[prompt=paper]" if task == "CB" else "mini7"
        request = RunRequest(
            results=self.root / "results", methods=methods, suite=suite, tasks=task, backbone=backbone, budget=budget
        )
        plan = make_plan(request)
        for record in run_plan(plan, Display(QUIET, len(plan.missing))):
            assert record.status == "ok", record.error
            name = f"{backbone} {record.cell.method} {record.cell.task}"
            self.records[name + (" lora" if tuning == "lora" else "")] = record

    def path(self, name: str) -> Path:
        return record_path(self.root / "results", self.records[name].cell)

    def export(self, name: str, **options: Any) -> Path:
        folder = self.root / f"exported {next(self.numbers)}"
        export(self.path(name), folder, Options(), silent, **options)
        self.folders[name] = folder
        return folder

    def texts(self, name: str) -> list[str]:
        cell = self.records[name].cell
        loaded = Suite.named("derivations" if cell.task == "ordering" else "mini7").load(cell.task)
        prompts = dict(zip(loaded.test.ids, loaded.test.examples, strict=True))
        rows = self.records[name].rows
        assert rows is not None
        return [prompts[row].prompt.text for row in rows.id]


STOCK, OWN = "tiny pooled[head=unbiased] ordering", "tiny dhrd[head=linear,pause=2,pooling=attention] ordering"
OTHERS = (
    ("tiny", "pooled,embedding-lr"),
    ("tiny-encoder", "pooled[pause=1],pooled[head=linear,pooling=mean]"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    root = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DHRD_CACHE", str(root / "cache"))
        made = Made(root)
        made.run("pooled[head=unbiased]", 200)
        made.run("dhrd[head=linear,pause=2,pooling=attention]", 16)
        for name in (STOCK, OWN):
            made.export(name)
        yield made


def shares(record: CellRecord) -> np.ndarray:
    assert record.rows is not None
    assert record.rows.score is not None
    return torch.softmax(torch.tensor(record.rows.score, dtype=torch.float64), -1).numpy()


def in_a_pipeline(made: Made, names: list[str]) -> None:
    """Fail unless a pipeline in another process answers as the records do; the first one without this project."""
    texts = {str(made.folders[name]): made.texts(name) for name in names}
    first, *rest = texts
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/use_exported.py"), first, "--", *rest], input=json.dumps(texts),
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in names:
        record, answers = made.records[name], found[str(made.folders[name])]
        labels = record.task.labels
        theirs = np.array([[row[label] for label in labels] for row in answers])
        assert record.rows is not None
        assert [labels[k] for k in record.rows.prediction] == [max(row, key=row.get) for row in answers], name
        np.testing.assert_allclose(theirs, shares(record), atol=1e-4, err_msg=name)


def test_a_pipeline_in_another_process_answers_as_the_record_does(made: Made) -> None:
    """200 rows by a class of the library's own, without this project; others by the class that is imported."""
    assert len(made.texts(STOCK)) == 200
    in_a_pipeline(made, [STOCK, OWN])


@pytest.mark.slow
def test_every_kind_of_classifier_answers_in_a_pipeline(made: Made) -> None:
    """Two layers, a head that was computed, and encoders, with pauses behind the end of a text."""
    before = set(made.records)
    for backbone, methods in OTHERS:
        made.run(methods, 16, backbone=backbone)
    others = [name for name in made.records if name not in before]
    assert len(others) == 4
    for name in others:
        made.export(name)
    in_a_pipeline(made, [STOCK, *others])


def test_what_is_written_is_what_a_hub_expects(made: Made) -> None:
    folder, record = made.folders[STOCK], made.records[STOCK]
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert "auto_map" not in config
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".py")]
    card = (folder / "README.md").read_text()
    about = yaml.safe_load(card.split("---")[1])
    (measured,) = about["model-index"][0]["results"]
    assert measured["metrics"][0]["value"] == round(record.metrics["accuracy"], 2)
    assert f"| this classifier (seed 0) | {record.score:.1f} | " in card
    assert "8 train and 4 dev rows" in card
    assert record.rows is not None
    said = "".join(path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".md"))
    assert not any(text[:60] in said for text in made.texts(STOCK))


def test_rows_are_asked_by_the_prompt_and_cut_as_in_training(made: Made, tmp_path: Path) -> None:
    """The helper needs no prompt from its user; of a text that is too long the passage is cut."""
    made.run("pooled", 12, task="RTE")
    name = "tiny pooled RTE"
    record = made.records[name]
    short = record.model_copy(deep=True)
    assert short.rows is not None
    folder = made.export(name)
    about = json.loads((folder / "dhrd_bench.json").read_text())
    (folder / "dhrd_bench.json").write_text(json.dumps(about | {"max_length": 60}))
    classifier = load(folder)
    assert classifier.about.fields == ("premise", "hypothesis")
    rows = {row["idx"]: row for row in map(json.loads, (ROOT / "suites/mini7/RTE/val.jsonl").read_text().splitlines())}
    asked = [classifier.prompts(rows[int(row)]) for row in short.rows.id]
    lengths = [len(classifier._encoder.input(db_example(prompt[0]))) for prompt in asked]
    assert max(lengths) <= max(60, *(len(f"{p[0].before}{p[0].after}".encode()) for p in asked))
    whole = load(made.folders[name])
    assert whole.predict([{"text": "Is it?"}])[0].label in short.task.labels
    with pytest.raises(UserError, match=r"row 2: there is no 'premise'"):
        whole.predict([rows[int(short.rows.id[0])], {"premises": "It rains.", "hypothesis": "It is wet."}])


def db_example(prompt: Any) -> Any:
    from dhrd_bench.contracts import Example

    return Example("x", prompt)


@pytest.mark.slow
def test_a_task_that_is_asked_one_candidate_at_a_time(made: Made) -> None:
    """A row's class is the candidate with the largest margin, here as in the record."""
    made.run("pooled", 12, task="CB")
    name = "tiny pooled CB"
    classifier = load(made.export(name))
    rows = {row["idx"]: row for row in map(json.loads, (ROOT / "suites/mini7/CB/val.jsonl").read_text().splitlines())}
    record = made.records[name]
    assert record.rows is not None
    answers = classifier.predict([rows[int(row)] for row in record.rows.id])
    assert [answer.label for answer in answers] == [record.task.labels[k] for k in record.rows.prediction]
    assert classifier.model.config.num_labels == 2


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_the_exported_pool_is_the_pool_on_either_padding(pooling: Any) -> None:
    """Packed states and padded ones, by two programs."""
    backbone = load_backbone(resolve("tiny"))
    torch.manual_seed(0)
    states, lengths = torch.randn(9, backbone.width), [2, 4, 3]
    pool = make_pool(pooling, backbone.width, seed=1)
    places = [slice(0, 2), slice(2, 6), slice(6, 9)]
    ends = [states[[place.stop - 1]] for place in places]
    wanted = torch.cat(ends) if pool is None else pooled(pool, states, lengths)
    config = PooledConfig(backbone.trunk.config, head="linear", pooling=pooling, num_labels=2)
    model = PooledClassifier(config)
    if model.pool is not None:
        model.pool.weight.data = pool.query.data[None]  # type: ignore[union-attr,operator]
    for side in ("left", "right"):
        padded, mask = torch.full((3, 5, backbone.width), 7.0), torch.zeros(3, 5, dtype=torch.long)
        for row, place in enumerate(places):
            at = slice(0, lengths[row]) if side == "right" else slice(5 - lengths[row], 5)
            padded[row, at], mask[row, at] = states[place], 1
        torch.testing.assert_close(model._pooled(padded, mask), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_adapters_apart_answer_as_merged_ones(made: Made) -> None:
    """A peft folder for a class of the library and for ours, and peft itself on the former."""
    from peft import PeftModel
    from transformers import AutoConfig, LlamaForSequenceClassification

    made.run("pooled[head=unbiased],pooled[pooling=attention]", 12, tuning="lora")
    stock, own = "tiny pooled[head=unbiased] ordering lora", "tiny pooled[pooling=attention] ordering lora"
    for name in (stock, own):
        folder = made.export(name, adapter=True)
        assert not (folder / "model.safetensors").exists()
        answers = load(folder).answers([load_prompts(text) for text in made.texts(name)])
        theirs = np.array([list(answer.probabilities.values()) for answer in answers])
        np.testing.assert_allclose(theirs, shares(made.records[name]), atol=1e-4)
    folder = made.folders[stock]
    backbone = load_backbone(resolve("tiny"))
    backbone.reset()
    base = LlamaForSequenceClassification(AutoConfig.from_pretrained(folder))
    base.model.load_state_dict(backbone.trunk.state_dict())
    adapted = PeftModel.from_pretrained(base, str(folder)).eval()
    classifier = load(folder)
    ids = torch.tensor([classifier.tokenizer("Is it so?")["input_ids"]])
    torch.testing.assert_close(adapted(input_ids=ids).logits, classifier.model(input_ids=ids).logits, atol=1e-4, rtol=0)


def load_prompts(text: str) -> list[Any]:
    from dhrd_bench.contracts import Prompt

    return [Prompt("", text, "")]


@pytest.mark.slow
def test_an_onnx_graph_answers_as_torch_does(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For numbers and lengths of rows that it has not been made with; another answer is refused."""
    runtime = pytest.importorskip("onnxruntime")
    for name in (STOCK, OWN):
        folder = made.export(name, onnx=True)
        session = runtime.InferenceSession(str(folder / "model.onnx"))
        tokenizer = load(folder).tokenizer
        batch = tokenizer(made.texts(name)[:5], padding=True, return_tensors="np")
        (logits,) = session.run(
            ["logits"], {key: batch[key].astype("int64") for key in ("input_ids", "attention_mask")}
        )
        rows = made.records[name].rows
        assert rows is not None
        np.testing.assert_allclose(logits, (rows.score or [])[:5], atol=1e-3)
    monkeypatch.setattr(onnx, "CLOSE", -1.0)
    with pytest.raises(UserError, match="The ONNX graph answers otherwise"):
        export(made.path(STOCK), tmp_path / "out", Options(), silent, onnx=True)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("method", ["majority", "cot"])
def test_what_has_no_pooled_head_is_refused_before_anything_is_fitted(
    made: Made, method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = made.records[STOCK]
    other = record.model_copy(update={"cell": record.cell.model_copy(update={"method": method})})
    path = tmp_path / "seed-0.json"
    path.write_text(other.model_dump_json(exclude_none=True))
    monkeypatch.setattr(FineTuned, "fit", lambda *_: pytest.fail("it was fitted"))
    with pytest.raises(UserError, match=f"{method} cannot be exported: it does not answer by a head"):
        export(path, tmp_path / "out", Options(), silent)
    assert not (tmp_path / "out").exists()


def test_a_classifier_that_is_not_the_records_is_refused(made: Made, tmp_path: Path) -> None:
    record = made.records[STOCK]
    assert record.rows is not None
    flipped = record.rows.model_copy(update={"prediction": [1 - label for label in record.rows.prediction]})
    path = tmp_path / "seed-0.json"
    path.write_text(record.model_copy(update={"rows": flipped}).model_dump_json(exclude_none=True))
    with pytest.raises(UserError, match="gives 200 of 200 test rows another class than the record"):
        export(path, tmp_path / "out", Options(), silent)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_with_something_in_it_is_left_alone(made: Made, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="There is something at"):
        export(made.path(STOCK), tmp_path, Options(), silent)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_exported_prompt_that_could_fill_the_memory_is_refused(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folders[STOCK], tmp_path / "copy")
    about = json.loads((folder / "dhrd_bench.json").read_text())
    about["prompt"]["text"] = "{{ 'x' * 999999999 }}"
    (folder / "dhrd_bench.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="a template may not use mul"):
        load(folder)


# ---------------------------------------------------------------- the command line


def test_predict_streams_answers_and_names_what_it_skips(made: Made, tmp_path: Path) -> None:
    suite = Suite.named("derivations").load("ordering")
    text = suite.test.examples[0].prompt.text
    lines = [json.dumps({"text": text}), "{", json.dumps({"texts": text}), json.dumps({"text": "Is it?"}), ""]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    done = dhrd("predict", "rows.jsonl", "--model", str(made.folders[STOCK]), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["row"] for answer in answers] == ["rows.jsonl:1", "rows.jsonl:4"]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "skipped rows.jsonl:2: not JSON" in done.stderr
    assert "skipped rows.jsonl:3: there is no 'story'" in done.stderr
    assert "2 rows answered, 2 skipped" in done.stderr
    refused(dhrd("predict", "rows.jsonl", "--model", "nowhere", cwd=tmp_path), "nowhere holds no exported classifier")


def test_the_example_serves_a_classifier(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.setenv("MODEL", str(made.folders[STOCK]))
    client = TestClient(runpy.run_path(str(ROOT / "examples/serve-model/app.py"))["app"])
    assert client.get("/health").json()["labels"] == ["no", "yes"]
    row = {"story": "Ann is taller than Bob.", "question": "Is Bob taller than Ann?"}
    (answer,) = client.post("/predict", json={"rows": [row]}).json()
    assert answer["label"] == load(made.folders[STOCK]).predict([row])[0].label
    refusal = client.post("/predict", json={"rows": [{"storey": "x"}]})
    assert refusal.status_code == 422
    assert "there is no 'story'" in refusal.json()["detail"]
    assert client.post("/predict", json={"rows": []}).status_code == 422


def test_push_sends_an_export_and_nothing_without_a_token(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is a stand-in: it is never asked here."""
    sent: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        def __init__(self, token: str) -> None:
            sent.append(("token", {"token": token}))

        def create_repo(self, repository: str, **options: Any) -> None:
            sent.append((repository, options))

        def upload_folder(self, **options: Any) -> Any:
            sent.append(("upload", options))
            return type("Commit", (), {"commit_url": "https://example.org/commit"})

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UserError, match="HF_TOKEN is not set"):
        push(made.folders[STOCK], "me/mine", private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(UserError, match="holds no exported classifier"):
        push(made.root, "me/mine", private=True)
    assert sent == []
    assert push(made.folders[STOCK], "me/mine", private=True) == "https://example.org/commit"
    assert sent[0] == ("token", {"token": "hf_secret"})
    assert sent[1] == ("me/mine", {"private": True, "exist_ok": True})
    assert sent[2][1]["folder_path"] == made.folders[STOCK]
    assert "*.py" not in sent[2][1]["allow_patterns"]
