"""Reading a ``suite.yaml``: what tasks share is filled in, and every mistake gets its line and its cure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dhrd_bench import registry
from dhrd_bench.contracts import Card
from dhrd_bench.data import prompts
from dhrd_bench.data.cards import (
    FilesCard,
    GeneratedCard,
    HubCard,
    LabelCard,
    PromptCard,
    RationaleCard,
    SpanCard,
    SplitCard,
    SuiteCard,
    TaskDefinition,
    Value,
)
from dhrd_bench.data.rows import label_key
from dhrd_bench.errors import UserError, did_you_mean, first_misfit
from dhrd_bench.metrics import METRICS
from dhrd_bench.untrusted import parse_yaml, read_text


def read_suite(path: Path) -> SuiteCard:
    """Read and check a ``suite.yaml``; each task of the card has what the suite says for all of them.

    Raises
    ------
    UserError
        With file, line, key and cure.
    """
    text, raw = _read_yaml(path)
    if raw.get("extends"):
        raw = _extend(raw, path, text)
    try:
        card = SuiteCard.model_validate(_fill_in(raw))
    except ValidationError as error:
        raise _explain(error, path, text) from error
    for keys, message, hint in _check(card):
        raise UserError(f"{_place(path, text, keys)}: {message}.", hint)
    return card


def _read_yaml(path: Path) -> tuple[str, dict[str, Any]]:
    text = read_text(path)
    raw = parse_yaml(text, path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}:1: a suite is a mapping of keys.", "Start with 'kind: suite'.")
    return text, raw


def _extend(raw: dict[str, Any], path: Path, text: str) -> dict[str, Any]:
    try:
        base = registry.suites.get(str(raw["extends"]))
    except UserError as error:
        raise UserError(f"{_place(path, text, ['extends'])}: {error.message}", error.hint) from error
    _, extended = _read_yaml(base)
    if extended.get("extends"):
        message = f"{_place(path, text, ['extends'])}: {raw['extends']!r} extends a suite itself."
        raise UserError(
            message, f"Extend {extended['extends']!r}." if base.resolve() != path.resolve() else "Name another."
        )
    return _overlay(extended, raw)


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` over `base`, mapping by mapping; None takes a key away."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _overlay(merged[key], value)
        else:
            merged[key] = value
    return merged


def _fill_in(raw: dict[str, Any]) -> dict[str, Any]:
    """Give each task what the suite says for all of them; malformed parts are left for pydantic to name."""
    if not isinstance(raw.get("tasks"), dict):
        return raw
    tasks = {}
    for name, task in raw["tasks"].items():
        if isinstance(task, dict):
            task = dict(task)
            for key in ("hub", "generated", "rationale"):
                if isinstance(raw.get(key), dict) and isinstance(task.get(key, {}), dict):
                    task[key] = _overlay(raw[key], task.get(key, {}))
            if isinstance(task.get("prompts"), dict) and isinstance(raw.get("prompts"), dict):
                task["prompts"] = {
                    prompt: _overlay(raw["prompts"].get(prompt) or {}, entry or {})
                    if isinstance(entry, dict | None)
                    else entry
                    for prompt, entry in task["prompts"].items()
                }
        tasks[name] = task
    return raw | {"tasks": tasks}


# ---------------------------------------------------------------- mistakes


Mistake = tuple[tuple[str | int, ...], str, str]
"""The keys that lead to it, what is wrong, and the cure."""


def _explain(error: ValidationError, path: Path, text: str) -> UserError:
    misfit = first_misfit(error)
    keys = tuple(key for key in misfit.keys if key not in ("bool", "int", "float", "str"))
    hint = ""
    if misfit.kind == "extra_forbidden":
        hint = did_you_mean(str(keys[-1]), _keys_at(keys[:-1]))
        return UserError(f"{_place(path, text, keys)}: unknown key.", hint)
    if misfit.kind == "string_type" and isinstance(misfit.value, bool):
        hint = 'YAML reads yes, no, on and off as booleans: put the word in quotes, as in "yes".'
    elif misfit.kind == "missing":
        hint = f"Add {keys[-1]!r} there."
    return UserError(f"{_place(path, text, keys)}: {misfit.message}.", hint)


def _keys_at(keys: Sequence[str | int]) -> list[str]:
    """Return the keys known at this place of a suite file."""
    cards: dict[str, type[Card]] = {
        "files": FilesCard, "hub": HubCard, "generated": GeneratedCard, "split": SplitCard, "label": LabelCard,
        "rationale": RationaleCard, "spans": SpanCard,
    }  # fmt: skip
    if not keys:
        return list(SuiteCard.model_fields)
    if keys[0] != "tasks" or len(keys) == 2:
        return list(TaskDefinition.model_fields)
    return list(cards.get(str(keys[2]), PromptCard).model_fields)


def _place(path: Path, text: str, keys: Sequence[str | int]) -> str:
    """Return ``file:line: key`` of the deepest node on the way of `keys` that the file itself has."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for key in keys:
        entry: tuple[yaml.Node, yaml.Node] | None = None
        if isinstance(node, yaml.MappingNode):
            entry = next((pair for pair in node.value if pair[0].value == str(key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            entry = (node.value[key], node.value[key])
        if entry is None:
            break
        line, node = entry[0].start_mark.line + 1, entry[1]
    return f"{path}:{line}: {'.'.join(str(key) for key in keys)}"


def _check(card: SuiteCard) -> Iterator[Mistake]:
    """Yield what pydantic cannot see: names that refer to nothing, counts that differ, broken templates."""
    for name, task in card.tasks.items():
        here = ("tasks", name)
        if card.prompt not in task.prompts:
            hint = did_you_mean(card.prompt, task.prompts)
            yield (*here, "prompts"), f"the suite's default prompt {card.prompt!r} is missing", hint
        for key in ("id", "cluster", "group", "hash"):
            yield from _unknown((*here, key), getattr(task, key), task.fields)
        if task.hub:
            yield from _unknown((*here, "hub", "fields"), task.hub.fields, task.fields)
        for number, span in enumerate(task.spans):
            names = [value for value in span.model_dump().values() if value is not None]
            yield from _unknown((*here, "spans", number), names, task.fields)
            given = {key for key, value in span if value is not None} - {"text"}
            if given not in ({"start", "end"}, {"start", "end", "words"}, {"index", "words"}):
                message = "a span is start and end, or index and words"
                yield (*here, "spans", number), message, "Give one of these pairs."
        yield from _check_sources(here, task)
        yield from _check_labels(here, task)
        for number, metric in enumerate(task.metrics):
            if metric not in METRICS and not metric.startswith("evaluate:"):
                hint = f"{did_you_mean(metric, METRICS)} A metric of the evaluate library is written evaluate:NAME."
                yield (*here, "metrics", number), f"unknown metric {metric!r}", hint
        for prompt, entry in task.prompts.items():
            yield from _check_prompt((*here, "prompts", prompt), entry, task)


def _unknown(keys: tuple[str | int, ...], names: Iterable[str], fields: Mapping[str, str]) -> Iterator[Mistake]:
    for name in names:
        if name not in fields:
            yield keys, f"there is no field {name!r}", did_you_mean(name, fields)


def _check_sources(here: tuple[str | int, ...], task: TaskDefinition) -> Iterator[Mistake]:
    sources = {key: value for key in ("files", "hub") if (value := getattr(task, key)) is not None}
    if isinstance(task.hub, HubCard) and task.hub.path is None:
        del sources["hub"]
    if task.generated:
        by = task.generated.by
        if by not in registry.generators.names():
            hint = did_you_mean(by, registry.generators.entries)
            yield (*here, "generated", "by"), f"there is no generator {by!r}", hint
    elif not sources:
        yield here, "the task has no source", "Give 'files', 'hub' with a path, or both, or 'generated'."
    for key, source in sources.items():
        given = {name for name in ("train", "test", "all") if getattr(source, name)}
        if given == {"all"} and task.split is None:
            yield (
                (*here, key),
                "one source for both splits needs a rule",
                "Add 'split: {test_fraction: 0.2}' to the task.",
            )
        elif given not in ({"train", "test"}, {"all"}):
            yield (*here, key), "give 'train' and 'test', or 'all'", "Add what is missing."


def _check_labels(here: tuple[str | int, ...], task: TaskDefinition) -> Iterator[Mistake]:
    label = task.label
    for key, values in (("label", label.values), ("hub", task.hub.values if task.hub else None)):
        if values is not None and len(values) != len(label.names):
            yield (*here, key, "values"), f"{len(values)} values for {len(label.names)} classes", "Give one a class."
    yield from _same((*here, "label", "names"), "label names", label.names)
    if label.values is not None:
        yield from _same((*here, "label", "values"), "label values", label.values)
    binary = [metric for metric in task.metrics if metric in METRICS and METRICS[metric].binary]
    if binary and len(label.names) != 2:
        hint = "Use f1_macro, or two classes of which the second is the positive one."
        yield (*here, "metrics"), f"{binary[0]} needs two classes, the task has {len(label.names)}", hint


def _same(keys: tuple[str | int, ...], what: str, values: Sequence[Value]) -> Iterator[Mistake]:
    """Yield two classes' names, values or answers that are read as one, and an empty one, which is read as none."""
    seen: dict[str, Value] = {}
    for value in values:
        key = unicodedata.normalize("NFKC", label_key(value))
        if not key:
            yield keys, f"one of the {what} is empty", "Give every class a word."
        if key in seen:
            alike = "" if seen[key] == value else ", case and form aside"
            yield keys, f"{what} {seen[key]!r} and {value!r} are the same{alike}", "Give every class its own."
        seen[key] = value


def _check_prompt(here: tuple[str | int, ...], prompt: PromptCard, task: TaskDefinition) -> Iterator[Mistake]:
    classes = len(task.label.names)
    if prompt.candidates and len(prompt.candidates) != classes:
        hint = "Give one a class, by label id."
        yield (*here, "candidates"), f"{len(prompt.candidates)} candidates for {classes} classes", hint
    asked = 2 if prompt.candidates else classes
    if len(prompt.answers or task.label.names) != asked:
        hint = "With candidates the answers are the words for no and yes, in this order." if prompt.candidates else ""
        yield (*here, "answers"), f"{len(prompt.answers or task.label.names)} answers for {asked} classes", hint
    if prompt.answers:
        yield from _same((*here, "answers"), "answers", prompt.answers)
    if prompt.text != prompt.text.rstrip():
        yield (*here, "text"), "the text ends in white space", "Write '|-' after 'text:'."
    candidate = ["candidate"] if prompt.candidates else []
    inner = [*task.fields, *candidate]
    templates: list[tuple[tuple[str | int, ...], str, list[str]]] = [(("text",), prompt.text, [*inner, *prompt.let])]
    templates += [(("let", name), template, inner) for name, template in prompt.let.items()]
    templates += [
        (("candidates", number), template, [*task.fields]) for number, template in enumerate(prompt.candidates)
    ]
    templates += [(("instruction",), prompt.instruction, ["answers", "reason", "answer"])]
    for keys, template, known in templates:
        message, names = prompts.inspect(template)
        if message:
            yield (*here, *keys), message, "Mend the template."
        for name in sorted(names - set(known)):
            yield (*here, *keys), f"the template uses {name!r}, which is no field", did_you_mean(name, known)
    if prompt.truncate is not None and prompt.truncate not in prompts.inspect(prompt.text)[1]:
        hint = did_you_mean(prompt.truncate, prompts.inspect(prompt.text)[1])
        yield (*here, "truncate"), f"the text does not use {prompt.truncate!r}", hint
