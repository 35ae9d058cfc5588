"""A process of its own for methods, as seen from the harness; `dhrd_bench.grid.worker` is its other end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from dhrd_bench import plugins
from dhrd_bench.contracts import BackboneCard
from dhrd_bench.grid.perform import time_over
from dhrd_bench.grid.seal import Seal
from dhrd_bench.request import EnergySource
from dhrd_bench.results.schema import Surroundings

KEPT_FROM = ("DHRD_DATA_DIR",)
"""Variables of the environment that are not passed on."""


class CellProcessError(Exception):
    """The process could not be started, has ended, or was ended."""


class Process(Protocol):
    """A process of its own for methods, on this machine or on another.

    Attributes
    ----------
    surroundings
        The machine that it works on; None for this one.
    """

    surroundings: Surroundings | None

    def folder_for(self, name: str) -> Path:
        """Return a folder that a job may have its method saved into; it is gone when the process has ended."""

    def perform(self, job: dict[str, Any], limit: float | None) -> Iterator[dict[str, Any]]:
        """Have a job of `dhrd_bench.grid.wire` done; yield how far it is, and what came of it in the end.

        Raises
        ------
        CellProcessError
            If the process ends before it answers, or the limit of so many seconds is reached.
        """

    def end(self) -> None:
        """End the process, whatever it is doing."""


class CellProcess:
    """A process that is closed off by `seal` before it imports a plug-in, with a backbone and a folder of its own.

    Parameters
    ----------
    card
        Settled card of the backbone to load there.
    seal
        What is to be kept from it; None leaves it open.
    threads
        How many it computes with; None for as many as this process.
    processes
        How many take each training step together. The first one leads: it predicts and answers.
    energy
        Where its energy figures come from; None for none.

    Raises
    ------
    CellProcessError
        If it cannot be started.
    """

    surroundings: Surroundings | None = None

    def __init__(
        self,
        card: BackboneCard,
        seal: Seal | None,
        threads: int | None = None,
        processes: int = 1,
        energy: EnergySource | None = None,
    ) -> None:
        import torch

        # Made before the process is closed off: a file in a folder that comes later may be none that it can read.
        self._folder = tempfile.TemporaryDirectory(prefix="dhrd-bench-", ignore_cleanup_errors=True)
        self._members = [_Member.start(self._folder.name) for _ in range(processes)]
        setup = {
            "sealed": seal is not None,
            "closed": list(map(str, seal.closed if seal else ())),
            "open": list(map(str, seal.open if seal else ())),
            "readable": list(map(str, seal.readable() if seal else ())),
            # vLLM speaks TCP to itself, as do processes that train together.
            "network": card.engine != "transformers" or processes > 1,
            "threads": max(1, (threads or torch.get_num_threads()) // processes),
            "processes": processes,
            "rendezvous": str(Path(self._folder.name, "rendezvous")),
            "energy": energy,
            "include": list(map(str, plugins.state.folders.values())),
            "backbone": card.model_dump(mode="json"),
        }
        try:
            for rank, member in enumerate(self._members):
                member.send(setup | {"rank": rank})
            answers = [member.receive() for member in self._members]
        except BaseException:
            self.end()
            raise
        for answer in answers:
            if "failed" in answer:
                self.end()
                raise CellProcessError(answer["failed"])

    def folder_for(self, name: str) -> Path:
        """Return a folder that the process can write into and read from; it is gone when the process has ended."""
        folder = Path(self._folder.name, name)
        folder.mkdir(exist_ok=True)
        return folder

    def perform(self, job: dict[str, Any], limit: float | None) -> Iterator[dict[str, Any]]:
        """Have a job done, see `Process`."""
        for member in self._members:
            member.send(job)
        deadline = None if limit is None else time.monotonic() + limit
        working, answer = list(self._members), dict[str, Any]()
        while working:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = wait([member.connection for member in working], left)
            if not ready:
                raise CellProcessError(f"OutOfTimeError: {time_over(limit or 0.0)}")
            for member in [each for each in working if each.connection in ready]:
                message = member.receive()
                if "step" in message:
                    yield message
                    continue
                if "error" in message and len(self._members) > 1:  # the others may wait for it for ever
                    raise CellProcessError(message["error"])
                working.remove(member)
                answer |= message
        yield answer

    def end(self) -> None:
        """End the process, whatever it is doing."""
        for member in self._members:
            member.end()
        self._folder.cleanup()


@dataclass(frozen=True)
class _Member:
    """One process with the connection to it."""

    connection: Connection
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: str) -> _Member:
        environment = {name: value for name, value in os.environ.items() if name not in KEPT_FROM} | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HF_HUB_OFFLINE": "1",  # what is needed is here by now; without a network asking would take long
            "TMPDIR": folder,
        }
        connection, other = Pipe()
        with other:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "dhrd_bench.grid.worker", str(other.fileno())],
                pass_fds=[other.fileno()], env=environment, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return cls(connection, process)

    def send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # the process has ended: what it has to say is read next
            self.connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        try:
            message = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            code = self.process.wait()
            how = f"was ended by signal {-code}" if code < 0 else f"left with exit code {code}"
            raise CellProcessError(f"ProcessEnded: the method's process {how}") from None
        assert isinstance(message, dict)
        return message

    def end(self) -> None:
        self.connection.close()
        with suppress(ProcessLookupError):  # it leads a group of its own, which holds what its method has started
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
