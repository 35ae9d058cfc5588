"""Engines: whichever runs, methods say the same. vLLM is a stand-in here (`vllm_stand_in`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import toy_rows
from typer.testing import CliRunner
from vllm_stand_in import LLM, install

from dhrd_bench import registry
from dhrd_bench.backbones import Backbone, load, resolve
from dhrd_bench.cli import app
from dhrd_bench.contracts import Budget, Context, Decoding, Predictions, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import make_plan
from dhrd_bench.inference.engine import Engine, Stop
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.inference.vllm import Vllm
from dhrd_bench.modeling.pooling import MeanPool
from dhrd_bench.request import RunRequest
from dhrd_bench.results.store import read_records

FAST = "smoke[train_rows=8,dev_rows=2,test_rows=6,epochs=1,tuning=top:1,max_length=96,decoding={max_new_tokens: 6}]"


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[LLM]]:
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    yield install(monkeypatch)
    load(resolve("tiny[dtype=float32,device=cpu]"))  # whatever a test has left is let go of


@pytest.fixture
def reference() -> Backbone:
    return load(resolve("tiny[dtype=float32,device=cpu]"))


@pytest.fixture
def other(vllm: type[LLM], reference: Backbone) -> Backbone:
    """The same backbone on the other engine, beside the reference one."""
    return load(resolve("tiny[dtype=float32,device=cpu,engine=vllm]"))


def same(found: Predictions, expected: Predictions) -> None:
    assert found.labels == expected.labels
    assert found.texts == expected.texts
    assert (found.tokens_in, found.tokens_out) == (expected.tokens_in, expected.tokens_out)
    if expected.scores is not None:
        np.testing.assert_allclose(np.array(found.scores), np.array(expected.scores), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", registry.methods.names())
def test_every_method_says_the_same_on_both(
    name: str, toy: TaskData, budget: Budget, reference: Backbone, other: Backbone, tmp_path: Path
) -> None:
    here, there = (Context(backbone, budget, "toy", 0) for backbone in (reference, other))
    fitted, loaded = registry.methods.get(name)(), registry.methods.get(name)()
    fitted.fit(toy, here)
    fitted.save(tmp_path / "kept")
    loaded.load(tmp_path / "kept", toy.card, there)
    examples = [row.example for row in toy_rows(5, 12)]
    same(loaded.predict(examples, there), fitted.predict(examples, here))
    assert bool(LLM.made) == (fitted.card.inference != "none"), "the engine was asked, and by every method alike"


def test_an_answer_is_written_and_read_on_both(
    toy: TaskData, budget: Budget, reference: Backbone, other: Backbone, tmp_path: Path
) -> None:
    """Trained until it writes the marker: the text ends where the reference's does, token by token."""
    settings = {"epochs": 150, "tuning": "full", "learning_rate": 1e-2, "decoding": Decoding(max_new_tokens=40)}
    few = TaskData(toy.card, tuple(replace(row, rationale="so") for row in toy.train[:3]), ())
    here, there = (Context(backbone, budget.model_copy(update=settings), "toy", 0) for backbone in (reference, other))
    fitted, loaded = registry.methods.get("cot")(), registry.methods.get("cot")()
    fitted.fit(few, here)
    fitted.save(tmp_path / "kept")
    loaded.load(tmp_path / "kept", toy.card, there)
    examples = [row.example for row in few.train]
    expected = fitted.predict(examples, here)
    assert set(expected.labels) == {0, 1}, expected.texts
    same(loaded.predict(examples, there), expected)


# ---------------------------------------------------------------- where a text ends


def prompts(count: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(2, 258, 4 + 3 * (i % 4)).tolist() for i in range(count)]


def markers_of(reference: Engine, decoding: Decoding) -> list[tuple[int, ...]]:
    """Return two tokens out of the middle of each text that is ASCII, as a marker is."""
    free = reference.continuations(prompts(12), decoding, Stop((), 0), [0] * 12)
    pieces = {tuple(one.ids[start : start + 2]) for one in free for start in (0, 3, 6) if len(one.ids) > start + 2}
    return [piece for piece in sorted(pieces) if reference.backbone.decode(list(piece)).isprintable()][:12]


