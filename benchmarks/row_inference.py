"""Answering inputs: the pooled head, label-word scoring, chain-of-thought decoding."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from material import LENGTH, Material, method
from measuring import Row, Work, best_of, claim, profile, say, timed
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

import dhrd_bench as db
from dhrd_bench import registry
from dhrd_bench.contracts import Budget, TaskData
from dhrd_bench.throughput import roofline

logging.getLogger("lm_eval").setLevel(logging.ERROR)
BUDGET = Budget(name="bench", max_length=LENGTH)
ERRORS = (RuntimeError, ValueError)
"""What a setting that does not run here raises."""


def share_of_equal(ours: Sequence[object], theirs: Sequence[object]) -> str:
    """Say how many rows both sides answer alike."""
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return f"{equal} of {len(ours)} rows are answered alike"


# ---------------------------------------------------------------- pooled


def pooled_inference(quick: bool) -> Row:
    """Pooled classification against `pipeline("text-classification")`, both with the same head."""
    material = Material.load(train=1, test=12 if quick else 64)
    fitted = db.Fitted(material.card, head_kind="linear", head=linear_head(material))
    texts = [example.prompt.text for example in material.test]
    tokenizer = AutoTokenizer.from_pretrained(material.folder)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(material.backbone.pad_id)
    model = sequence_classifier(material, fitted)
    answers: dict[str, list[int]] = {}
    tokens: list[int] = []

    def ours(number: int) -> Work:
        found: list[db.Predictions] = []
        seconds = timed(lambda: found.append(db.classify(fitted, material.test, material.context(BUDGET))))
        answers["ours"], tokens[:] = found[0].labels, found[0].tokens_in
        return Work(len(texts), seconds)

    def peer(size: int, inputs: Sequence[str] = texts) -> Work:
        classify = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=size)
        classify(texts[:2])
        found: list[Any] = []
        seconds = timed(lambda: found.extend(classify(list(inputs))))
        answers["peer"] = [model.config.label2id[one["label"]] for one in found]
        return Work(len(inputs), seconds)

    row = Row(
        "pooled inference",
        'transformers pipeline("text-classification") at its best batch size',
        f"{material.setting}; {len(texts)} inputs, tokenisation included, same weights and head",
        "examples/s",
    )
    sizes = {f"batch {size}": size for size in ((4,) if quick else (1, 4, 8, 16))}
    some = texts[: len(texts) if quick else 48]
    best = best_of(row, sizes, lambda size: peer(size, some), ERRORS)
    # What a pipeline does not do by itself, but its user can; batches that are padded gain by it.
    in_order = sorted(some, key=len)
    by_length = {name: peer(size, in_order).rate for name, size in sizes.items() if size > 1}
    name_sorted = max(by_length, key=by_length.__getitem__)
    shares: list[float] = []

    def ours_against_roofline(number: int) -> Work:
        roofline.peak_flops.cache_clear()
        before = roofline.peak_of(material.backbone)
        work = ours(number)
        roofline.peak_flops.cache_clear()
        peak = (before + roofline.peak_of(material.backbone)) / 2
        shares.append(roofline.model_flops(material.backbone, sum(tokens), 0) / work.seconds / peak)
        return work

    ours(-1)
    row.compare(ours_against_roofline, lambda number: peer(best), 2 if quick else 4)
    row.claims += [claim("ratio", row.ratios, 1.5), claim("share of the matmul roofline", shares, 0.6, style="share")]
    row.checks += [
        share_of_equal(answers["ours"], answers["peer"]),
        f"the peer with inputs that its user sorted by length beforehand, {name_sorted}: {by_length[name_sorted]:.4g} "
        f"examples/s, to which ours is {statistics.median(row.ours) / by_length[name_sorted]:.2f}x",
    ]
    row.profile = profile(lambda: ours(-1))
    row.limit = (
        "The roofline is the backbone's largest product alone (1024 tokens, MLP shape); the narrower products of the "
        "attention, of which the key and value projections are the smallest, run below it. Against the peer, which "
        "runs the same products, padding and what lies between the products can be saved."
    )
    return row


def linear_head(material: Material) -> nn.Sequential:
    """Return a linear head without bias, as Hugging Face's sequence classifier has it."""
    head = nn.Linear(material.backbone.width, len(material.card.labels))
    torch.manual_seed(0)
    nn.init.normal_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(head)


