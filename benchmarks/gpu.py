"""The speed table on a CUDA card: every row against its peer, side by side in one process.

``python benchmarks/gpu.py`` measures all rows and writes ``RESULTS-GPU.md`` and ``results-gpu.json``; ``--only`` some.
Weights are random, as speed does not depend on their values, so nothing has to be fetched; tokens are random, and
lengths are drawn to be about BoolQ's and RTE's. The row ``study`` alone takes the real model; ``--results`` keeps its
records.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Row, Work, best_of, claim, say
from rendering import lines
from torch import nn

HERE = Path(__file__).parent
OPTIONS = argparse.Namespace(results=None, stop_after="", workers=8)
WHY_NOT = (RuntimeError, ValueError)
SEED = 0


@dataclass(frozen=True, eq=False)
class Shape:
    """A backbone's sizes; `examples` inputs are classified, `rounds` times by each side."""

    name: str
    config: dict[str, int]
    examples: int
    steps: int
    rounds: int


SMALL = Shape(
    "SmolLM2-135M shape",
    {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3,
    },
    examples=4096, steps=16, rounds=2,
)  # fmt: skip
LARGE = Shape(
    "Llama-3.1-8B shape",
    {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    examples=768, steps=8, rounds=2,
)  # fmt: skip


@cache
def backbone_of(shape: Shape) -> Any:
    """Return a backbone of this shape with random weights in bfloat16 on the card."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from dhrd_bench.backbones import Backbone, resolve
    from dhrd_bench.backbones.random_weights import random_model
    from dhrd_bench.contracts import BackboneCard

    tied = shape is SMALL
    config = LlamaConfig(**shape.config, tie_word_embeddings=tied, max_position_embeddings=8192, pad_token_id=0)
    torch.manual_seed(SEED)
    with torch.device("cuda"):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    random = resolve("tiny").random
    assert random is not None
    _, tokenizer = random_model(random)
    card = BackboneCard(name=shape.name, dtype="bfloat16", device="cuda")
    return Backbone(card, model.to("cuda"), tokenizer, "random")


def texts(count: int, mean: float = 150.0) -> list[list[int]]:
    """Return token sequences of about RTE's lengths."""
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.lognormal(np.log(mean) - 0.1, 0.45, count), 20, 512).astype(int)
    return [rng.integers(2, 40000, length).tolist() for length in lengths]


@contextmanager
def as_plain(backbone: Any) -> Iterator[Any]:
    """Lend the model with the library's own attention, for padded batches, and its own operations."""
    from dhrd_bench.backbones.fused import fuse, split
    from dhrd_bench.backbones.packed import PACKED

    backbone.model.set_attn_implementation("sdpa")
    split(backbone.model)
    try:
        yield backbone.model
    finally:
        backbone.model.set_attn_implementation(PACKED)
        fuse(backbone.model)


def seconds(work: Callable[[], Any]) -> float:
    """Return how long `work` takes until the card is done."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def padded(rows: Sequence[list[int]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of a padded batch on the card."""
    longest = max(map(len, rows))
    pad = [[0] * (longest - len(row)) for row in rows]
    ids = [p + r if left else r + p for r, p in zip(rows, pad, strict=True)]
    mask = [
        [0] * len(p) + [1] * len(r) if left else [1] * len(r) + [0] * len(p) for r, p in zip(rows, pad, strict=True)
    ]
    return torch.tensor(ids).cuda(), torch.tensor(mask).cuda()


def peak(backbone: Any) -> float:
    """Return FLOP/s of the backbone's largest product on this card, measured now."""
    from dhrd_bench.throughput import roofline

    roofline.peak_flops.cache_clear()
    return roofline.peak_of(backbone)


# ---------------------------------------------------------------- pooled inference