@pytest.mark.parametrize("after", [1, 3])
def test_rows_stop_behind_the_marker_as_the_reference_does(after: int, reference: Backbone, other: Backbone) -> None:
    decoding = Decoding(max_new_tokens=12)
    ours, theirs = engine_of(reference), engine_of(other)
    stops = [Stop((marker,), after, (5, 6)) for marker in markers_of(ours, decoding)]
    assert len(stops) > 3
    stopped = 0
    for stop in [*stops, Stop(((),), after, (5, 6)), Stop((), 0)]:
        for found, expected in zip(
            theirs.continuations(prompts(6), decoding, stop, [0] * 6),
            ours.continuations(prompts(6), decoding, stop, [0] * 6),
            strict=True,
        ):
            assert (found.ids, found.steps, found.marker_end) == (expected.ids, expected.steps, expected.marker_end)
            assert found.after_marker == (
                None if expected.after_marker is None else pytest.approx(expected.after_marker, rel=1e-3, abs=1e-4)
            )
            stopped += found.marker_end not in (None, 0)
    assert stopped, "some rows did meet a marker"


def test_the_marker_s_text_in_other_tokens_does_not_stop(
    reference: Backbone, other: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM stops at text. A row that stopped for nothing goes on as if it had not, and the tokens add up."""
    decoding = Decoding(max_new_tokens=12)
    expected = engine_of(reference).continuations(prompts(4), decoding, Stop(((1, 1),), 2), [0] * 4)
    texts = sorted({other.decode(one.ids[:3])[:1] for one in expected} - {""})
    monkeypatch.setattr(Vllm, "_texts", lambda self, stop: texts)
    found = engine_of(other).continuations(prompts(4), decoding, Stop(((1, 1),), 2), [0] * 4)
    assert [(one.ids, one.steps) for one in found] == [(one.ids, one.steps) for one in expected]
    assert LLM.requests > 4


def test_the_shorter_marker_s_text_stands_for_both(other: Backbone) -> None:
    engine = Vllm(other)
    stop = Stop((tuple(other.encode("\nEnd:")), tuple(other.encode("\n\nEnd:"))), 2)
    assert engine._texts(stop) == ["\nEnd:"]
    assert engine._texts(Stop(((),), 2)) == []


def test_sampling_depends_on_the_seed_and_not_on_the_neighbours(other: Backbone) -> None:
    decoding = Decoding(max_new_tokens=8, temperature=1.0, top_p=0.9)
    engine = engine_of(other)
    rows = prompts(3)
    together = engine.continuations(rows, decoding, Stop((), 0), [1, 2, 3], samples=2)
    alone = engine.continuations(rows[1:2], decoding, Stop((), 0), [2], samples=2)
    assert [one.ids for one in together[2:4]] == [one.ids for one in alone]
    assert alone[0].ids != alone[1].ids
    assert alone[0].ids != engine.continuations(rows[1:2], decoding, Stop((), 0), [9])[0].ids


def test_vllm_pools_the_last_token_only(other: Backbone) -> None:
    with pytest.raises(UserError, match=r"last token's state alone.*Leave \[engine=vllm\] out"):
        list(engine_of(other).pooled([[5, 6]], MeanPool()))


# ---------------------------------------------------------------- whose weights


def test_one_llm_at_a_time_with_the_weights_in_place(vllm: type[LLM], other: Backbone, tmp_path: Path) -> None:
    engine = engine_of(other)
    name = "model.norm.weight"
    changed = {name: torch.full((other.width,), 2.0)}
    first, second = object(), object()
    sequences = prompts(3)

    def states() -> torch.Tensor:
        return torch.cat([part for _, part in engine.pooled(sequences)])

    other.load_weights({}, first)
    plain = states()
    assert vllm.made == ["pooling"]
    states()
    list(engine.log_likelihoods(sequences, [[5], [6]]))
    assert vllm.made == ["pooling", "generate"], "made anew for another runner, not for another call"
    for calls in (1, 2):
        engine.continuations(sequences, Decoding(max_new_tokens=2), Stop((), 0), [0] * 3)
        assert [llm.resets for llm in vllm.alive] == [calls], "no call finds its prompts read by the one before"
    other.load_weights(changed, second)
    assert not vllm.alive, "the device is free as soon as other weights come"
    torch.testing.assert_close(states(), 2 * plain, rtol=1e-4, atol=1e-5)
    other.reset()
    assert not vllm.alive
    assert not list((tmp_path / "cache").glob("vllm-*")), "checkpoints go with it"
    torch.testing.assert_close(states(), plain)


def test_a_method_that_runs_the_backbone_itself_works_as_before(reference: Backbone, other: Backbone) -> None:
    ids = torch.arange(2, 30)
    torch.testing.assert_close(other.hidden(ids, [28]), reference.hidden(ids, [28]))


# ---------------------------------------------------------------- choosing


def test_choosing_is_checked_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Did you mean 'vllm'"):
        resolve("tiny[engine=vlm]")
    monkeypatch.setitem(sys.modules, "vllm", None)
    backbone = load(resolve("tiny[engine=vllm]"))
    with pytest.raises(UserError, match=r"pip install 'dhrd-bench\[vllm\]'"):
        engine_of(backbone)
    install(monkeypatch, cuda=False)
    with pytest.raises(UserError, match="CUDA"):
        engine_of(backbone)


def test_only_another_engine_is_part_of_the_identity(tmp_path: Path) -> None:
    def planned(backbone: str) -> Any:
        wanted = {"suite": "mini7", "methods": "pooled", "tasks": "rte", "budget": FAST, "seeds": "0"}
        return make_plan(RunRequest(results=tmp_path, backbone=backbone, **wanted)).cells[0]

    plain, named, vllm = (planned(name) for name in ("tiny", "tiny[engine=transformers]", "tiny[engine=vllm]"))
    assert plain.identity == named.identity
    assert set(plain.parts.hashed()["backbone"]) == {"revision", "dtype"}
    assert vllm.parts.backbone.engine == "vllm"
    assert vllm.identity != plain.identity
    assert vllm.parts.version != plain.parts.version, "no table mixes engines"


def test_the_commands_end_to_end(vllm: type[LLM], tmp_path: Path) -> None:
    """`run` and `throughput` on either engine: equal predictions, and the records name what ran."""
    methods = "pooled,label-lm,cot,majority"
    outcomes = {}
    for engine, label in (("transformers", "transformers "), ("vllm", "vllm 0.33.0")):
        backbone = f"tiny[dtype=float32,device=cpu,engine={engine}]"
        common = ["--methods", methods, "--backbone", backbone, "--budget", FAST, "--tasks", "rte,copa"]
        results = tmp_path / engine
        done = CliRunner().invoke(app, ["run", *common, "--seeds", "0", "--results", str(results)])
        assert done.exit_code == 0, done.output
        records, unreadable = read_records(results)
        assert len(records) == 8
        assert not unreadable
        assert all(record.environment.engine.startswith(label) for record in records)
        # What is the default goes without saying.
        name = "tiny[device=cpu" + (",engine=vllm]" if engine == "vllm" else "]")
        assert {record.cell.backbone for record in records} == {name}
        outcomes[engine] = {
            (record.cell.task, record.cell.method): (record.rows.prediction, record.timing.tokens_out)
            for record in records
            if record.rows
            if record.timing
        }
        quick = ["--methods", "pooled,cot,majority", "--tasks", "rte", "--rounds", "2", "--block", "2"]
        timed = CliRunner().invoke(app, ["throughput", *common, *quick, "--results", str(results)])
        assert timed.exit_code in (0, 1), timed.output  # how quotable the figures are is the machine's affair
        (path,) = results.rglob("throughput/RTE/offline-0.json")
        record = json.loads(path.read_text())
        assert record["environment"]["engine"].startswith(label)
        engines = {one["method"]: one["engine"] for one in record["measurements"]}
        assert engines.pop("majority") == "none"
        assert all(name.startswith(label) for name in engines.values())
        assert len(set(engines.values())) == 1, "all methods of a comparison run on one engine"
    assert outcomes["vllm"] == outcomes["transformers"]
    assert {"pooling", "generate"} == set(vllm.made)
