"""From a study to plans of cells, and to what is frozen of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dhrd_bench import registry
from dhrd_bench.cards import Reference
from dhrd_bench.data.treatments import Stores
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import HARNESS_VERSION, digest
from dhrd_bench.grid.plan import Plan, asked_for, make_plan
from dhrd_bench.request import RunRequest
from dhrd_bench.results.tuned import read_tuned
from dhrd_bench.studies.frozen import Comparison, Frozen, FrozenCell, group_of
from dhrd_bench.studies.study import Contrast, Study


@dataclass(frozen=True)
class Planned:
    """A study, planned: a plan a request and point of its curve.

    `frozen` is what would be frozen of it now.
    """

    study: Study
    plans: tuple[Plan, ...]
    frozen: Frozen

    def until(self, look: int) -> list[Plan]:
        """Return the plans with the cells that are to be there at a look."""
        wanted = {each.identity for each in self.frozen.stage(look)}
        return [
            replace(plan, cells=tuple(planned for planned in plan.cells if planned.identity in wanted))
            for plan in self.plans
        ]


def plan_study(study: Study, name: str, places: dict[str, Any]) -> Planned:
    """Plan all requests of `study`.

    Parameters
    ----------
    study, name
        What its file says, and is called.
    places
        Where and how it is run here: what goes before the requests' own.

    Raises
    ------
    UserError
        If a request cannot be planned, a contrast names a method or a task that is not run, or two requests have the
        same cell with different outcomes.
    """
    seeds = study.seeds or (tuple(range(study.looks[-1])) if study.looks else None)
    plans: list[Plan] = []
    points: list[float | None] = []
    asked: list[RunRequest] = []
    for request in study.requests:
        for point, at in _along(study, request):
            complete = at.model_copy(update=places | {"seeds": at.seeds or seeds})
            asked.append(complete)
            points.append(point)
            plans.append(make_plan(complete))
    return Planned(study, tuple(plans), _frozen(study, name, plans, asked, points))


def _along(study: Study, request: RunRequest) -> Iterator[tuple[float | None, RunRequest]]:
    """Yield a request as it is at each point of the study's curve."""
    if study.curve is None:
        yield None, request
        return
    for point in study.curve.points:
        reference = Reference.parse(request.budget)
        options = dict(reference.options) | {study.curve.setting: json.dumps(point)}
        update: dict[str, Any] = {"budget": str(Reference(reference.name, tuple(sorted(options.items()))))}
        if point == 0:  # where the curve begins is meant
            update["allow_missing_rationales"] = True
        yield point, request.model_copy(update=update)


def _frozen(
    study: Study, name: str, plans: Sequence[Plan], asked: Sequence[RunRequest], points: Sequence[float | None]
) -> Frozen:
    cells: dict[tuple[Any, ...], FrozenCell] = {}
    for plan in plans:
        for planned in plan.cells:
            key = tuple(planned.cell.model_dump().values())
            frozen = cells.setdefault(key, FrozenCell(cell=planned.cell, identity=planned.identity))
            if frozen.identity != planned.identity:
                message = f"Two requests have the cell {planned.name}, with different settings."
                raise UserError(message, "A study has one outcome a cell: give one of them another budget or suite.")
    seeds = {each.cell.seed: None for each in cells.values()}
    primary, secondary = (
        tuple(
            dict.fromkeys(
                comparison for contrast in contrasts for comparison in _comparisons(contrast, plans, asked, points)
            )
        )
        for contrasts in (study.primary, study.secondary)
    )
    return Frozen(
        study=name,
        content=study.content(),
        made_of={key: value for plan in plans for key, value in _made_of(plan)},
        looks=study.looks or (len(seeds),),
        seeds=tuple(seeds) if study.looks else (),
        primary=primary,
        secondary=secondary,
        cells=tuple(cells.values()),
    )


def _comparisons(
    contrast: Contrast, plans: Sequence[Plan], asked: Sequence[RunRequest], points: Sequence[float | None]
) -> list[Comparison]:
    """Return a contrast at every place that has both methods and all its tasks."""
    run = {(group_of(planned.cell), planned.cell.method, planned.cell.task) for plan in plans for planned in plan.cells}
    found: list[Comparison] = []
    misnamed: list[UserError] = []
    for plan, request, point in zip(plans, asked, points, strict=True):
        place = group_of(plan.cells[0].cell)
        try:
            method, baseline = (_spelled(name, plan, request) for name in (contrast.method, contrast.baseline))
            wanted = plan.suite.resolve_tasks(contrast.tasks)
        except UserError as error:  # another request's suite may have such a task
            misnamed.append(error)
            continue
        both = [task for task in wanted if {(place, method, task), (place, baseline, task)} <= run]
        if both and method != baseline and (contrast.tasks is None or both == wanted):
            found.append(
                Comparison(
                    suite=place.suite,
                    backbone=place.backbone,
                    budget=place.budget,
                    method=method,
                    baseline=baseline,
                    tasks=tuple(both),
                    point=point,
                )
            )
    if not found:
        if misnamed:
            raise misnamed[0]
        over = f" on {', '.join(contrast.tasks)}" if contrast.tasks else ""
        known = {each.cell.method for plan in plans for each in plan.cells}
        raise UserError(
            f"No request runs {contrast.method} and {contrast.baseline}{over}.",
            f"A contrast is between two methods of one request; they are: {', '.join(sorted(known))}.",
        )
    return found


def _spelled(name: str, plan: Plan, request: RunRequest) -> str:
    """Return what a method that a contrast names is called in the records of `plan`."""
    stores = Stores.of(plan.suite, request.rationales, request.stores)
    try:
        return asked_for(request.model_copy(update={"methods": (name,)}), stores, plan.budget)[0].name
    except UserError:
        if request.tuned is None:
            raise
        return name  # not among the methods that were tuned: then it is not run


def _made_of(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what of a plan decides outcomes, beside the request."""
    yield "harness", HARNESS_VERSION
    if (tuned := plan.request.tuned) is not None:
        text = json.dumps(read_tuned(tuned).model_dump(mode="json"), sort_keys=True)
        yield f"tuning file {tuned.name}", hashlib.sha256(text.encode()).hexdigest()[:16]
    reference = Reference.parse(plan.request.budget)
    base = registry.budgets.get(reference.name)
    yield f"budget {plan.request.budget}", f"{base.version}, {digest(plan.budget.model_dump(mode='json'))}"
    for planned in plan.cells:
        parts = planned.parts
        yield f"suite {parts.suite.name}", parts.suite.version
        task = parts.task
        about = f"{task.version}, prompt {task.prompt} {task.prompt_version}, rows {task.fingerprint}"
        yield f"task {parts.task.name} of {planned.cell.suite}", about
        if parts.rationales is not None:
            yield f"rationales of {parts.task.name} for {planned.cell.method}", parts.rationales
        yield f"method {planned.cell.method}", f"{parts.method.version}, code {parts.method.code}"
        yield f"backbone {planned.cell.backbone}", f"{parts.backbone.revision}, {parts.backbone.dtype}"
