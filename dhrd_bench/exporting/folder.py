"""From a fitted method to a folder that ``AutoModelForSequenceClassification`` loads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.fourbit import plain_state
from dhrd_bench.contracts import Example, Method, Prompt
from dhrd_bench.errors import UserError
from dhrd_bench.exporting.classifier import Classifier, load
from dhrd_bench.exporting.description import FILE, Description, Origin, fields_of
from dhrd_bench.exporting.model import PooledClassifier, PooledConfig, Read
from dhrd_bench.grid.plan import Plan, PlannedCell
from dhrd_bench.methods import MethodSpec
from dhrd_bench.modeling.encode import PAUSE, Encoder
from dhrd_bench.modeling.fitted import Fitted
from dhrd_bench.results.store import record_path, write_text_atomically

CLOSE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05}
"""How far logits of the exported model may be from those of the method, relative to the larger of 1 and their size:
its attention is the library's, ours is our own, and both round."""

COMPARED = 32
"""Rows whose tokens and logits are compared."""


def require_pooled(method: MethodSpec) -> None:
    """Refuse, before anything is fitted, a method that answers in another way than from its backbone's pooled state.

    Raises
    ------
    UserError
        If it does.
    """
    if not method.card.kinds or {"generate", "score"} & {*method.card.kinds}:
        raise _unfit(method.name)


def fitted_of(method: Method, name: str) -> Fitted:
    """Return what was fitted; whether the method answers by that and nothing else, `check_folder` will see.

    Raises
    ------
    UserError
        If it is no backbone with a head and a pooling of ours.
    """
    fitted = getattr(method, "fitted", None)
    if not isinstance(fitted, Fitted) or fitted.head is None or fitted.pooling == "custom":
        raise _unfit(name)
    return fitted


def _unfit(name: str) -> UserError:
    return UserError(
        f"{name} cannot be exported: it does not answer by a head on its backbone's pooled state.",
        "Export a record of a method that does (inference pooled in `dhrd-bench list`).",
    )


def describe(plan: Plan, planned: PlannedCell, backbone: Backbone, fitted: Fitted) -> Description:
    """Return how rows are asked of the classifier of a cell."""
    loaded, card = planned.loaded, plan.backbone
    definition = plan.suite.card.tasks[loaded.card.name]
    prompt = definition.prompts[loaded.card.prompt]
    return Description(
        task=loaded.card,
        classes=planned.test.classes,
        fields=fields_of(prompt, definition.fields),
        prompt=prompt,
        max_length=planned.budget.max_length,
        pause=fitted.pause,
        encoder=backbone.is_encoder,
        origin=Origin(
            record=record_path(Path(), planned.cell).as_posix(),
            identity=planned.identity,
            suite=planned.cell.suite,
            method=planned.cell.method,
            backbone=planned.cell.backbone,
            hub_id="" if Path(card.hub_id).is_dir() else card.hub_id,
            revision=backbone.revision,
            budget=planned.cell.budget,
            seed=planned.cell.seed,
        ),
    )


def write_folder(folder: Path, fitted: Fitted, backbone: Backbone, about: Description) -> None:
    """Write weights, configuration, tokenizer and description of a classifier."""
    tokenizer = write_tokenizer(folder, backbone, about)
    model = whole_model(fitted, backbone, about)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    write_text_atomically(folder / FILE, about.model_dump_json(indent=2) + "\n")


def whole_model(fitted: Fitted, backbone: Backbone, about: Description) -> Any:
    """Return the classifier as one model of the library: its own class where that can hold the head, else ours."""
    assert fitted.head is not None
    config, kind = _configuration(fitted, backbone, about)
    with torch.device("meta"):
        model = kind(config)
    trunk = {name: tensor.detach() for name, tensor in plain_state(backbone.trunk).items()}
    model.base_model.load_state_dict(trunk, assign=True)
    if isinstance(model, PooledClassifier):
        model.head.load_state_dict(fitted.head.state_dict(), assign=True)
        if fitted.pool is not None and model.pool is not None:
            query = fitted.pool.state_dict()["query"]
            model.pool.load_state_dict({"weight": query[None]}, assign=True)
    else:
        weight = fitted.head.state_dict()["0.weight"].to(backbone.dtype)
        model.score.load_state_dict({"weight": weight}, assign=True)
    return model


