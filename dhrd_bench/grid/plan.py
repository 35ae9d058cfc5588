"""From what the user asked for to a list of cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhrd_bench import registry
from dhrd_bench.backbones import BackboneCard, resolve
from dhrd_bench.backbones.loading import settle
from dhrd_bench.backbones.location import locate
from dhrd_bench.cards import Reference, split_references
from dhrd_bench.contracts import Budget, Card, TaskData
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import LoadedTask, Suite, TestSplit
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import MethodSpec, identity
from dhrd_bench.results.schema import Cell, CellRecord
from dhrd_bench.results.store import find


class SuiteOptions(Card):
    """Settings of a suite reference, as in ``superglue7[prompt=paper]``."""

    prompt: str | None = None


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is to be in the table, with its record if it has been run."""

    cell: Cell
    identity: str
    parts: dict[str, Any]
    method: MethodSpec
    loaded: LoadedTask
    data: TaskData
    test: TestSplit
    record: CellRecord | None


@dataclass(frozen=True)
class Plan:
    """All cells of a run, in the order they are run: by task, then seed, then method.

    Methods that share training sequences thus follow each other, and what the frozen blocks make of
    a task's sequences is needed for one task at a time.
    """

    suite: Suite
    backbone: BackboneCard
    budget: Budget
    cells: tuple[PlannedCell, ...]

    @property
    def missing(self) -> list[PlannedCell]:
        """The cells that have no record yet."""
        return [planned for planned in self.cells if planned.record is None]


def make_plan(
    *,
    suite: str,
    methods: str,
    results: Path,
    tasks: str | None = None,
    backbone: str = "smollm2-135m",
    budget: str = "smoke",
    seeds: str | None = None,
    data_dir: Path | None = None,
    rationales: Path | None = None,
) -> Plan:
    """Resolve every name, load the data and look up which cells have a record.

    Raises
    ------
    UserError
        If a name or a setting is unknown, a list is empty or the data are missing or malformed.
    """
    specs = method_specs(methods)
    budget_ref = Reference.parse(budget)
    budget_card = budget_ref.apply(registry.budgets.get(budget_ref.name), "Budget")
    backbone_card = settle(resolve(backbone))
    suite_ref = Reference.parse(suite)
    found = Suite.named(suite_ref.name)
    options = suite_ref.apply(SuiteOptions(), "Suite")
    seed_list = parse_seeds(seeds, budget_card.seeds)
    backbone_parts = {"revision": locate(backbone_card).revision, "dtype": backbone_card.dtype}
    if backbone_card.engine != "transformers":  # the reference goes without saying, so its identities stay
        backbone_parts["engine"] = backbone_card.engine
    names = found.resolve_tasks([] if tasks == "" else tasks.split(",") if tasks else None)
    cells: list[PlannedCell] = []
    for task in names:
        loaded = found.load(task, prompt=options.prompt, data_dir=data_dir, rationales=rationales)
        for seed in seed_list:
            data, test = split(loaded, budget_card, seed)
            for spec in specs:
                cell = Cell(
                    suite=str(suite_ref), task=task, method=spec.name, backbone=_backbone_name(backbone),
                    budget=str(budget_ref), seed=seed,
                )  # fmt: skip
                key, parts = identity(found, loaded, data, test, spec, backbone_parts, budget_card, seed)
                cells.append(PlannedCell(cell, key, parts, spec, loaded, data, test, find(results, cell, key)))
    return Plan(found, backbone_card, budget_card, tuple(cells))


def method_specs(text: str) -> list[MethodSpec]:
    """Read a list like ``one,other[alpha=0.5]``.

    Raises
    ------
    UserError
        If the list is empty or names a method or parameter that does not exist.
    """
    specs: dict[str, MethodSpec] = {}
    for piece in split_references(text):
        reference = Reference.parse(piece)
        cls = registry.methods.get(reference.name)
        params = reference.apply(cls.Params(), "Method")
        name = str(Reference(cls.card.name, reference.options))
        specs[name] = MethodSpec(name, cls, params.model_dump(mode="json"))
    if not specs:
        raise UserError("No method was named.", f"Known: {', '.join(registry.methods.names())}.")
    return list(specs.values())


def parse_seeds(text: str | None, default: int) -> list[int]:
    """Read seeds: a count (``5`` is 0 to 4), a list (``0,3,7``) or a range (``2-4``); ``0`` is seed 0 alone.

    Raises
    ------
    UserError
        If the text is none of these.
    """
    if text is None:
        return list(range(default))
    try:
        pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
        if len(pieces) == 1 and pieces[0].isdigit() and "," not in text:
            count = int(pieces[0])
            return list(range(count)) if count else [0]
        seeds: list[int] = []
        for piece in pieces:
            first, dash, last = piece.partition("-")
            seeds += range(int(first), int(last) + 1) if dash else [int(first)]
        if not seeds:
            raise ValueError
    except ValueError:
        raise UserError(
            f"Cannot read the seeds {text!r}.", "Write a count (5), a list (0,3,7) or a range (2-4)."
        ) from None
    return sorted(set(seeds))


def _backbone_name(reference: str) -> str:
    """Return the name a backbone goes by in records: never a path of this machine."""
    parsed = Reference.parse(reference)
    return str(Reference(resolve(reference).name, parsed.options))