def pooled_inference(shape: Shape, targets: dict[str, float]) -> Row:
    """Read the pooled state of each input, against a padded loop over inputs sorted by length."""
    from dhrd_bench.inference.engines import engine_of
    from dhrd_bench.throughput import roofline

    backbone, inputs = backbone_of(shape), texts(shape.examples)
    flops = roofline.model_flops(backbone, sum(map(len, inputs)), 0)
    states: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def read() -> None:
        found = torch.empty(len(inputs), backbone.width, device="cuda", dtype=torch.bfloat16)
        for places, part in engine_of(backbone).pooled(inputs):
            found[places] = part
        states["ours"] = found

    @torch.inference_mode()
    def read_padded(size: int, count: int = len(inputs)) -> None:
        found = torch.empty(count, backbone.width, device="cuda", dtype=torch.bfloat16)
        order = sorted(range(count), key=lambda i: len(inputs[i]))
        for start in range(0, count, size):
            chosen = order[start : start + size]
            ids, mask = padded([inputs[i] for i in chosen])
            out = backbone.model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            found[chosen] = out[torch.arange(len(chosen)), mask.sum(1) - 1]
        states["peer"] = found

    def peer(size: int, count: int = len(inputs)) -> Work:
        with as_plain(backbone):
            return Work(count, seconds(lambda: read_padded(size, count)))

    shares: list[float] = []

    def ours(_: int) -> Work:
        work = Work(len(inputs), seconds(read))
        shares.append(flops / work.seconds / peak(backbone))
        return work

    row = Row(
        f"pooled inference, {shape.name}",
        "padded loop over inputs sorted by length, transformers with sdpa, at its best batch",
        f"{len(inputs)} inputs, mean {np.mean([len(i) for i in inputs]):.0f} tokens, bfloat16, no tokenisation",
        "inputs/s",
    )
    peer(32, 64)
    sizes = {f"batch {size}": size for size in ((128, 512, 1024) if shape is SMALL else (32, 64))}
    best = best_of(row, sizes, peer, WHY_NOT)
    ours(-1)
    shares.clear()
    row.compare(ours, lambda _: peer(best), shape.rounds)
    row.claims += [claim("ratio", row.ratios, targets["ratio"])] if "ratio" in targets else []
    if "share" in targets:
        row.claims.append(claim("share of the measured matmul peak", shares, targets["share"], style="share"))
    apart = (states["ours"].float() - states["peer"].float()).norm() / states["peer"].float().norm()
    row.checks.append(f"relative difference of the states between both sides: {float(apart):.1e}")
    reached = f"{peak(backbone) / 1e12:.0f} TFLOP/s, of which {statistics.median(shares):.0%} is reached"
    row.checks.append(f"matmul peak measured beside it: {reached}")
    return row


# ---------------------------------------------------------------- training


