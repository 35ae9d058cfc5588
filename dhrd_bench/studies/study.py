"""A study as a file: what is run, and the hypothesis that it is run for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, did_you_mean, first_misfit
from dhrd_bench.request import Names, RunRequest, Seeds
from dhrd_bench.stats.significance import ALPHA
from dhrd_bench.untrusted import read_yaml

Share = Annotated[float, Field(ge=0, le=1)]


class Contrast(Card):
    """A method beside a baseline, wherever the study runs both.

    Attributes
    ----------
    method, baseline
        As in a request; where settings were chosen by a search, without them.
    tasks
        Over the mean score of these tasks; None is the suite's, over all tasks that are run.
    """

    method: str
    baseline: str
    tasks: Names | None = None


class Curve(Card):
    """One of two things that a study varies, from point to point: each request is run at each.

    Attributes
    ----------
    rows
        Train rows.
    rationales
        Shares of the train rows' rationales that are kept.
    """

    rows: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=2)] | None = None
    rationales: Annotated[tuple[Share, ...], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Curve:
        if (self.rows is None) == (self.rationales is None):
            raise ValueError("name 'rows' or 'rationales'")
        return self

    @property
    def setting(self) -> str:
        """The budget's setting that is varied."""
        return "train_rows" if self.rows else "rationales"

    @property
    def points(self) -> tuple[float, ...]:
        """Its values, rising."""
        return tuple(sorted(set(self.rows or self.rationales or ())))


def _several(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Study(Card):
    """A request, or several, with a hypothesis and what it will be judged by.

    Attributes
    ----------
    hypothesis
        In words.
    requests
        As ``run --config`` takes them.
    primary
        The contrasts that the hypothesis stands or falls with; each is tested wherever both methods are run, and all
        are corrected together.
    secondary
        Further contrasts, which are exploratory.
    margin
        The smallest difference of interest, in points.
    alpha
        Chance of any wrong difference among the primary contrasts, and of any wrong equivalence.
    seeds
        Of all requests that name none; with several looks the most that will be run.
    stop
        ``fixed``: when all seeds are there. ``group-sequential``: at the first of the `looks` at which all primary
        contrasts are decided.
    looks
        Numbers of seeds at which one looks.
    curve
        What is varied, if anything.
    """

    hypothesis: str = Field(min_length=1)
    requests: Annotated[tuple[RunRequest, ...], BeforeValidator(_several), Field(min_length=1)]
    primary: Annotated[tuple[Contrast, ...], BeforeValidator(_several), Field(min_length=1)]
    secondary: Annotated[tuple[Contrast, ...], BeforeValidator(_several)] = ()
    margin: float = Field(gt=0, le=100)
    alpha: float = Field(ALPHA, gt=0, le=0.2)
    seeds: Seeds = None
    stop: Literal["fixed", "group-sequential"] = "fixed"
    looks: tuple[int, ...] = ()
    curve: Curve | None = None

    @model_validator(mode="after")
    def _stops(self) -> Study:
        if (self.stop == "fixed") == bool(self.looks):
            raise ValueError("'looks' go with 'stop: group-sequential', and it with them")
        if self.looks:
            if self.looks[0] < 2 or sorted(set(self.looks)) != [*self.looks]:
                raise ValueError("looks are rising numbers of seeds from 2, as [2, 3, 5, 10]")
            if any(request.seeds for request in self.requests):
                raise ValueError("with looks, seeds are named once, for all requests")
            if self.seeds and len(self.seeds) != self.looks[-1]:
                raise ValueError(f"the last look is at {self.looks[-1]} seeds, and {len(self.seeds)} are named")
        return self

    def content(self) -> dict[str, Any]:
        """Return what the file says, less what is of this machine only and decides nothing.

        Of requests it is what is not by default: what later versions add to them makes no other study.
        """
        return self.model_dump(mode="json") | {"requests": [_decisive(request) for request in self.requests]}


PLACES = {
    "data_dir", "include", "results", "executor", "workers", "shard", "isolation", "cell_timeout", "force",
    "throughput", "track", "energy",
}  # fmt: skip
"""What of a request says where and how it is run: no outcome depends on it."""

_FOREIGN = ("force", "shard", "throughput")
_PARTS: dict[str, type[Card]] = {"requests": RunRequest, "primary": Contrast, "secondary": Contrast, "curve": Curve}


def _decisive(request: RunRequest) -> dict[str, Any]:
    content = request.model_dump(mode="json", exclude_defaults=True, exclude=PLACES)
    named = {key: Path(content[key]).name for key in ("rationales", "tuned") if key in content}
    stores = {name: Path(folder).name for name, folder in content.get("stores", {}).items()}
    return content | named | ({"stores": stores} if stores else {})


def read_study(path: Path) -> Study:
    """Read a study.

    Raises
    ------
    UserError
        If the file is none, or a key or a value is none that can be; with the place.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a study is a mapping of keys.", "Start with 'hypothesis: ...'.")
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        misfit = first_misfit(error)
        owner: type[Card] = _PARTS.get(str(misfit.keys[0]), Study) if len(misfit.keys) > 1 else Study
        unknown = misfit.kind == "extra_forbidden"
        hint = did_you_mean(str(misfit.keys[-1]), owner.model_fields) if unknown else ""
        raise UserError(f"{path}: {misfit}.", hint) from error
    except UserError as error:  # of a value that has a form of its own, as seeds
        raise UserError(f"{path}: {error.message}", error.hint) from error
    for request in study.requests:
        if wrong := [name for name in _FOREIGN if getattr(request, name)]:
            raise UserError(f"{path}: a study has no {wrong[0]!r}.", "Leave it out.")
    return study
