"""Trials: each method under other settings, trained as a cell is and scored on dev rows instead of test rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dhrd_bench.backbones import load
from dhrd_bench.contracts import Setting, Space
from dhrd_bench.data.splits import dev_split
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import digest
from dhrd_bench.grid.plan import Plan, PlannedCell
from dhrd_bench.grid.record import Answered, Attempt
from dhrd_bench.grid.run import attempts_of, crew_of, require_metrics
from dhrd_bench.inference.engines import engine_of
from dhrd_bench.interrupts import remembered_interrupts
from dhrd_bench.methods import MethodSpec, method_spec
from dhrd_bench.progress import Display
from dhrd_bench.request import Sampler
from dhrd_bench.results.tuned import Search, TunedMethod, read_tuned, write_tuned
from dhrd_bench.search.space import Settings, combined, drawn, space_of
from dhrd_bench.search.tpe import proposed


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes
    ----------
    trials
        Of every method, its settings as they are included.
    sampler, random_seed
        How settings are found: drawn at random, all combinations, or drawn where trials before were good (TPE).
    space
        What to draw from, where the user named it.
    """

    trials: int
    sampler: Sampler = "random"
    random_seed: int = 0
    space: Space | None = None


class Tuner:
    """Runs the trials of a plan's methods and keeps them in a file, from which it goes on.

    Parameters
    ----------
    plan
        Its cells are those of a first trial; what is tested is not looked at.
    settings
        How to search.
    path
        The file. If there is one of the same search, its trials are not run again, and there may be more of them, and
        more methods.
    budget
        What the budget is called in a run, if `plan` has other dev rows.

    Raises
    ------
    UserError
        If there are no dev rows, the file is of another search, or the space has a setting that a method has not.
    """

    def __init__(self, plan: Plan, settings: SearchSettings, path: Path, budget: str) -> None:
        self.plan, self.settings, self.path = plan, settings, path
        self.specs = {planned.method.name: planned.method for planned in plan.cells}
        self.spaces: dict[str, dict[str, Setting]] = {
            name: space_of(spec, plan.budget, settings.space) for name, spec in self.specs.items()
        }
        self.search = self._joined(self._empty(budget))
        self._tuned: dict[str, str] = {}  # by identity of a cell, the method whose trial it is

    def run(self, display: Display) -> Search:
        """Run the trials that are not in the file; each cell is in it before the next one begins."""
        require_metrics(self.plan)
        backbone = load(self.plan.backbone)
        engine = engine_of(backbone)
        with remembered_interrupts() as check:
            for numbers in self._rounds():
                plan = replace(self.plan, cells=tuple(self.cells(numbers)))
                if plan.cells:
                    with crew_of(plan, backbone, engine.label, keep=False) as crew:
                        for planned, attempt in attempts_of(plan, backbone, crew, display, check):
                            display.end(self._note(planned, attempt))
                            check()
        backbone.reset()
        return self.search

    @property
    def missing(self) -> int:
        """How many cells are to be run, as far as is known."""
        if self.settings.sampler != "tpe":
            return len(list(self.cells(range(self.settings.trials))))
        return len(self.plan.cells) * self.settings.trials - sum(
            len(by_seed) for found in self.search.methods.values() for by_task in found.scores.values()
            for by_seed in by_task.values()
        )  # fmt: skip

    def _rounds(self) -> Iterator[Sequence[int]]:
        """Yield the numbers of trials that can be drawn now."""
        trials = range(self.settings.trials)
        yield from [trials] if self.settings.sampler != "tpe" else ([number] for number in trials)

    def cells(self, numbers: Sequence[int]) -> Iterator[PlannedCell]:
        """Yield the cells of these trials that have not come through, each once."""
        for number in numbers:
            trials = {name: self._trial(name, number) for name in self.specs}
            for planned in self.plan.cells:
                name = planned.method.name
                trial = trials[name]
                found = self.search.methods[name]
                if trial.name in found.trials[:number]:
                    continue
                if found.scores.get(trial.name, {}).get(planned.cell.task, {}).get(planned.cell.seed) is None:
                    cell = _on_dev(planned, trial, self.plan)
                    self._tuned[cell.identity] = name
                    yield cell

    def _trial(self, name: str, number: int) -> MethodSpec:
        """Return a method as a trial has it, and note what that is."""
        spec, found = self.specs[name], self.search.methods[name]
        settings = self._drawn(name, number) if number else {}
        trial = spec.changed(settings).within(self.plan.budget)
        if number < len(found.trials):
            if found.trials[number] != trial.name:
                message = f"{self.path}: trial {number + 1} of {name} is {found.trials[number]}, not {trial.name}."
                raise UserError(message, "It was drawn from another space: name another --output.")
        else:
            self._put(name, found.model_copy(update={"trials": [*found.trials, trial.name]}))
        return trial

    def _drawn(self, name: str, number: int) -> Settings:
        space, seed = self.spaces[name], self.settings.random_seed
        if self.settings.sampler == "grid":
            return combined(space, number)
        if self.settings.sampler == "random" or not space:
            return drawn(space, seed, number)
        found = self.search.methods[name]
        settings = [self._settings_of(name, trial) for trial in found.trials[:number]]
        return proposed(space, list(zip(settings, self.search.scores(name), strict=False)), seed, number)

    def _settings_of(self, name: str, trial: str) -> Settings:
        spec = method_spec(trial)
        values = spec.under(self.plan.budget).model_dump() | spec.settings
        return {key: values[key] for key in self.spaces[name]}

    def _note(self, planned: PlannedCell, attempt: Attempt) -> str:
        """Put the outcome of a cell into the file; return it in words."""
        task, seed, trial = planned.cell.task, planned.cell.seed, planned.method.name
        base = self._tuned[planned.identity]
        found = self.search.methods[base]
        scores = {name: {key: dict(inner) for key, inner in each.items()} for name, each in found.scores.items()}
        score = attempt.result.outcome.score if isinstance(attempt.result, Answered) else None
        scores.setdefault(trial, {}).setdefault(task, {})[seed] = score
        errors = list(dict.fromkeys([*found.errors, *([attempt.error] if attempt.error else [])]))
        self._put(base, found.model_copy(update={"scores": scores, "errors": errors}))
        self.search = self.search.with_choices()
        write_tuned(self.search, self.path)
        return f"failed: {attempt.error}" if score is None else f"dev score {score:5.1f}"

    def _put(self, name: str, found: TunedMethod) -> None:
        self.search = self.search.model_copy(update={"methods": self.search.methods | {name: found}})

    # ------------------------------------------------------------ the file

    def _empty(self, budget: str) -> Search:
        cell, request = self.plan.cells[0].cell, self.plan.request
        rows = {each.cell.task: len(each.data.dev) // each.test.candidates for each in self.plan.cells}
        if bare := [task for task, count in rows.items() if not count]:
            raise UserError(f"There are no dev rows of {', '.join(bare)}.", "Give some with --dev-rows.")
        return Search(
            suite=cell.suite, tasks=list(rows), backbone=cell.backbone, budget=budget,
            seeds=list(request.seeds or ()), dev_rows=rows, sampler=self.settings.sampler,
            random_seed=self.settings.random_seed, trials=self.settings.trials,
            methods={
                name: TunedMethod(identity=self._identity(name), choice=name, trials=[name]) for name in self.specs
            },
        )  # fmt: skip

    def _identity(self, name: str) -> str:
        return digest([planned.identity for planned in self.plan.cells if planned.method.name == name])

    def _joined(self, empty: Search) -> Search:
        """Return what the file has of this search, with room for what it has not."""
        if not self.path.exists():
            return empty
        known = read_tuned(self.path)
        for name in ("suite", "tasks", "backbone", "budget", "seeds", "dev_rows", "sampler", "random_seed"):
            if (there := getattr(known, name)) != (here := getattr(empty, name)):
                message = f"{self.path} has the trials of another search: {name} {there}, not {here}."
                raise UserError(message, "Name another --output.")
        same = {
            name: found.model_copy(update={"errors": []})  # failed cells are run again
            for name, found in known.methods.items()
            if name not in empty.methods or found.identity == empty.methods[name].identity
        }
        return empty.model_copy(update={"methods": known.methods | empty.methods | same})


def _on_dev(planned: PlannedCell, trial: MethodSpec, plan: Plan) -> PlannedCell:
    """Return a cell as a trial has it: what it is tested on are its dev rows."""
    return replace(
        planned,
        cell=planned.cell.model_copy(update={"method": trial.name}),
        identity=digest([planned.identity, trial.name]),
        method=trial,
        budget=trial.under(plan.budget),
        test=dev_split(planned.loaded, planned.data),
        record=None,
    )
