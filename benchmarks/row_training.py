"""Training steps: pooled LoRA, the dual-head objective, rationale fine-tuning."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from material import LENGTH, Material, method
from measuring import Row, Work, best_of, claim, profile
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

import dhrd_bench as db
from dhrd_bench.contracts import Budget, Lora, TaskData
from dhrd_bench.modeling.batches import epoch_batches
from dhrd_bench.training.loop import fine_tune

PACKED = 1024
"""Tokens of a pack: ours (`Budget.micro_tokens`) and the peer's where it packs."""


Build = Callable[[db.LabeledExample, db.Encoder], list[db.Row]]
WHY_NOT = (RuntimeError, ValueError, ImportError)
"""What a setting that does not run here raises."""


@dataclass(frozen=True)
class Course:
    """One epoch of a few optimiser steps on `train`."""

    material: Material
    budget: Budget
    train: tuple[db.LabeledExample, ...]

    @classmethod
    def load(cls, quick: bool) -> Course:
        """Return three steps of 8 rows, or two of 4."""
        batch, steps = (4, 2) if quick else (8, 3)
        material = Material.load(train=batch * steps, test=1)
        budget = Budget(
            name="bench", epochs=1, batch_size=batch, max_length=LENGTH, max_rationale=LENGTH, tuning="lora",
            micro_tokens=PACKED,
        )  # fmt: skip
        return cls(material, budget, material.train)

    @property
    def rows(self) -> list[db.LabeledExample]:
        """The rows in the order in which our loop takes them, and the peer is given them."""
        order = epoch_batches(len(self.train), self.batch, self.material.context(self.budget).stream("order"), 0)
        return [self.train[i] for part in order for i in part]

    @property
    def batch(self) -> int:
        """Examples a step."""
        return self.budget.batch_size

    def part(self, steps: int) -> Course:
        """Return the first steps."""
        return Course(self.material, self.budget, self.train[: steps * self.batch])

    def timed_tokens(self, ids: Sequence[list[int]]) -> float:
        """Return the tokens of all steps but the first, which warms up and is not timed."""
        return float(sum(map(len, ids[self.batch :])))

    def setting(self, more: str) -> str:
        """Say what is the same on both sides."""
        return f"{self.material.setting}; LoRA r=16 on all linear layers, {self.batch} examples a step, {more}"


@dataclass
class Steps:
    """When the optimiser steps of a run ended, and their losses. The first step warms up and is not timed."""

    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def end(self, loss: float) -> None:
        """Note that a step ends now."""
        self.ends.append(time.perf_counter())
        self.losses.append(loss)

    def work(self, units: float) -> Work:
        """Return the timed steps, which worked off `units`."""
        return Work(units, self.ends[-1] - self.ends[0])


