"""From what the user asked for to a list of cells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dhrd_bench import plugins, registry
from dhrd_bench.backbones.backbone import Backbone
from dhrd_bench.backbones.fourbit import require_bitsandbytes
from dhrd_bench.backbones.loading import is_encoder, load_tokens, settle
from dhrd_bench.backbones.location import locate
from dhrd_bench.backbones.lookup import resolve
from dhrd_bench.backbones.tokens import Tokens
from dhrd_bench.cards import Reference, canonical, split_store
from dhrd_bench.contracts import BackboneCard, Budget, Context, TaskData
from dhrd_bench.data.splits import split, with_share
from dhrd_bench.data.suite import LoadedTask, Suite, TestSplit
from dhrd_bench.data.treatments import Stores
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import digest, identity_parts
from dhrd_bench.grid.notes import length_notes, missing_rationales, store_with, teacher_notes
from dhrd_bench.grid.texts import CellTexts
from dhrd_bench.methods import PLAIN, MethodSpec, method_spec
from dhrd_bench.request import RunRequest, SuiteSettings, parse_shard, split_suite
from dhrd_bench.results.schema import BackboneIdentity, Cell, CellRecord, IdentityParts, SuiteIdentity
from dhrd_bench.results.store import check_names, find
from dhrd_bench.results.tuned import read_tuned
from dhrd_bench.training.optimizer import require_optimizer
from dhrd_bench.training.tuning import require_frozen

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
        suite = Suite.named(request.suite)
        stores = Stores.of(suite, request.rationales, request.stores)
        budget_name, budget = _budget(request.budget)
        specs = asked_for(request, stores, budget)
    arms = dict.fromkeys([*(spec.arm for spec in specs), *map(stores.arm, request.paired)])
    backbone_name, backbone = _backbone(request.backbone)
    tasks = suite.resolve_tasks(request.tasks)
    seeds = tuple(range(budget.seeds)) if request.seeds is None else request.seeds
    # The suite's default prompt goes without saying, so that a table has one name.
    prompt = None if request.prompt == suite.card.prompt else request.prompt
    complete = request.model_copy(
        update={
            "methods": tuple(spec.name for spec in specs), "suite": suite.name, "prompt": prompt,
            "tasks": tuple(tasks), "backbone": backbone_name.where, "budget": budget_name, "seeds": seeds,
            "paired": tuple(sorted(str(arm) for arm in arms if arm != PLAIN)),
        }
    )  # fmt: skip
    suite_identity = SuiteIdentity(name=suite.name, version=suite.version)
    settings = SuiteSettings(prompt=prompt, unshared=request.unshared)
    suite_name = str(canonical(suite.name, settings, SuiteSettings()))
    _require_lm(specs, backbone)
    tokens, backbone_identity = _made_of(backbone)
    cells: list[PlannedCell] = []
    for task in tasks:
        load = partial(
            suite.load, task, prompt=prompt, data_dir=request.data_dir, alone=len(tasks) == 1,
            unshared=request.unshared,
        )  # fmt: skip
        taught = stores.load(arms, load, keep_rows=request.keep_rows)
        if taught[PLAIN].source.kind == "data-dir":  # said by the environment, if not by the request
            complete = complete.model_copy(update={"data_dir": request.data_dir or Path(os.environ["DHRD_DATA_DIR"])})
        lengths: dict[str, int] = {}
        for seed in seeds:
            rows = split(taught[PLAIN], budget, seed)
            drawn = {arm: _Drawn.of(loaded, *rows, budget, seed, tokens, lengths) for arm, loaded in taught.items()}
            for spec in specs:
                given = drawn[spec.arm]
                cell = Cell(
                    suite=suite_name, task=task, method=spec.name, backbone=backbone_name.recorded,
                    budget=budget_name, seed=seed,
                )  # fmt: skip
                check_names(cell)
                lent = given.data.lent_to(spec.card)
                parts = identity_parts(
                    suite_identity, given.loaded, lent, given.test, spec, backbone_identity, budget, seed,
                    given.texts.version(spec.card) if given.texts else None, request.processes,
                )  # fmt: skip
                key = digest(parts.hashed())
                record = None if request.force else find(results, cell, key)
                own, notes = spec.under(budget), given.notes(spec, lent)
                cells.append(PlannedCell(cell, key, parts, spec, own, given.loaded, lent, given.test, record, notes))
    _require_rationales([] if request.allow_missing_rationales else cells, suite, tasks)
    _require_soft_labels(cells, suite, tasks)
    _require_trainable(cells, backbone)
    return Plan(results, complete, suite, backbone, budget, tuple(_part(cells, request.shard)))


@dataclass(frozen=True)
class _Drawn:
    """The rows of a task that the cells of one seed and arm have in common."""

    loaded: LoadedTask
    data: TaskData
    test: TestSplit
    texts: CellTexts | None
    long: list[str]

    @classmethod
    def of(
        cls,
        loaded: LoadedTask,
        data: TaskData,
        test: TestSplit,
        budget: Budget,
        seed: int,
        tokens: Tokens | None,
        lengths: dict[str, int],
    ) -> _Drawn:
        """Give the rows that were drawn the rationales of the arm; the `lengths` once counted serve for all seeds."""
        arms = {each.example.id: each for row in loaded.train for each in row.examples}
        train, dev, spare = (tuple(arms[row.example.id] for row in rows) for rows in (data.train, data.dev, data.spare))
        data = with_share(loaded, replace(data, train=train, dev=dev, spare=spare), budget.rationales, seed)
        texts = CellTexts(tokens, data, test, budget.max_length, lengths) if tokens else None
        return cls(loaded, data, test, texts, length_notes(data, test, budget))

    def notes(self, spec: MethodSpec, lent: TaskData) -> tuple[str, ...]:
        """Say what is odd about a cell of the method, which is given the rows `lent`."""
        odd = (self.texts.notes(spec.card) if self.texts else None) or self.long
        return (*self.loaded.notes, *odd, *teacher_notes(spec.name, spec.card, lent))


def _made_of(card: BackboneCard) -> tuple[Tokens | None, BackboneIdentity]:
    """Return how a backbone makes tokens, if that can be had, and what of it goes into identities."""
    location = locate(card)
    tokens = load_tokens(card, location)
    return tokens, BackboneIdentity(
        revision=location.revision,
        dtype=card.dtype,
        quantize=card.quantize,
        engine=None if card.engine == "transformers" else card.engine,
        start=tokens and tokens.start_name,
    )


def _require_lm(specs: Iterable[MethodSpec], card: BackboneCard) -> None:
    """Refuse methods that need a language model where the backbone is none."""
    needing = [spec.name for spec in specs if any(each.new().needs_lm() for each in spec.whole)]
    if needing and is_encoder(card, locate(card)):
        raise UserError(
            f"Backbone {card.name!r} is an encoder, and what trains or asks a language model cannot run on it: "
            f"{', '.join(needing)}.",
            "Leave that out, or take a decoder of `dhrd-bench list backbones`.",
        )


def _part(cells: list[PlannedCell], shard: str | None) -> list[PlannedCell]:
    """Return the cells of a shard: which ones depends on their identities, not on what else is planned."""
    if shard is None:
        return cells
    part, parts = parse_shard(shard)
    return [planned for planned in cells if int(planned.identity, 16) % parts == part - 1]


def _require_rationales(cells: Iterable[PlannedCell], suite: Suite, names: list[str]) -> None:
    """Refuse cells that are still to be run and whose method would silently be another one."""
    bare: dict[str, dict[str, dict[str, None]]] = {}
    for planned in cells:
        if planned.record is None and (kind := missing_rationales(planned.method.card, planned.data)):
            bare.setdefault(kind, {}).setdefault(planned.cell.task, {})[planned.cell.method] = None
    for kind, tasks in bare.items():
        where = "; ".join(f"{task} ({', '.join(methods)})" for task, methods in tasks.items())
        own = store_with(kind, suite, names)
        cure = f"Give {own}, a store of the suite's that has some" if own else "Name a store with --rationales"
        raise UserError(
            f"No train row has a {kind}, and methods learn from them: {where}. They would be other methods than "
            "their names say.",
            f"{cure}, leave them out, or run them so with --allow-missing-rationales.",
        )


def _require_soft_labels(cells: Iterable[PlannedCell], suite: Suite, names: list[str]) -> None:
    """Refuse cells that are still to be run and whose method would have nothing to learn from but the labels."""
    for planned in cells:
        card = planned.method.card
        if planned.record is None and card.uses_soft_labels and not any(row.soft for row in planned.data.train):
            own = store_with("soft label", suite, names)
            other = "Name a store that has 'probabilities', or 'answer' and 'confidence', with --rationales."
            raise UserError(
                f"No train row of {planned.cell.task} has soft labels, which {planned.cell.method} learns from.",
                f"Give {own}, a store of the suite's that has some." if own else other,
            )


def _require_trainable(cells: Iterable[PlannedCell], card: BackboneCard) -> None:
    """Refuse what cells that are still to be run would ask of the backbone and this machine in vain."""
    missing = [planned for planned in cells if planned.record is None]
    if card.quantize and missing:
        require_bitsandbytes(f"quantize={card.quantize}")
    for planned in missing:
        if planned.method.card.trains and planned.method.card.kinds:
            require_optimizer(planned.budget, card.device)
            if card.quantize:
                require_frozen(card.name, planned.budget.tuning)


def asked_for(request: RunRequest, stores: Stores, budget: Budget) -> list[MethodSpec]:
    """Return the methods of a request, with the settings that were chosen for them if it names a search."""
    references = request.methods
    if request.tuned is not None:  # all that were searched for, if none is named
        named = [spec.name for spec in method_specs(references, stores)] if references else []
        references = read_tuned(request.tuned).chosen(named)
    specs = method_specs(references, stores)
    return list({spec.name: spec for spec in (each.within(budget) for each in specs)}.values())


def method_specs(references: tuple[str, ...], stores: Stores | None = None) -> list[MethodSpec]:
    """Return the methods that `references` such as ``name[alpha=0.5]`` name, each once.

    With `stores`, ``name[alpha=0.5]@store`` is a method of its own.

    Raises
    ------
    UserError
        If the list is empty or names a method, a parameter or a store that does not exist, or a store for a method
        that reads no rationales.
    """
    specs: dict[str, MethodSpec] = {}
    for text in references:
        method, store = split_store(text) if stores else (text, None)
        spec = method_spec(method)
        if stores and store is not None:
            if not spec.card.uses_rationales:
                raise UserError(f"{spec.name!r} reads no rationales, from whatever store.", f"Leave '@{store}' out.")
            spec = spec.taught(stores.arm(store))
        specs[spec.name] = spec
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
