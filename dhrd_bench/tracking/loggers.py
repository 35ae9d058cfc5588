"""What the trackers have in common, and the three that are known. Each library is imported when it is asked for."""

from __future__ import annotations

import contextvars
import io
import os
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from dhrd_bench.errors import UserError
from dhrd_bench.request import Tracker

PROJECT = "dhrd-bench"
"""Where runs go, unless the environment names a project of the library's own."""

Settings = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True)
class TrackedCell:
    """A cell as a tracker knows it: one run, beside the others of its grid."""

    name: str
    group: str
    settings: Settings


class LoggedRun(Protocol):
    """A tracker's run while its cell is under way."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take figures of a training step."""

    def end(self, figures: Mapping[str, float], *, ok: bool) -> None:
        """Take the final figures and close the run, as failed if the cell has."""


class Logger(Protocol):
    """A tracker. Several of its runs may be open at a time; what keeps its secrets is the library's own business."""

    def begin(self, cell: TrackedCell) -> LoggedRun:
        """Open a run."""


def logger_of(name: Tracker) -> Logger:
    """Return the logger called `name`.

    Raises
    ------
    UserError
        If its library cannot be imported.
    """
    known: dict[Tracker, Callable[[Any], Logger]] = {
        "mlflow": MlflowLogger,
        "trackio": TrackioLogger,
        "wandb": WandbLogger,
    }
    try:
        return known[name](import_module(name))
    except ImportError as error:
        raise UserError(
            f"The tracker {name} cannot be imported ({error}).", f"pip install 'dhrd-bench[{name}]'"
        ) from error


class WandbLogger:
    """Weights & Biases; ``WANDB_*`` of the environment hold."""

    def __init__(self, wandb: Any) -> None:
        self._wandb = wandb

    def begin(self, cell: TrackedCell) -> LoggedRun:
        """Open a run beside those that are open."""
        run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=cell.name, group=cell.group,
            config=dict(cell.settings), reinit="create_new",
            settings=self._wandb.Settings(console="off", silent=True),  # the display is there
        )  # fmt: skip
        return _WandbRun(run)


@dataclass(frozen=True)
class _WandbRun:
    run: Any

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def end(self, figures: Mapping[str, float], *, ok: bool) -> None:
        self.run.summary.update(dict(figures))
        self.run.finish(exit_code=0 if ok else 1)


class TrackioLogger:
    """Trackio; ``TRACKIO_*`` of the environment hold."""

    def __init__(self, trackio: Any) -> None:
        self._trackio = trackio

    def begin(self, cell: TrackedCell) -> LoggedRun:
        """Open a run beside those that are open."""
        settings = {"project": PROJECT, "name": cell.name, "group": cell.group, "config": dict(cell.settings)}
        # `init` ends the run that is current in its context; in a context of its own there is none.
        with redirect_stdout(io.StringIO()):  # the display is there
            return _TrackioRun(contextvars.Context().run(self._trackio.init, **settings))


@dataclass
class _TrackioRun:
    run: Any
    step: int = 0

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.step = step
        self.run.log(dict(figures), step=step)

    def end(self, figures: Mapping[str, float], *, ok: bool) -> None:
        self.run.log({**figures, "failed": float(not ok)}, step=self.step)  # it knows no failed runs
        with redirect_stdout(io.StringIO()):
            self.run.finish()


class MlflowLogger:
    """MLflow; ``MLFLOW_*`` of the environment hold."""

    def __init__(self, mlflow: Any) -> None:
        self._mlflow, self._client = mlflow, mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)

    def begin(self, cell: TrackedCell) -> LoggedRun:
        """Open a run; the client works on any, whichever is current."""
        run = self._client.create_run(self._experiment, run_name=cell.name, tags={"group": cell.group})
        params = [self._mlflow.entities.Param(key, str(value)) for key, value in cell.settings.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return _MlflowRun(self._mlflow, self._client, run.info.run_id)


@dataclass
class _MlflowRun:
    mlflow: Any
    client: Any
    id: str
    step: int = 0
    pending: Any = None

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.step = step
        # Not waited for: training would be slower by each answer of a server.
        self.pending = self.client.log_batch(self.id, metrics=self._metrics(figures), synchronous=False)

    def end(self, figures: Mapping[str, float], *, ok: bool) -> None:
        if self.pending is not None:
            self.pending.wait()
        self.client.log_batch(self.id, metrics=self._metrics(figures))
        self.client.set_terminated(self.id, "FINISHED" if ok else "FAILED")

    def _metrics(self, figures: Mapping[str, float]) -> list[Any]:
        now = int(1000 * time.time())
        return [self.mlflow.entities.Metric(name, value, now, self.step) for name, value in figures.items()]
