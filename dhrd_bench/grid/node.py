"""What works on a machine of a Ray cluster: it has a closed process perform cells, as the harness does at home."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhrd_bench import __version__
from dhrd_bench.contracts import BackboneCard
from dhrd_bench.grid.process import CellProcess, CellProcessError
from dhrd_bench.results.schema import Surroundings

PIECE = 16 << 20
"""Bytes of a saved method that are sent at a time."""


@dataclass(frozen=True)
class Setup:
    """What a node is told before the first cell. It holds no data.

    Attributes
    ----------
    version
        Of this package, which has to be the same there.
    card, revision
        Settled card of the backbone, and the revision that identities have.
    engine
        What records call the inference engine.
    include
        Plug-in folders, which the node has to have under these names.
    folders, results
        What a closed process is to be kept from beside what always is, if the node has it.
    closed
        Whether the process is closed off.
    threads, processes
        Threads of a cell; processes that train it together.
    """

    version: str
    card: BackboneCard
    revision: str
    engine: str
    include: tuple[Path, ...]
    folders: tuple[Path, ...]
    results: Path
    closed: bool
    threads: int
    processes: int


class Node:
    """A Ray actor: one worker of a grid. It loads the backbone once, in the process that it starts."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: CellProcess | None = None

    def start(self) -> Surroundings:
        """Start the process; return what this machine is.

        Raises
        ------
        CellProcessError
            If the process cannot be started, or this machine lacks what it takes.
        """
        from dhrd_bench import plugins
        from dhrd_bench.backbones.location import locate
        from dhrd_bench.errors import UserError
        from dhrd_bench.grid.environment import surroundings_of
        from dhrd_bench.grid.seal import seal

        setup = self._setup
        if __version__ != setup.version:
            raise CellProcessError(f"The node has dhrd-bench {__version__}, not {setup.version}.")
        try:
            for folder in setup.include:
                plugins.include(folder)
            _fetch(setup.card)
            if (found := locate(setup.card).revision) != setup.revision:
                raise UserError(f"Backbone {setup.card.name!r} is at revision {found} here, not {setup.revision}.")
        except UserError as error:
            raise CellProcessError(str(error)) from None
        what = seal(setup.folders, setup.results) if setup.closed else None
        self._process = CellProcess(setup.card, what, setup.threads, setup.processes)
        return surroundings_of(setup.card.device, setup.card.dtype, setup.engine)

    def perform(self, job: dict[str, Any], limit: float | None) -> Iterator[dict[str, Any]]:
        """Have a job done, see `dhrd_bench.grid.process.Process`; the files of a saved method come piece by piece."""
        assert self._process is not None
        keep = self._process.folder_for("kept") if job["keep"] else None
        answer: dict[str, Any] = {}
        for message in self._process.perform(job | {"keep": keep and str(keep)}, limit):
            if "step" in message:
                yield message
            answer = message
        if keep:
            yield from _pieces(keep)
            shutil.rmtree(keep)
        yield answer


def _fetch(card: BackboneCard) -> None:
    """Have the hub's files here, as the process that is started next asks no network."""
    from dhrd_bench.backbones.location import locate

    if locate(card).kind == "hub":
        from huggingface_hub import snapshot_download

        wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py"]
        snapshot_download(card.hub_id, revision=card.revision, allow_patterns=wanted)


def _pieces(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = path.relative_to(folder).as_posix()
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield {"file": name, "piece": piece}