def _configuration(fitted: Fitted, backbone: Backbone, about: Description) -> tuple[Any, Any]:
    """Return the configuration of the exported model, and its class."""
    labels = about.task.labels
    named = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }
    config = copy.deepcopy(backbone.trunk.config)
    config._attn_implementation = None  # the harness's own, which no one else has
    if backbone.quantized:  # and what is written is plain
        del config.quantization_config
    config.dtype = backbone.dtype
    stock = _stock_class(config) if fitted.head_kind == "unbiased" and fitted.pooling == "last" else None
    if stock is not None and not backbone.is_encoder:
        for name, value in named.items():
            setattr(config, name, value)
        return config, stock
    read: Read = "first" if fitted.pooling == "last" and backbone.is_encoder else fitted.pooling  # type: ignore[assignment]
    assert fitted.head_kind is not None
    own = PooledConfig(config, head=fitted.head_kind, pooling=read, dtype=backbone.dtype, **named)
    return own, PooledClassifier


def _stock_class(config: Any) -> Any:
    """Return the library's class that reads the last token by one layer without a bias, if it has one for `config`."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    from transformers.modeling_layers import GenericForSequenceClassification

    kind = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    return kind if isinstance(kind, type) and issubclass(kind, GenericForSequenceClassification) else None


def write_tokenizer(folder: Path, backbone: Backbone, about: Description) -> Any:
    """Write the tokenizer, which is to do by itself all that is done to a text here, and return it.

    A name of a special token in a text is text. Padding is a special token, which no text ends with. What stands
    before a text stands there; pauses and, of an encoder, the end stand behind it.
    """
    from transformers import AutoTokenizer

    backbone.tokenizer.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.is_fast:
        raise UserError(f"The tokenizer of {about.origin.backbone} has no fast form.", "Take another backbone.")
    tokenizer.split_special_tokens = True
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = about.max_length + about.pause
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    if tokenizer.pad_token_id not in special:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(backbone.eos_id)
    _frame(tokenizer, backbone, about.pause)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _frame(tokenizer: Any, backbone: Backbone, pause: int) -> None:
    """Have the tokenizer put around a text what is put around it here, if it does not do so already."""
    from tokenizers.processors import TemplateProcessing

    behind = backbone.tokens.end + backbone.encode(PAUSE)[-1:] * pause
    plain = tokenizer.encode("a", add_special_tokens=False)
    if tokenizer.encode("a") == [*backbone.tokens.start, *plain, *behind]:
        return
    before, after = (tokenizer.convert_ids_to_tokens(ids) for ids in (backbone.tokens.start, behind))
    around = sorted({*zip(before, backbone.tokens.start, strict=True), *zip(after, behind, strict=True)})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*before, "$A", *after], special_tokens=around
    )


# ---------------------------------------------------------------- held against the method


def check_folder(folder: Path, method: Method, fitted: Fitted, planned: PlannedCell, backbone: Backbone) -> float:
    """Load what was written and compare it with the method, on test rows: the tokens, and the logits.

    Returns
    -------
    float
        The largest difference of two logits, relative to the larger of 1 and their size.

    Raises
    ------
    UserError
        If they are not those of the method.
    """
    examples = planned.test.examples[:COMPARED]
    ours = torch.tensor(method.predict(examples, planned.context(backbone)).scores)
    encoder = Encoder(backbone, planned.budget, planned.loaded.card, pause=fitted.pause)
    exported = load(folder, str(backbone.device))
    _check_tokens(exported, encoder, examples)
    theirs = exported.logits([example.prompt for example in examples])
    distance = float(((ours - theirs).abs() / ours.abs().maximum(theirs.abs()).clamp(min=1)).max())
    if not distance <= CLOSE[str(backbone.card.dtype)]:  # NaN is not close either
        raise UserError(
            f"The exported model does not answer as the method: its logits lie up to {distance:.2g} apart.",
            "Please report this with the name of the backbone.",
        )
    return distance


def _check_tokens(exported: Classifier, encoder: Encoder, examples: Sequence[Example]) -> None:
    """Refuse a tokenizer that by itself makes other tokens of a text than the method was given."""
    for example in examples:
        whole = Example(example.id, Prompt(example.prompt.text, "", ""))  # a pipeline cuts no passage
        ids = exported.tokenizer(example.prompt.text)["input_ids"]
        if ids != encoder.input(whole):
            raise UserError(
                f"The tokenizer, saved and loaded, makes other tokens of row {example.id!r} than in training.",
                "Please report this with the name of the backbone.",
            )


def predicted(exported: Classifier, planned: PlannedCell) -> list[str]:
    """Return the classes that the exported model gives the test rows of a cell."""
    count = planned.test.candidates
    prompts = [example.prompt for example in planned.test.examples]
    asked = [prompts[start : start + count] for start in range(0, len(prompts), count)]
    return [answer.label for answer in exported.answers(asked)]
