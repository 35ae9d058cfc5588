"""Cells on a Ray cluster: each worker an actor with its processors and cards; this process scores and writes."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhrd_bench import __version__
from dhrd_bench.backbones import Backbone
from dhrd_bench.errors import UserError
from dhrd_bench.grid.node import Node, Setup
from dhrd_bench.grid.plan import Plan
from dhrd_bench.grid.process import CellProcessError
from dhrd_bench.results.schema import Surroundings

TRIES = 3
"""Times that a cell is begun before it is given up, where each time its node or worker is lost."""

OBJECT_STORE = 256 << 20
"""Bytes of shared memory of a cluster that is started here: what is sent is texts, and weights in pieces."""


@dataclass(frozen=True)
class Share:
    """How many workers there are, and what each has: processors, and cards or a part of one."""

    workers: int
    cpus: int
    gpus: float


def shares(nodes: Sequence[tuple[float, float]], share: Share, workers: int | None) -> Share:
    """Return how a cluster is divided.

    Parameters
    ----------
    nodes
        Processors and cards of each machine.
    share
        What a worker has at most, and of cards what it takes: a whole number, or none.
    workers
        How many there are to be; None for as many as there is room for. If there is no room for so many, they get
        fewer processors each, then share a card; what is beyond one processor each waits for others to end.

    Raises
    ------
    UserError
        If no machine has room for a single one.
    """

    def room(cpus: int, gpus: float) -> int:
        ways = [(have[0] / cpus, have[1] / gpus if gpus else have[0] / cpus) for have in nodes]
        return sum(int(min(each) + 1e-6) for each in ways)

    cpus, gpus = max(1, min(share.cpus, int(max((have for have, _ in nodes), default=0)))), share.gpus
    if not room(1, gpus):
        what = f"{gpus:g} GPU{'s' * (gpus > 1)}" if gpus else "a processor"
        raise UserError(f"No node of the Ray cluster has {what} for a cell.", "'ray status' shows what there is.")
    if workers is None:  # each card is to be used, each processor need not be
        workers = room(1, gpus) if gpus else room(cpus, gpus)
    parts = 1
    while gpus == 1 and parts < workers and room(1, 1 / parts) < workers:
        parts += 1
    gpus = 1 / parts if parts > 1 else gpus
    return Share(workers, next((less for less in range(cpus, 0, -1) if room(less, gpus) >= workers), 1), gpus)


@contextmanager
def connected() -> Iterator[list[tuple[float, float]]]:
    """Connect to the cluster that runs here or that ``RAY_ADDRESS`` names, or start one; yield its nodes for `shares`.

    One that was started ends with the block, as do all workers. A connection that there was before stays.

    Raises
    ------
    UserError
        If Ray is not installed, or there is no cluster where there is to be one.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(ray)
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield [(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in alive]
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed.", "pip install 'dhrd-bench[ray]'") from error
    return ray


def _connect(ray: Any) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS", "auto")
    if address != "local":
        try:
            ray.init(address, **quiet)
            return
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address != "auto":
                message = f"There is no Ray cluster at RAY_ADDRESS={address}: {' '.join(str(error).split())}"
                raise UserError(message.rstrip(".") + ".", "RAY_ADDRESS=local has one started here.") from error
    ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE, **quiet)


def workers_for(
    plan: Plan, backbone: Backbone, engine: str, nodes: Sequence[tuple[float, float]]
) -> tuple[Share, Callable[[bool], NodeProcess]]:
    """Return how `nodes` are divided for `plan`, and what starts a process on one of them, closed off or not."""
    import torch

    request, card = plan.request, backbone.card
    device = card.device.partition(":")[0]  # a node numbers the cards that it was given from 0
    share = shares(
        nodes, Share(0, torch.get_num_threads(), request.processes if device == "cuda" else 0), request.workers
    )

    def start(closed: bool) -> NodeProcess:
        setup = Setup(
            version=__version__, card=card.model_copy(update={"device": device}), revision=backbone.revision,
            engine=engine, include=tuple(folder.absolute() for folder in request.include),
            folders=(request.data_dir.absolute(),) if request.data_dir else (), results=plan.results, closed=closed,
            threads=share.cpus, processes=request.processes,
        )  # fmt: skip
        return NodeProcess(setup, share)

    return share, start


class NodeProcess:
    """A process for methods on some node; where that is lost, the job under way is begun again on another.

    Parameters
    ----------
    setup
        What a node is told.
    share
        What it has of its machine.

    Raises
    ------
    CellProcessError
        While it performs: if it cannot be started, or is lost too often.
    """

    def __init__(self, setup: Setup, share: Share) -> None:
        self._setup, self._share = setup, share
        self._folder = tempfile.TemporaryDirectory(prefix="dhrd-bench-", ignore_cleanup_errors=True)
        self._actor: Any = None
        self._ended = False
        self.surroundings: Surroundings | None = None

    def folder_for(self, name: str) -> Path:
        """Return a folder here into which a saved method is put."""
        folder = Path(self._folder.name, name)
        folder.mkdir(exist_ok=True)
        return folder

    def perform(self, job: dict[str, Any], limit: float | None) -> Iterator[dict[str, Any]]:
        """Have a job done, see `dhrd_bench.grid.process.Process`."""
        from ray.exceptions import RayError, RayTaskError

        for tries_left in reversed(range(TRIES)):
            try:
                self._start()
                yield from self._messages(job, limit)
                return
            except RayTaskError as error:  # the node is well: what it says is meant for us
                raise _cause(error) from None
            except RayError as error:
                self._drop()
                if self._ended or not tries_left:
                    what = " ".join(str(error).split())
                    raise CellProcessError(
                        f"NodeLost: {TRIES} nodes or workers were lost, the last so: {what}"
                    ) from None

    def end(self) -> None:
        """End the actor, whatever it is doing."""
        self._ended = True
        self._drop()
        self._folder.cleanup()

    def _start(self) -> None:
        """Wait for room, then have the process started, unless there is one."""
        import ray

        if self._actor is None:
            share = self._share
            cls = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0, max_task_retries=0)(Node)
            self._actor = cls.remote(self._setup)
            self.surroundings = ray.get(self._actor.start.remote())

    def _messages(self, job: dict[str, Any], limit: float | None) -> Iterator[dict[str, Any]]:
        import ray

        for sent in self._actor.perform.options(num_returns="streaming").remote(job, limit):
            message = ray.get(sent)
            if "file" in message:
                path = Path(job["keep"], message["file"])
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.write(message["piece"])
            else:
                yield message

    def _drop(self) -> None:
        import ray

        actor, self._actor = self._actor, None
        if actor is not None and ray.is_initialized():
            ray.kill(actor)


def _cause(error: Any) -> Exception:
    """Return what a node has raised: a `CellProcessError` of the same text, whatever it was."""
    cause = error.cause
    said = str(cause) if isinstance(cause, CellProcessError) else f"{type(cause).__name__}: {cause}"
    return CellProcessError(" ".join(said.split()))