def sequence_classifier(material: Material, fitted: db.Fitted) -> Any:
    """Return Hugging Face's classifier with the head of `fitted`."""
    model = AutoModelForSequenceClassification.from_pretrained(
        material.folder,
        dtype=material.dtype,
        num_labels=len(material.card.labels),
        pad_token_id=material.backbone.pad_id,
    )
    assert fitted.head is not None
    with torch.no_grad():
        model.score.weight.copy_(fitted.head[0].weight)
    return model.eval()


# ---------------------------------------------------------------- label words


def harness(model: Any, tokenizer: Any, size: int) -> HFLM:
    """Return lm-evaluation-harness's model of type ``hf``."""
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, max_length=8192)


def label_scoring(quick: bool) -> Row:
    """Label-word scoring against the harness's loglikelihood."""
    material = Material.load(train=1, test=12 if quick else 64)
    fitted = db.Fitted(material.card)
    model = AutoModelForCausalLM.from_pretrained(material.folder, dtype=material.dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(material.folder)
    words = material.card.answers
    answers: dict[str, list[int]] = {}
    shares: list[float] = []

    def ours(number: int) -> Work:
        found: list[db.Predictions] = []
        seconds = timed(lambda: found.append(db.score_labels(fitted, material.test, material.context(BUDGET))))
        answers["ours"] = found[0].labels
        peak = roofline.peak_of(material.backbone)
        shares.append(roofline.model_flops(material.backbone, sum(found[0].tokens_in), 0) / seconds / peak)
        return Work(len(material.test), seconds)

    def peer(size: int, count: int = len(material.test)) -> Work:
        lm = harness(model, tokenizer, size)
        contexts = [example.prompt.text + material.card.answer for example in material.test[:count]]
        requests = [
            Instance("loglikelihood", {}, (context, f" {word}"), index)
            for context in contexts
            for index, word in enumerate(words)
        ]
        found: list[tuple[float, bool]] = []
        seconds = timed(lambda: found.extend(lm.loglikelihood(requests, disable_tqdm=True)))
        scores = [score for score, _ in found]
        groups = [scores[i : i + len(words)] for i in range(0, len(scores), len(words))]
        answers["peer"] = [max(range(len(words)), key=group.__getitem__) for group in groups]
        return Work(count, seconds)

    row = Row(
        "label-word scoring",
        "lm-evaluation-harness hf, loglikelihood, at its best batch size",
        f"{material.setting}; {len(material.test)} inputs, answers {', '.join(words)}, same prompts, "
        "tokenisation included",
        "examples/s",
    )
    sizes = {f"batch {size}": size for size in ((4,) if quick else (1, 4, 8, 16))}
    count = len(material.test) if quick else 32
    best = best_of(row, sizes, lambda size: peer(size, count), ERRORS)
    ours(-1)
    row.compare(ours, lambda number: peer(best), 2 if quick else 3)
    found = claim("ratio", row.ratios, 2.0)
    row.claims.append(found)
    row.checks.append(share_of_equal(answers["ours"], answers["peer"]))
    share = statistics.median(shares[1:])
    row.profile = profile(lambda: ours(-1))
    row.limit = (
        "Both sides read each input once. What is saved is padding, the LM head on positions that are not scored, and "
        "what lies between the products of the blocks; the blocks themselves are the same. Our side runs at "
        f"{share:.0%} of the matmul roofline, and the target would take {found.target / found.value * share:.0%} of it."
    )
    return row


# ---------------------------------------------------------------- chain of thought


def cot_decoding(quick: bool) -> Row:
    """Greedy decoding of a fine-tuned chain of thought against the harness's generate_until."""
    smoke = registry.budgets.get("smoke")
    budget = smoke.model_copy(update={"max_length": LENGTH, "epochs": 1 if quick else smoke.epochs})
    rows = 16 if quick else 48
    material = Material.load(train=rows, test=8 if quick else 64)
    cot = method("cot")
    say("fine-tuning the model that both sides decode")
    cot.fit(TaskData(material.card, material.train, ()), material.context(budget))
    fitted: db.Fitted = cot.fitted  # type: ignore[attr-defined]
    model, tokenizer = merged(material, fitted, budget)
    limit = 12 if quick else 96
    prompts = [example.prompt.text + material.card.reason for example in material.test]
    texts: dict[str, list[str]] = {}
    shares: list[float] = []

    def ours(size: int, count: int = len(prompts)) -> Work:
        decoding = budget.decoding.model_copy(update={"max_new_tokens": limit, "batch_size": size})
        context = material.context(budget.model_copy(update={"decoding": decoding}))
        found: list[db.Predictions] = []
        seconds = timed(lambda: found.append(cot.predict(material.test[:count], context)))
        texts["ours"] = found[0].texts or []
        flops = roofline.model_flops(material.backbone, sum(found[0].tokens_in), sum(found[0].tokens_out))
        shares.append(flops / seconds / roofline.peak_of(material.backbone))
        return Work(count, seconds)

    def peer(size: int, count: int = len(prompts)) -> Work:
        lm = harness(model, tokenizer, size)
        # The end of text, at which the harness always stops, follows the answer: the same rule as ours.
        options = {"until": [], "max_gen_toks": limit, "do_sample": False}
        requests = [Instance("generate_until", {}, (prompt, options), 0) for prompt in prompts[:count]]
        found: list[str] = []
        seconds = timed(lambda: found.extend(lm.generate_until(requests, disable_tqdm=True)))
        texts["peer"] = found
        return Work(count, seconds)

    row = Row(
        "CoT decoding",
        "lm-evaluation-harness hf, generate_until, at its best batch size",
        f"{material.setting}; {len(prompts)} inputs, greedy, at most {limit} tokens, stop after the answer, the same "
        f"weights (cot fine-tuned on {rows} rows), {budget.decoding.batch_size} rows at a time on our side",
        "examples/s",
    )
    sizes = {f"batch {size}": size for size in ((4,) if quick else (16, 32))}
    count = len(prompts) if quick else max(sizes.values())
    best = best_of(row, sizes, lambda size: peer(size, count), ERRORS)
    own = budget.decoding.batch_size
    ours(own, 8)
    row.compare(lambda number: ours(own), lambda number: peer(best), 2 if quick else 3)
    found = claim("ratio", row.ratios, 2.0)
    row.claims.append(found)
    share = statistics.median(shares[1:])
    read = partial(map, lambda text: db.inference.parse_answer(text, material.card))
    row.checks.append(share_of_equal(list(read(texts["ours"])), list(read(texts["peer"]))))
    lengths = {side: sum(len(tokenizer.encode(text)) for text in found) / len(found) for side, found in texts.items()}
    row.checks.append(
        f"tokens of a text: {lengths['ours']:.1f} ours (reason marker included), {lengths['peer']:.1f} the peer's"
    )
    row.profile = profile(lambda: ours(own, min(len(prompts), own)))
    row.limit = (
        "Both sides take the same tokens through the same weights, a few rows a step. What is saved is steps for rows "
        "that are done, padding and copies of the cache. Our side runs at "
        f"{share:.0%} of the matmul roofline, and the target would take {found.target / found.value * share:.0%} of it."
    )
    return row


def merged(material: Material, fitted: db.Fitted, budget: Budget) -> tuple[Any, Any]:
    """Return the fine-tuned model as Hugging Face loads it, by way of a temporary folder."""
    fitted.activate(material.backbone, budget)
    with tempfile.TemporaryDirectory() as folder:
        material.backbone.model.save_pretrained(Path(folder))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=material.dtype, attn_implementation="sdpa").eval()
    return model, AutoTokenizer.from_pretrained(material.folder)
