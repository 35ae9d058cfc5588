"""What a search for settings leaves: every trial and its scores on dev rows, and the settings that were chosen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field

from dhrd_bench.cards import read_card
from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, did_you_mean, shown
from dhrd_bench.request import Sampler
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.untrusted import leads_out, read_yaml

SCHEMA_VERSION = "1.0.0"
KEPT = "tuning"
"""Folder of the results that keeps the files whose choices were run."""

Name = Annotated[str, AfterValidator(shown)]
Points = Annotated[float, Field(ge=0, le=100)]


class TunedMethod(Card):
    """The trials of one method.

    Attributes
    ----------
    identity
        Digest of what its trials depend on beside their settings; of another one they are no longer its trials.
    choice
        The trial with the highest mean score, the earlier one of equals; the method as it was if none came through.
    trials
        References in the order of the trials; the first has the settings that it had before. Some are there twice
        where there are few settings.
    scores
        By reference and task, the score on the dev rows at each seed; None where the cell has failed.
    errors
        Why cells have failed, each once.
    """

    identity: str
    choice: Name
    trials: list[Name] = Field(min_length=1)
    scores: dict[Name, dict[Name, dict[int, Points | None]]] = Field(default_factory=dict)
    errors: list[Name] = Field(default_factory=list)


class Search(Card):
    """A search: the same number of trials for every method, scored on dev rows.

    Attributes
    ----------
    suite, tasks, backbone, budget, seeds
        The cells of a trial, as records have them; all methods have these in common.
    dev_rows
        dev rows by task.
    sampler, random_seed, trials
        How settings were drawn, and how many trials each method has.
    methods
        By the reference that was tuned.
    """

    schema_version: str = SCHEMA_VERSION
    suite: Name
    tasks: list[Name] = Field(min_length=1)
    backbone: Name
    budget: Name
    seeds: list[int] = Field(min_length=1)
    dev_rows: dict[Name, int]
    sampler: Sampler
    random_seed: int
    trials: int = Field(gt=0)
    methods: dict[Name, TunedMethod]

    @property
    def rows(self) -> int:
        """Dev rows of a trial, each counted once a seed."""
        return sum(self.dev_rows.values()) * len(self.seeds)

    def scores(self, method: str) -> list[float]:
        """Return the mean score of each finished trial of `method`, in their order; a failed cell has 0."""
        found = self.methods[method]
        means = [self._mean(found.scores.get(trial, {})) for trial in found.trials]
        return [mean for mean in means if mean is not None]

    def chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the methods called `names` with the settings that were chosen for them; all without names.

        Raises
        ------
        UserError
            If one of them was not tuned.
        """
        choices = {name: method.choice for name, method in self.methods.items()}
        for name in names:
            if name not in choices and name not in choices.values():
                raise UserError(f"Method {name!r} was not tuned.", did_you_mean(name, choices))
        return tuple(choices.get(name, name) for name in names or choices)

    def with_choices(self) -> Search:
        """Return the search with the best finished trial of each method as its choice."""
        methods = {name: found.model_copy(update={"choice": self._best(name)}) for name, found in self.methods.items()}
        return self.model_copy(update={"methods": methods})

    def _best(self, name: str) -> str:
        found, best = self.methods[name], (-1.0, name)
        for trial in found.trials:
            scores = found.scores.get(trial, {})
            mean, failed = self._mean(scores), any(None in each.values() for each in scores.values())
            if mean is not None and not failed and mean > best[0]:
                best = mean, trial
        return best[1]

    def _mean(self, scores: dict[str, dict[int, float | None]]) -> float | None:
        cells = [(task, seed) for task in self.tasks for seed in self.seeds]
        if any(seed not in scores.get(task, {}) for task, seed in cells):
            return None
        return math.fsum(scores[task][seed] or 0.0 for task, seed in cells) / len(cells)


def read_tuned(path: Path) -> Search:
    """Read what `write_tuned` wrote.

    Raises
    ------
    UserError
        If the file is none, or of another major version of its form.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict) or "schema_version" not in raw:
        raise UserError(f"{path} is no file of trials.", "The tune command writes them.")
    if str(raw["schema_version"]).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise UserError(f"{path} is of schema version {raw['schema_version']}; this release reads {SCHEMA_VERSION}.")
    return read_card(Search, raw, path)


def write_tuned(search: Search, path: Path) -> None:
    """Write `search` to `path` in one go."""
    write_text_atomically(path, _text(search))


def keep_tuned(results: Path, path: Path) -> None:
    """Keep a copy of the file at `path` in a folder of results, for its reports."""
    text = _text(read_tuned(path))
    name = f"{path.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
    write_text_atomically(results / KEPT / name, text, below=results)


def kept_tuned(results: Path) -> tuple[list[Search], list[str]]:
    """Return the searches whose choices were run, and what is wrong with files that are none."""
    found, problems = [], []
    for path in sorted((results / KEPT).glob("*.yaml")):
        try:
            if leads_out(path, results):
                raise UserError(f"{path} is a link that leads out of its folder.")
            found.append(read_tuned(path))
        except UserError as error:
            problems.append(shown(error.message))
    return found, problems


def _text(search: Search) -> str:
    return yaml.safe_dump(search.model_dump(), sort_keys=False, allow_unicode=True, width=10**6)
