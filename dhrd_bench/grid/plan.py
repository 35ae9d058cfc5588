"""From what the user asked for to a list of cells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from dhrd_bench import plugins, registry
from dhrd_bench.backbones.backbone import Backbone
from dhrd_bench.backbones.loading import load_tokens, settle
from dhrd_bench.backbones.location import locate
from dhrd_bench.backbones.lookup import resolve
from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.cards import Reference, canonical
from dhrd_bench.contracts import BackboneCard, Budget, Context, TaskData
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import LoadedTask, Suite, TestSplit
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import digest, identity_parts
from dhrd_bench.grid.notes import lacks_rationales, length_notes, rationale_notes
from dhrd_bench.grid.texts import CellTexts
from dhrd_bench.methods import MethodSpec, method_spec
from dhrd_bench.request import RunRequest, SuiteSettings, parse_shard, split_suite
from dhrd_bench.results.schema import BackboneIdentity, Cell, CellRecord, IdentityParts, SuiteIdentity
from dhrd_bench.results.store import check_names, find
from dhrd_bench.results.tuned import read_tuned

Step = Callable[[str, int, int, dict[str, float]], None]
"""Told of a phase, steps done, steps in all and figures to show."""


def _silent(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is to be in the table, with its record if it has been run.

    `notes` say what is odd about its rows, or about what its method is given.
    """

    cell: Cell
    identity: str
    parts: IdentityParts
    method: MethodSpec
    budget: Budget
    loaded: LoadedTask
    data: TaskData
    test: TestSplit
    record: CellRecord | None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cell in a few words, for people."""
        return f"{self.cell.task} seed {self.cell.seed} {self.cell.method}"

    def context(self, backbone: Backbone, step: Step = _silent) -> Context:
        """Return what the harness lends to the method while it runs this cell."""
        return Context(backbone, self.budget, self.loaded.card.name, self.cell.seed, step)


@dataclass(frozen=True)
class Plan:
    """All cells of a run, in the order they are run: by task, then seed, then method.

    Methods that share training sequences thus follow each other, and what the frozen blocks make of
    a task's sequences is needed for one task at a time.

    Attributes
    ----------
    results
        Folder of the records, from the root on: a plug-in that goes to another folder does not move it.
    request
        What was asked for, complete: all that was left open is said, every name in its one spelling.
    """

    results: Path
    request: RunRequest
    suite: Suite
    backbone: BackboneCard
    budget: Budget
    cells: tuple[PlannedCell, ...]

    @property
    def missing(self) -> list[PlannedCell]:
        """The cells that have no record yet, or are to be run all the same."""
        return [planned for planned in self.cells if planned.record is None]


def make_plan(request: RunRequest) -> Plan:
    """Resolve every name, load the data and look up which cells have a record.

    Raises
    ------
    UserError
        If a name or a setting is unknown, a list is empty, the data are missing or malformed, or a method
        that is to be run needs rationales where there are none.
    """
    results = request.results.absolute()
    request = split_suite(request)
    with chdir("."):  # a plug-in that goes to another folder goes alone
        for folder in request.include:
            plugins.include(folder)
        specs = _asked_for(request)
    budget_name, budget = _budget(request.budget)
    specs = list({spec.name: spec for spec in (each.within(budget) for each in specs)}.values())
    backbone_name, backbone = _backbone(request.backbone)
    suite = Suite.named(request.suite)
    tasks = suite.resolve_tasks(request.tasks)
    seeds = tuple(range(budget.seeds)) if request.seeds is None else request.seeds
    # The suite's default prompt goes without saying, so that a table has one name.
    prompt = None if request.prompt == suite.card.prompt else request.prompt
    complete = request.model_copy(
        update={
            "methods": tuple(spec.name for spec in specs), "suite": suite.name, "prompt": prompt,
            "tasks": tuple(tasks), "backbone": backbone_name.where, "budget": budget_name, "seeds": seeds,
        }
    )  # fmt: skip
    suite_identity = SuiteIdentity(name=suite.name, version=suite.version)
    settings = SuiteSettings(prompt=prompt, unshared=request.unshared)
    suite_name = str(canonical(suite.name, settings, SuiteSettings()))
    tokens, backbone_identity = _made_of(backbone)
    cells: list[PlannedCell] = []
    for task in tasks:
        loaded = suite.load(
            task, prompt=prompt, data_dir=request.data_dir, rationales=request.rationales, alone=len(tasks) == 1,
            unshared=request.unshared,
        )  # fmt: skip
        if loaded.source.kind == "data-dir":  # said by the environment, if not by the request
            complete = complete.model_copy(update={"data_dir": request.data_dir or Path(os.environ["DHRD_DATA_DIR"])})
        lengths: dict[str, int] = {}
        for seed in seeds:
            data, test = split(loaded, budget, seed)
            texts = CellTexts(tokens, data, test, budget.max_length, lengths) if tokens else None
            long = length_notes(data, test, budget)
            for spec in specs:
                cell = Cell(
                    suite=suite_name, task=task, method=spec.name, backbone=backbone_name.recorded,
                    budget=budget_name, seed=seed,
                )  # fmt: skip
                check_names(cell)
                parts = identity_parts(
                    suite_identity, loaded, data, test, spec, backbone_identity, budget, seed,
                    texts.version(spec.card) if texts else None, request.processes,
                )  # fmt: skip
                key = digest(parts.hashed())
                record = None if request.force else find(results, cell, key)
                odd = [*loaded.notes, *((texts.notes(spec.card) if texts else None) or long)]
                notes = (*odd, *rationale_notes(spec.name, spec.card, data))
                cells.append(PlannedCell(cell, key, parts, spec, spec.under(budget), loaded, data, test, record, notes))
    if not request.allow_missing_rationales:
        _require_rationales(cells)
    return Plan(results, complete, suite, backbone, budget, tuple(_part(cells, request.shard)))


def _made_of(card: BackboneCard) -> tuple[Tokens | None, BackboneIdentity]:
    """Return how a backbone makes tokens, if that can be had, and what of it goes into identities."""
    location = locate(card)
    tokens = load_tokens(card, location)
    return tokens, BackboneIdentity(
        revision=location.revision,
        dtype=card.dtype,
        engine=None if card.engine == "transformers" else card.engine,
        start=tokens and tokens.start_name,
    )


def _part(cells: list[PlannedCell], shard: str | None) -> list[PlannedCell]:
    """Return the cells of a shard: which ones depends on their identities, not on what else is planned."""
    if shard is None:
        return cells
    part, parts = parse_shard(shard)
    return [planned for planned in cells if int(planned.identity, 16) % parts == part - 1]


def _require_rationales(cells: Iterable[PlannedCell]) -> None:
    """Refuse cells that are still to be run and whose method would silently be another one."""
    bare: dict[str, dict[str, None]] = {}
    for planned in cells:
        if planned.record is None and lacks_rationales(planned.method.card, planned.data):
            bare.setdefault(planned.cell.task, {})[planned.cell.method] = None
    if bare:
        where = "; ".join(f"{task} ({', '.join(methods)})" for task, methods in bare.items())
        raise UserError(
            f"No train row has a rationale, and methods learn from them: {where}. They would be other methods than "
            "their names say.",
            "Name a store with --rationales, leave them out, or run them so with --allow-missing-rationales.",
        )


def _asked_for(request: RunRequest) -> list[MethodSpec]:
    """Return the methods of a request, with the settings that were chosen for them if it names a search."""
    if request.tuned is None:
        return method_specs(request.methods)
    named = [method_spec(reference).name for reference in request.methods]
    return method_specs(read_tuned(request.tuned).chosen(named))


def method_specs(references: tuple[str, ...]) -> list[MethodSpec]:
    """Return the methods that `references` such as ``name[alpha=0.5]`` name, each once.

    Raises
    ------
    UserError
        If the list is empty or names a method or parameter that does not exist.
    """
    specs = {spec.name: spec for spec in map(method_spec, references)}
    if not specs:
        raise UserError("No method was named.", f"Known: {', '.join(registry.methods.names())}.")
    return list(specs.values())


def _budget(text: str) -> tuple[str, Budget]:
    reference = Reference.parse(text)
    card = registry.budgets.get(reference.name)
    budget = reference.apply(card, "Budget")
    return str(canonical(card.name, budget, card)), budget


@dataclass(frozen=True)
class _BackboneName:
    """How a backbone is asked for again, and what it is called in records: never a path of this machine."""

    where: str
    recorded: str


def _backbone(text: str) -> tuple[_BackboneName, BackboneCard]:
    reference = Reference.parse(text)
    default, card = resolve(reference.name), resolve(text)
    spelled = canonical(default.name, card, default)
    local = bool(default.hub_id) and Path(default.hub_id).is_dir()
    where = Reference(default.hub_id if local else default.name, spelled.options)
    settled = settle(card)
    if settled.device.startswith("cuda"):
        _require_cuda(settled.device)
    return _BackboneName(str(where), str(spelled)), settled


def _require_cuda(device: str) -> None:
    import torch

    number = int(index) if (index := device.partition(":")[2]).isdigit() else 0
    if number >= (count := torch.cuda.device_count()):
        message = f"There is no CUDA device {device!r} here ({count} found)."
        raise UserError(message, "Leave 'device' out to take what there is; 'dhrd-bench doctor' shows it.")