class StepCallback(TrainerCallback):
    """Notes the end of each optimiser step of a Hugging Face trainer."""

    def __init__(self) -> None:
        self.steps = Steps()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.steps.ends.append(time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        """Note the loss."""
        if "loss" in logs:
            self.steps.losses.append(logs["loss"])


def train_ours(course: Course, build: Build, weights: Mapping[str, float]) -> Steps:
    """Run our loop over the course."""
    steps = Steps()
    context = course.material.context(course.budget, lambda phase, done, total, figures: steps.end(figures["loss"]))
    task = TaskData(course.material.card, course.train, ())
    fine_tune(task, context, build, weights=weights, head="linear" if "cls" in weights else None)
    return steps


def arguments(course: Course, per_device: int, accumulation: int) -> dict[str, Any]:
    """Return what `Trainer` and `SFTTrainer` are told: our optimiser, dtype and order of rows."""
    budget, material = course.budget, course.material
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 1,
        "learning_rate": budget.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": budget.warmup_steps,
        "weight_decay": budget.weight_decay,
        "max_grad_norm": budget.max_grad_norm,
        "bf16": str(material.dtype) == "torch.bfloat16",
        "use_cpu": material.backbone.device.type == "cpu",
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def lora(task: str) -> LoraConfig:
    """Return the adapters of our budget as peft's configuration."""
    ours = Lora()
    return LoraConfig(
        task_type=task, r=ours.r, lora_alpha=ours.alpha, lora_dropout=ours.dropout, target_modules=list(ours.targets)
    )


def tokenizer_of(material: Material) -> Any:
    """Return the peer's tokenizer, with a padding token that is not the end of text."""
    tokenizer = AutoTokenizer.from_pretrained(material.folder)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(material.backbone.pad_id)
    return tokenizer


def run_trainer(trainer: Trainer) -> tuple[Steps, float]:
    """Train; return its steps and the real tokens of those that are timed."""
    callback = StepCallback()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    trainer.train()
    args = trainer.args
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    first = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return callback.steps, float(sum(lengths[first:]))


# ---------------------------------------------------------------- pooled LoRA


def pooled_lora(quick: bool) -> Row:
    """Pooled classifier with LoRA against `Trainer` with peft and dynamic padding."""
    course = Course.load(quick)
    ids = [course.material.backbone.encode(row.example.prompt.text) for row in course.rows]
    pooled = method("pooled", head="linear")
    tokens = course.timed_tokens(ids)

    def peer(sizes: tuple[int, int], count: int = len(ids)) -> Work:
        found, real = run_trainer(classifier_trainer(course, ids[:count], sizes))
        return found.work(real)

    row = Row(
        "pooled LoRA training",
        "transformers Trainer + peft + AutoModelForSequenceClassification, dynamic padding",
        course.setting("same rows in the same steps"),
        "real tokens/s",
    )
    best = best_of(row, splits(course), lambda sizes: peer(sizes, 2 * course.batch), (RuntimeError,))
    row.compare(
        lambda number: train_ours(course, pooled.rows, {"cls": 1.0}).work(tokens),
        lambda number: peer(best),
        2 if quick else 3,
    )
    row.claims.append(claim("ratio", row.ratios, 1.5))
    row.profile = profile(lambda: train_ours(course.part(1), pooled.rows, {"cls": 1.0}))
    row.limit = (
        "Both sides run the same matrix products (forward, and backward to the states and the adapters); what can be "
        "saved is padding and what lies between the products."
    )
    return row


def splits(course: Course) -> dict[str, tuple[int, int]]:
    """Return ways to split a step's batch into forward passes: (examples, how many)."""
    batch = course.batch
    return {f"{batch // part} x {part}": (batch // part, part) for part in ((1,) if batch < 8 else (1, 2))}


def classifier_trainer(course: Course, ids: Sequence[list[int]], sizes: tuple[int, int]) -> Trainer:
    """Return a fresh trainer of a sequence classifier with adapters."""
    material = course.material
    model = AutoModelForSequenceClassification.from_pretrained(
        material.folder,
        dtype=material.dtype,
        num_labels=len(material.card.labels),
        pad_token_id=material.backbone.pad_id,
    )
    rows = [
        {"input_ids": each, "attention_mask": [1] * len(each), "labels": row.label}
        for each, row in zip(ids, course.rows, strict=False)
    ]
    return Trainer(
        model=get_peft_model(model, lora("SEQ_CLS")),
        args=TrainingArguments(**arguments(course, *sizes)),
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorWithPadding(tokenizer_of(material)),
    )


# ---------------------------------------------------------------- dual head


def dhrd_step(quick: bool) -> Row:
    """One pass over [x, r, y] against a pass over x for the classifier and one over [x, r, y] for the LM."""
    course = Course.load(quick)
    dhrd = method("dhrd", head="linear")
    weights = {"cls": 1.0, "lm": 1.0}
    first: dict[str, float] = {}

    def apart(row: db.LabeledExample, encode: db.Encoder) -> list[db.Row]:
        (whole,) = dhrd.rows(row, encode)
        x = whole.ids[: whole.input_length]
        return [db.Row(x, len(x), label=row.label), db.Row(whole.ids, whole.input_length, lm=whole.lm)]

    def run(passes: str, build: Build) -> Work:
        found = train_ours(course, build, weights)
        first[passes] = found.losses[0]
        return found.work(len(course.rows) - course.batch)

    row = Row(
        "DHRD training step",
        "the same objective as two forward passes: x for the classifier, [x, r, y] for the LM",
        course.setting("same loop and packing"),
        "examples/s",
    )
    row.compare(lambda number: run("one", dhrd.rows), lambda number: run("two", apart), 2 if quick else 3)
    row.claims.append(claim("ratio", row.ratios, 1.5))
    row.checks.append(f"loss of the first step: {first['one']:.4f} in one pass, {first['two']:.4f} in two")
    row.profile = profile(lambda: train_ours(course.part(1), dhrd.rows, weights))
    encoder = db.Encoder(course.material.backbone, course.budget, course.material.card)
    built = [dhrd.rows(each, encoder)[0] for each in course.rows]
    x = sum(each.input_length for each in built) / sum(len(each.ids) for each in built)
    row.limit = (
        f"The second pass adds the {x:.0%} of the tokens that are input, so the blocks' part of a step can shrink by "
        f"{1 + x:.2f}x at most; the LM head's part is the same on both sides. Longer inputs or shorter rationales "
        "raise the bound, which is 2x without a rationale."
    )
    return row


# ---------------------------------------------------------------- rationale fine-tuning


def sft(quick: bool) -> Row:
    """LM fine-tuning on [x, r, y] against trl's `SFTTrainer` at its best setting."""
    course = Course.load(quick)
    cot = method("cot")
    encoder = db.Encoder(course.material.backbone, course.budget, course.material.card)
    ids = [cot.rows(row, encoder)[0].ids for row in course.rows]
    tokens = course.timed_tokens(ids)
    first: dict[str, float] = {}

    def ours(number: int) -> Work:
        found = train_ours(course, cot.rows, {"lm": 1.0})
        first["ours"] = found.losses[0]
        return found.work(tokens)

    def peer(name: str, count: int = len(ids)) -> Work:
        found, real = run_trainer(sft_trainer(course, ids[:count], **settings[name]))
        first[name] = found.losses[0]
        return found.work(real)

    row = Row(
        "rationale SFT step",
        "trl SFTTrainer at its best setting",
        course.setting("loss on all tokens; where the peer packs, as many tokens a step"),
        "real tokens/s",
    )
    settings: dict[str, dict[str, Any]] = {}
    for name, sizes in splits(course).items():
        settings[f"padding-free, {name}"] = {"sizes": sizes, "padding_free": True}
    settings[f"padding, {name}"] = {"sizes": sizes}
    packs = 1 if quick else 2
    settings[f"packed to {PACKED}, 1 x {packs}"] = {"sizes": (1, packs), "packing": True, "max_length": PACKED}
    # Two steps are enough to see which is best; packs hold several rows.
    tries = {name: len(ids) if "packing" in options else 2 * course.batch for name, options in settings.items()}
    best = best_of(row, {name: name for name in settings}, lambda name: peer(name, tries[name]), WHY_NOT)
    row.compare(ours, lambda number: peer(best), 2 if quick else 3)
    row.claims.append(claim("ratio", row.ratios, 1.2))
    row.checks.append("loss of the first step: " + "; ".join(f"{loss:.4f} {name}" for name, loss in first.items()))
    row.profile = profile(lambda: train_ours(course.part(1), cot.rows, {"lm": 1.0}))
    row.limit = (
        "Both sides run the same matrix products over the blocks, and over the LM head for every position; what can be "
        "saved is padding and what lies between the products."
    )
    return row


def sft_trainer(
    course: Course, ids: Sequence[list[int]], *, sizes: tuple[int, int], max_length: int | None = None, **options: Any
) -> SFTTrainer:
    """Return a fresh trl trainer on tokenised sequences."""
    material = course.material
    settings = SFTConfig(
        **arguments(course, *sizes),
        # By default trl trades a fifth of the speed for memory, which is not short here.
        gradient_checkpointing=False,
        max_length=max_length,
        **options,
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(material.folder, dtype=material.dtype),
        args=settings,
        train_dataset=Dataset.from_list([{"input_ids": each} for each in ids]),
        processing_class=tokenizer_of(material),
        peft_config=lora("CAUSAL_LM"),
    )