def training(shape: Shape, tuning: str, target: float) -> Row:
    """Optimiser steps of 16 rows of a pooled classifier, against `transformers.Trainer`."""
    steps, batch = shape.steps, 16
    inputs = texts(steps * batch)
    labels = [i % 2 for i in range(len(inputs))]
    backbone = backbone_of(shape)
    tokens = float(sum(map(len, inputs[batch:])))
    typical: dict[str, float] = {}

    def ours(_: int) -> Work:
        ends = train_ours(backbone, inputs, labels, tuning, batch)
        typical["ours"] = statistics.median(np.diff(ends))
        return Work(tokens, ends[-1] - ends[0])

    def peer(size: int, count: int = len(inputs)) -> Work:
        ends = train_peer(backbone, inputs[:count], labels[:count], tuning, (size, batch // size))
        typical["peer"] = statistics.median(np.diff(ends))
        return Work(sum(map(len, inputs[batch:count])), ends[-1] - ends[0])

    row = Row(
        f"{tuning} training step, {shape.name}",
        "transformers Trainer" + (" + peft" if tuning == "lora" else "") + ", dynamic padding, bf16",
        f"{steps} steps of {batch} rows, mean {np.mean([len(i) for i in inputs]):.0f} tokens; all steps but the first, "
        "recording included",
        "real tokens/s",
    )
    sizes = {f"{size} x {batch // size} rows": size for size in ((16, 8) if shape is SMALL else (16, 4))}
    best = best_of(row, sizes, lambda size: peer(size, 4 * batch), WHY_NOT)
    row.compare(ours, lambda _: peer(best), shape.rounds)
    row.claims.append(claim("ratio", row.ratios, target))
    row.checks.append(
        f"the median step takes {1e3 * typical['ours']:.1f} ms ours and {1e3 * typical['peer']:.1f} ms the peer's, "
        f"{typical['peer'] / typical['ours']:.1f}x"
    )
    return row


def train_ours(
    backbone: Any, inputs: Sequence[list[int]], labels: Sequence[int], tuning: str, batch: int
) -> list[float]:
    """Return when each step ended."""
    from dhrd_bench.contracts import Budget, Context, Example, LabeledExample, Prompt, TaskCard, TaskData
    from dhrd_bench.modeling.encode import Row as Sequence_
    from dhrd_bench.training.loop import fine_tune

    ends: list[float] = []
    card = TaskCard(
        name="speed", labels=("no", "yes"), answers=("No", "Yes"), metrics=("accuracy",), prompt="native",
        prompt_version="1", version="1",
    )  # fmt: skip
    rows = tuple(LabeledExample(Example(str(i), Prompt("", "", "")), label) for i, label in enumerate(labels))
    budget = Budget(name="speed", epochs=1, batch_size=batch, tuning=tuning, micro_tokens=1024)
    context = Context(backbone, budget, "speed", 0, lambda *_: ends.append(time.perf_counter()))
    fine_tune(
        TaskData(card, rows, ()), context,
        lambda row, _: [Sequence_(inputs[int(row.example.id)], len(inputs[int(row.example.id)]), row.label)],
        weights={"cls": 1.0}, head="linear",
    )  # fmt: skip
    backbone.reset()
    return ends


def train_peer(
    backbone: Any, inputs: Sequence[list[int]], labels: Sequence[int], tuning: str, sizes: tuple[int, int]
) -> list[float]:
    """Return when each step of Hugging Face's trainer ended; `sizes` are rows a pass and passes a step."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

    from dhrd_bench.contracts import Lora

    ends: list[float] = []

    class Ends(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        fill = [[0] * (longest - len(row["input_ids"])) for row in rows]
        return {
            "input_ids": torch.tensor([row["input_ids"] + f for row, f in zip(rows, fill, strict=True)]),
            "attention_mask": torch.tensor(
                [[1] * len(row["input_ids"]) + f for row, f in zip(rows, fill, strict=True)]
            ),
            "labels": torch.tensor([row["labels"] for row in rows]),
        }

    with as_plain(backbone) as model:
        trunk = model.model if tuning == "lora" else copy.deepcopy(model.model).float().requires_grad_(True)
        config = copy.deepcopy(model.config)
        config.num_labels = 2
        with torch.device("meta"):
            classifier = LlamaForSequenceClassification(config)
        classifier.model = trunk
        classifier.score = nn.Linear(backbone.width, 2, bias=False, device="cuda", dtype=trunk.norm.weight.dtype)
        if tuning == "lora":
            ours = Lora()
            adapted = get_peft_model(
                classifier,
                LoraConfig(
                    task_type="SEQ_CLS", r=ours.r, lora_alpha=ours.alpha, lora_dropout=ours.dropout,
                    target_modules=list(ours.targets),
                ),
            )  # fmt: skip
        else:
            adapted = classifier
        arguments = TrainingArguments(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=sizes[0], gradient_accumulation_steps=sizes[1],
            num_train_epochs=1, learning_rate=2e-4, lr_scheduler_type="cosine", warmup_steps=5, weight_decay=0.01,
            bf16=True, logging_steps=10_000, save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        data = Dataset.from_dict({"input_ids": list(inputs), "labels": list(labels)})
        trainer = Trainer(adapted, arguments, train_dataset=data, data_collator=collate, callbacks=[Ends()])
        try:
            trainer.train()
        finally:
            if tuning == "lora":
                adapted.unload()
            model.requires_grad_(False)
            model.eval()
    return ends


# ---------------------------------------------------------------- decoding


def decoding(shape: Shape, rows: int, length: int, target: float) -> Row:
    """Greedy decoding of `length` tokens after each of `rows` prompts, against `generate`."""
    from dhrd_bench.contracts import Decoding
    from dhrd_bench.inference.decode import decode
    from dhrd_bench.inference.engine import Stop

    backbone, prompts = backbone_of(shape), texts(rows)
    backbone.eos_id = -1  # both sides write all tokens: random weights have no end of text
    texts_of: dict[str, list[list[int]]] = {}

    def ours(_: int) -> Work:
        settings = Decoding(max_new_tokens=length, batch_size=rows)
        found: list[Any] = []
        spent = seconds(lambda: found.extend(decode(backbone, prompts, settings, Stop((), 0), [0] * rows)))
        texts_of["ours"] = [each.ids for each in found]
        return Work(rows * length, spent)

    @torch.inference_mode()
    def generate(size: int) -> None:
        found: list[list[int]] = []
        for start in range(0, rows, size):
            ids, mask = padded(prompts[start : start + size], left=True)
            out = backbone.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=length, min_new_tokens=length, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            found += out[:, ids.shape[1] :].tolist()
        texts_of["peer"] = found

    def peer(size: int) -> Work:
        with as_plain(backbone):
            return Work(rows * length, seconds(lambda: generate(size)))

    row = Row(
        f"greedy decoding, {shape.name}",
        "transformers generate, all rows in one batch",
        f"{rows} prompts, mean {np.mean([len(p) for p in prompts]):.0f} tokens, {length} new tokens each, recording "
        "included",
        "tokens/s",
    )
    ours(-1)
    peer(rows)
    row.compare(ours, lambda _: peer(rows), 2)
    row.claims.append(claim("ratio", row.ratios, target))
    pairs = zip(texts_of["ours"], texts_of["peer"], strict=True)
    same = sum(a[:8] == b[:8] for a, b in pairs)
    row.checks.append(f"the first 8 tokens are the same in {same} of {rows} rows (random weights: many near-ties)")
    return row


# ---------------------------------------------------------------- a study


def study(file: str, like: int, target: float) -> Row:
    """Run a study, several cells at a time; reckon how long a larger one of `like` such cells would take."""
    with tempfile.TemporaryDirectory() as folder:
        results = OPTIONS.results or Path(folder)
        held = set(results.rglob("seed-*.json"))
        command = [sys.executable, "-m", "dhrd_bench", "study", "run", str(HERE.parent / "studies" / file)]
        command += ["--results", str(results), "--workers", str(OPTIONS.workers)]
        command += ["--stop-after", OPTIONS.stop_after] if OPTIONS.stop_after else []
        began = time.time()
        done = subprocess.run(command, capture_output=True, text=True)
        wall = time.time() - began
        made = sorted(set(results.rglob("seed-*.json")) - held, key=lambda path: path.stat().st_mtime)
        records = [json.loads(path.read_text(encoding="utf-8")) for path in made]
        failed = [record["cell"] for record in records if record["status"] != "ok"]
        if failed or not records:
            raise RuntimeError(f"{failed or done.stderr[-2000:] or 'no records'}")
        start = made[0].stat().st_mtime - began - own_seconds(records[0])
    methods = {record["cell"]["method"] for record in records}
    row = Row(
        f"study {file.removesuffix('.yaml')}, SmolLM2-135M",
        "none: what is held against the target is how long a larger study would take",
        f"{len(records)} cells of {len(methods)} methods, {OPTIONS.workers} processes on the card; planning, loading "
        "and recording included",
        "cells/s",
    )
    row.ours.append(len(records) / wall)
    whole = start + (wall - start) * like / len(records)
    row.claims.append(claim(f"{like} such cells, reckoned", [whole], target, at_least=False, style="seconds"))
    alone = sum(map(own_seconds, records))
    row.checks.append(
        f"{wall:.0f} s, of which {start:.0f} s until cells began; training and answering take {alone:.0f} s, added up "
        "over the cells"
    )
    return row


def own_seconds(record: dict[str, Any]) -> float:
    """Return what a cell spent on training and on answering."""
    timing = record.get("timing") or {}
    train = record.get("train") or {}
    return float(train.get("seconds", 0.0) + timing.get("seconds", 0.0) + timing.get("warmup_seconds", 0.0))


# ---------------------------------------------------------------- the table

ROWS: dict[str, Callable[[], Row]] = {
    "pooled-inference": lambda: pooled_inference(SMALL, {"ratio": 2.5}),
    "lora-step": lambda: training(SMALL, "lora", 3.0),
    "full-step": lambda: training(SMALL, "full", 3.0),
    "decoding": lambda: decoding(SMALL, 256, 128, 5.0),
    "pooled-inference-8b": lambda: pooled_inference(LARGE, {"share": 0.6}),
    "lora-step-8b": lambda: training(LARGE, "lora", 1.3),
    "study": lambda: study("votes.yaml", 350, 900.0),
}

HEAD = """# Speed on a GPU

Written by `make bench-gpu` (`benchmarks/gpu.py`); do not edit. Both sides of a row work in turns (A B A B) in one
process on the same weights. Figures are medians over rounds, brackets hold the smallest and the largest round; a ratio
is taken within a round. The peer runs at the best of the settings that were tried. More than 1x: dhrd-bench is faster.
"""


def main() -> int:
    """Measure what was asked for; return 1 if a row failed."""
    import transformers
    from transformers.utils import logging

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS), help=f"comma-separated, of: {', '.join(ROWS)}")
    parser.add_argument("--render", action="store_true", help="measure nothing, write RESULTS-GPU.md from the JSON")
    parser.add_argument("--output", type=Path, default=HERE)
    parser.add_argument("--results", type=Path, help="where the study's records go, and go on from")
    parser.add_argument("--stop-after", default="", help="begin none of its cells after this time, as 2m")
    parser.add_argument("--workers", type=int, help="cells of the study at a time (8)")
    options = parser.parse_args(namespace=OPTIONS)
    if not options.render and not torch.cuda.is_available():
        parser.error("no CUDA device here")
    logging.set_verbosity_error()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results-gpu.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    failed = []
    for name in [] if options.render else options.only.split(","):
        say(name)
        started = time.perf_counter()
        try:
            row = ROWS[name]()
        except Exception as error:  # one row never stops the others
            say(f"{name} failed: {type(error).__name__}: {error}")
            failed.append(name)
            torch.cuda.empty_cache()
            continue
        found[name] = asdict(row) | {
            "claims": [asdict(each) | {"reached": each.reached} for each in row.claims],
            "seconds": time.perf_counter() - started, "card": torch.cuda.get_device_name(), "torch": torch.__version__,
            "transformers": transformers.__version__,
            "measured": datetime.now(UTC).isoformat(timespec="seconds"), "quick": False,
        }  # fmt: skip
        path.write_text(json.dumps({n: found[n] for n in ROWS if n in found}, indent=1) + "\n", encoding="utf-8")
        say(json.dumps({"ours": row.ours, "peer": row.theirs, "tried": row.tried, "checks": row.checks}))
    (options.output / "RESULTS-GPU.md").write_text(markdown(found), encoding="utf-8")
    return 1 if failed else 0


def markdown(found: dict[str, Any]) -> str:
    """Return the whole document."""
    rows = {name: found[name] for name in ROWS if name in found}
    cards = sorted(
        {f"{row['card']}, torch {row['torch']}, transformers {row['transformers']}" for row in rows.values()}
    )
    table = [
        "| row | dhrd-bench | peer | | measured | target | reached |", "|---|---|---|---|---|---|---|",
        *(line for name, row in rows.items() for line in lines(name, row)),
    ]  # fmt: skip
    missing = [name for name in ROWS if name not in rows]
    table += ["", f"Not measured: {', '.join(missing)}."] if missing else []
    machine = f"Measured on: {'; '.join(cards)}."
    details = []
    for name, row in rows.items():
        tried = "; ".join(f"{key}: {value}" for key, value in row["tried"].items())
        details += [
            f"## {name}",
            "",
            f"{row['what']}. {row['setting']}.",
            "",
            f"Peer: {row['peer']}. {tried}".strip(),
            "",
        ]
        details += [f"- {check}" for check in row["checks"]] + [""]
    return "\n".join([HEAD, machine, "", *table, "", *details])


if __name__ == "__main__":
    sys.exit(main())
