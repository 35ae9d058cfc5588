"""What makes two cells the same cell."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhrd_bench.contracts import Budget, Method, MethodCard, TaskData
from dhrd_bench.data.suite import LoadedTask, Suite, TestSplit

HARNESS_VERSION = "1.0"
"""Version of everything in the harness that decides an outcome: the training loop, inference, splits,
scoring. It changes when records of before and after must not stand in one table."""


@dataclass(frozen=True)
class MethodSpec:
    """A method with its parameters, as named on the command line."""

    name: str
    cls: type[Method]
    params: dict[str, Any]

    @property
    def card(self) -> MethodCard:
        """The method's card under these parameters."""
        return self.cls.card_for(self.cls.Params.model_validate(self.params))


def digest(value: Any) -> str:
    """Return a 16-digit hash of a JSON-like value; key order does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(
    suite: Suite,
    loaded: LoadedTask,
    data: TaskData,
    test: TestSplit,
    method: MethodSpec,
    backbone: dict[str, str],
    budget: Budget,
    seed: int,
) -> tuple[str, dict[str, Any]]:
    """Return the identity of a cell and the parts it is a hash of.

    The parts hold what can change the outcome and nothing else: a budget's name is not among them, nor
    the decoding settings of a method that generates nothing. Three hashes over some of the parts say
    which cells belong in one table: ``version`` (harness, suite, backbone, budget), ``data_version`` (the
    task's rows and prompt) and ``method_version``.
    """
    card = loaded.card
    parts: dict[str, Any] = {
        "harness": HARNESS_VERSION,
        "suite": {"name": suite.name, "version": suite.version},
        "task": {
            "name": card.name,
            "version": card.version,
            "prompt": card.prompt,
            "prompt_version": card.prompt_version,
            "fingerprint": loaded.fingerprint,
        },
        "rows": digest(
            {
                "train": [(row.example.id, row.label) for row in data.train],
                "dev": [row.example.id for row in data.dev],
                "test": test.ids,
            }
        ),
        "rationales": loaded.rationale_fingerprint if method.card.uses_rationales else None,
        "method": {
            "name": method.name,
            "version": method.card.version,
            "params": method.params,
            "code": code_fingerprint(method.cls),
        },
        "backbone": backbone,
        "budget": relevant_budget(budget, generates=method.card.inference == "generate"),
        "seed": seed,
    }
    versions = {
        # Decoding is the business of the methods that generate: another length is no other table.
        "version": digest([parts["harness"], parts["suite"], backbone, relevant_budget(budget, generates=False)]),
        "data_version": digest([parts["task"], loaded.rationale_fingerprint]),
        "method_version": digest([parts["method"], parts["budget"].get("decoding")]),
    }
    return digest(parts), parts | versions


def relevant_budget(budget: Budget, *, generates: bool) -> dict[str, Any]:
    """Return the settings of `budget` that can change what a method does that generates text or does not.

    Names and the default number of seeds change nothing, nor does how many rows are decoded at a time.
    """
    values = budget.model_dump(mode="json", exclude={"name", "version", "description", "seeds"})
    del values["decoding"]["batch_size"]
    if not generates:
        del values["decoding"]
    if not budget.tuning.startswith("lora"):
        del values["lora"]
    return values


def code_fingerprint(cls: type[Method]) -> str:
    """Return a hash of the code a method class consists of, comments and docstrings aside.

    It covers the files of the class and of its bases outside this package; the package itself is
    covered by `HARNESS_VERSION`. So an edited method is a new method, not an old record.
    """
    package = Path(__file__).parent.parent
    sources: list[str] = []
    for base in cls.__mro__:
        if base.__module__ in ("builtins", "abc", "typing") or base.__module__.startswith("dhrd_bench."):
            continue
        path = inspect.getsourcefile(base)
        if path is None or (package in Path(path).parents and (package / "baselines") not in Path(path).parents):
            continue
        sources.append(_normal_form(Path(path).read_text(encoding="utf-8")))
    return digest(sorted(set(sources)))


def _normal_form(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)
