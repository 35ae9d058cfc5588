"""A process of its own for methods, as seen from the harness; `dhrd_bench.grid.worker` is its other end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from dhrd_bench import plugins
from dhrd_bench.backbones import Backbone
from dhrd_bench.grid.perform import time_over
from dhrd_bench.grid.plan import Step
from dhrd_bench.grid.seal import Seal
from dhrd_bench.request import EnergySource

KEPT_FROM = ("DHRD_DATA_DIR",)
"""Variables of the environment that are not passed on."""


class CellProcessError(Exception):
    """The process could not be started, has ended, or was ended."""


class CellProcess:
    """A process that is closed off by `seal` before it imports a plug-in, with a backbone and a folder of its own.

    Parameters
    ----------
    backbone
        What to load there.
    seal
        What is to be kept from it; None leaves it open.
    threads
        How many it computes with; None for as many as this process.
    energy
        Where its energy figures come from; None for none.

    Raises
    ------
    CellProcessError
        If it cannot be started.
    """

    def __init__(
        self, backbone: Backbone, seal: Seal | None, threads: int | None = None, energy: EnergySource | None = None
    ) -> None:
        import torch

        # Made before the process is closed off: a file in a folder that comes later may be none that it can read.
        self._folder = tempfile.TemporaryDirectory(prefix="dhrd-bench-", ignore_cleanup_errors=True)
        environment = {name: value for name, value in os.environ.items() if name not in KEPT_FROM} | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HF_HUB_OFFLINE": "1",  # what is needed is here by now; without a network asking would take long
            "TMPDIR": self._folder.name,
        }
        self._connection, other = Pipe()
        with other:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "dhrd_bench.grid.worker", str(other.fileno())],
                pass_fds=[other.fileno()], env=environment, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            self._send(
                {
                    "sealed": seal is not None,
                    "closed": list(map(str, seal.closed if seal else ())),
                    "open": list(map(str, seal.open if seal else ())),
                    "readable": list(map(str, seal.readable() if seal else ())),
                    "network": backbone.card.engine != "transformers",  # vLLM speaks TCP to itself
                    "threads": threads or torch.get_num_threads(),
                    "energy": energy,
                    "include": list(map(str, plugins.state.folders.values())),
                    "backbone": backbone.card.model_dump(mode="json"),
                }
            )
            answer = self._receive(None, 0.0)
        except BaseException:
            self.end()
            raise
        if "failed" in answer:
            self.end()
            raise CellProcessError(answer["failed"])

    def folder_for(self, name: str) -> Path:
        """Return a folder that the process can write into and read from; it is gone when the process has ended."""
        folder = Path(self._folder.name, name)
        folder.mkdir(exist_ok=True)
        return folder

    def perform(self, job: dict[str, Any], step: Step, limit: float | None) -> dict[str, Any]:
        """Have a job of `dhrd_bench.grid.wire` done; `step` is told how far it is.

        Raises
        ------
        CellProcessError
            If the process ends before it answers, or the limit of so many seconds is reached.
        """
        self._send(job)
        deadline = None if limit is None else time.monotonic() + limit
        while "step" in (message := self._receive(deadline, limit or 0.0)):
            step(*message["step"])
        return message

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        with suppress(ProcessLookupError):  # it leads a group of its own, which holds what its method has started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # the process has ended: what it has to say is read next
            self._connection.send_bytes(json.dumps(message).encode())

    def _receive(self, deadline: float | None, limit: float) -> dict[str, Any]:
        if deadline is not None and not self._connection.poll(max(0.0, deadline - time.monotonic())):
            raise CellProcessError(f"OutOfTimeError: {time_over(limit)}")
        try:
            message = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            code = self._process.wait()
            how = f"was ended by signal {-code}" if code < 0 else f"left with exit code {code}"
            raise CellProcessError(f"ProcessEnded: the method's process {how}") from None
        assert isinstance(message, dict)
        return message
