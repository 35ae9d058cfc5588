"""Real teachers: ``transformers serve`` with SmolLM2-135M on loopback, and the same model in the process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dhrd_bench.backbones import load, resolve
from dhrd_bench.commands.rationales import app
from dhrd_bench.data.rationales import RationaleStore, example_key

pytestmark = pytest.mark.slow

ROWS = 5


@contextmanager
def serving(model: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import app; app()"]
    command += ["serve", model, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = folder / "server.log"
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream, env=offline)
    try:
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.kill()
        process.wait()


def generate(model: str, url: str, store: Path, settings: Path) -> Result:
    arguments = ["generate", "--suite", "mini7", "--task", "rte", "--teacher", f"openai:{model}"]
    options = {"--limit": ROWS, "--base-url": url, "--output": store, "--settings": settings}
    return CliRunner().invoke(app, [*arguments, *(str(part) for pair in options.items() for part in pair)])


def test_a_real_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    model = str(load(resolve("smollm2-135m")).model.name_or_path)
    if Path(model).is_dir():  # the server goes by the name it was started with: give the folder a short one
        (tmp_path / "smollm2-135m").symlink_to(model)
        model = "smollm2-135m"
    store, settings = tmp_path / "store", tmp_path / "teacher.yaml"
    settings.write_text("request: {max_tokens: 40, temperature: 0}\nconcurrency: 1\nretries: 1\nbackoff: 0.05\n")
    path = RationaleStore(store).path("RTE")

    with serving(model, tmp_path) as (url, server):

        def kill_after_two() -> None:
            while not (path.exists() and path.read_bytes().count(b"\n") >= 2):
                time.sleep(0.01)
            os.kill(server.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_after_two, daemon=True)
        killer.start()
        broken = generate(model, url, store, settings)
        killer.join(5)
    assert broken.exit_code == 1, broken.output
    kept = RationaleStore(store).rows("RTE")
    assert 2 <= len(kept) < ROWS

    with serving(model, tmp_path) as (url, server):
        resumed = generate(model, url, store, settings)
        assert resumed.exit_code == 0, f"{resumed.output} {resumed.exception!r}"
        assert f"{len(kept)} already there" in resumed.output
        again = generate(model, url, store, settings)
        assert (again.exit_code, f"{ROWS} already there" in again.output) == (0, True)

    rows = RationaleStore(store).rows("RTE")
    assert rows[: len(kept)] == kept
    assert Counter(example_key(row.idx) for row in rows).most_common(1)[0][1] == 1
    assert len(rows) == ROWS
    for row in rows:
        assert row.rationale.strip()
        assert row.tokens_in is not None
        assert row.tokens_in > 100
        assert row.tokens_out is not None
        assert 0 < row.tokens_out <= 40
        assert row.teacher == f"openai:{model}"
    served = generate(model, "http://127.0.0.1:9/v1", store, settings)  # nothing listens there, and nothing needs to
    assert served.exit_code == 0


def test_a_local_teacher(tmp_path: Path) -> None:
    arguments = ["generate", "--suite", "mini7", "--task", "rte", "--teacher", "local:smollm2-135m", "--limit", "2"]
    arguments += ["--max-new-tokens", "40", "--output", str(tmp_path)]
    first, second = (CliRunner().invoke(app, arguments) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), f"{first.output} {first.exception!r}"
    assert "2 already there" in second.output
    rows = RationaleStore(tmp_path).rows("RTE")
    assert len(rows) == 2
    assert all(row.model and row.tokens_out and row.rationale.strip() for row in rows)
