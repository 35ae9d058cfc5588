"""Methods that fail in every way: each is a line of its own record, and the others go on."""

from __future__ import annotations

import resource
import subprocess
import textwrap
from pathlib import Path

import pytest

from chaos.conftest import Injected
from chaos.runs import command, environment
from dhrd_bench.results.store import read_records

pytestmark = pytest.mark.chaos

MOODY = """
    import os
    import signal
    import time
    from typing import Literal

    import torch

    import dhrd_bench as db


    @db.register
    class Moody(db.Method):
        card = db.MethodCard(name="moody", summary="s", objective="o", paper="none", inference="none")

        class Params(db.MethodParams):
            how: Literal["memory", "array", "killed", "hangs", "nan", "few", "class", "text", "constant"] = "constant"

        def fit(self, task, context):
            self.classes = len(task.card.labels)
            if self.params.how == "memory":
                self.much = bytearray(64 << 30)
            if self.params.how == "array":
                self.much = torch.ones(64 << 28)
            if self.params.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            while self.params.how == "hangs":
                time.sleep(0.1)

        def predict(self, examples, context):
            labels = [0] * len(examples)
            if self.params.how == "nan":
                return db.Predictions(labels, [[float("nan")] * self.classes] * len(examples))
            if self.params.how == "few":
                labels = labels[1:]
            if self.params.how == "class":
                labels[0] = 99
            if self.params.how == "text":
                labels[0] = "yes"
            return db.Predictions(labels)
"""

TOLD = {
    "memory": "MemoryError",
    "array": "memory",
    "killed": "signal 9",
    "hangs": "time limit of 15 s",
    "nan": "NaN or infinity",
    "few": "7 predictions for 8 examples",
    "class": "label id 99",
    "text": "yes",
    "constant": None,
}
"""What the record of each says; a constant answer is an answer."""

LIMIT = 32 << 30
"""Bytes of addresses that a process may have: what torch maps is far less, what two of the methods want is more."""


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_a_method_that_fails_costs_its_own_cell(tmp_path: Path, injected: Injected, isolation: str) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "moody.py").write_text(textwrap.dedent(MOODY))
    ways = [how for how in TOLD if isolation == "process" or how != "killed"]
    names = {f"moody[how={how}]" if how != "constant" else "moody": how for how in ways}
    methods = ",".join(["majority", *names, "pooled"])
    words = command(
        tmp_path / "out", methods, "--include", str(folder), "--isolation", isolation, "--cell-timeout", "15s",
        tasks="rte", seeds="1",
    )  # fmt: skip
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment(tmp_path / "cache"), preexec_fn=limit, timeout=600
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    records, problems = read_records(tmp_path / "out")
    assert not problems
    by_name = {record.cell.method: record for record in records}
    assert len(by_name) == len(names) + 2
    for name, how in names.items():
        record, told = by_name[name], TOLD[how]
        assert (record.status == "ok") == (told is None), record.error
        if told is not None:
            assert told in (record.error or "")
            assert "\n" not in (record.error or "")
            assert name in done.stdout
    others = [by_name[name].status for name in ("majority", "pooled")]
    injected(f"methods that fail, --isolation {isolation}", len(ways) - 1, others.count("failed"))
    assert others == ["ok", "ok"]
