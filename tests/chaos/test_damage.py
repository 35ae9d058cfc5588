"""Files that a disk has damaged: each is named, made again, and never half-read."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.conftest import Injected
from chaos.runs import call, call_apart, command, lost, outcomes

pytestmark = pytest.mark.chaos


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    return b""


def flip(content: bytes) -> bytes:
    """Change the lowest bit of a digit, if there is one: the file still reads well."""
    digits = [place for place, byte in enumerate(content) if 48 <= byte < 58] or [len(content) // 2]
    place = digits[len(digits) // 2]
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE: tuple[Callable[[bytes], bytes], ...] = (truncate, empty, flip)


def damage(path: Path, how: Callable[[bytes], bytes]) -> None:
    """Damage a file as a disk does: its time stays."""
    stat = path.stat()
    path.write_bytes(how(path.read_bytes()))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_damaged_records_are_named_and_made_again(tmp_path: Path, injected: Injected) -> None:
    results, cache = tmp_path / "out", tmp_path / "cache"
    words = command(results, "majority,pooled,cot", tasks="copa", seeds="1")
    assert call(words, cache).returncode == 0
    whole = outcomes(results)
    paths = sorted(results.rglob("seed-0.json"))
    for path, how in zip(paths, DAMAGE, strict=True):
        damage(path, how)
    report = call([sys.executable, "-m", "dhrd_bench.cli", "report", "--results", str(results)], cache)
    assert report.returncode == 2
    assert "Traceback" not in report.stderr
    told = report.stdout + report.stderr
    assert "No record below" in told
    again = call(words, cache)
    assert again.returncode == 0, again.stderr
    for path in paths:
        assert str(path) in again.stdout.replace("\n", ""), "each is named"
        assert path.with_suffix(".broken.json").exists()
    missing = lost(outcomes(results), whole)
    injected("records truncated, emptied, bit-flipped", len(paths), missing)
    assert not missing


def test_damaged_texts_are_named(tmp_path: Path, injected: Injected) -> None:
    results, cache = tmp_path / "out", tmp_path / "cache"
    assert call(command(results, "cot", tasks="copa", seeds="1"), cache).returncode == 0
    (record,) = results.rglob("seed-0.json")
    damage(beside := record.with_suffix(".generations.jsonl"), truncate)
    done = call([sys.executable, "-m", "dhrd_bench.cli", "results", "predictions", str(record)], cache)
    assert done.returncode == 2
    assert re.search(rf"error: {re.escape(str(beside))}:\d+: no text of an example\. Delete the file", done.stderr)
    injected("texts beside a record truncated", 1, 0)


def test_damaged_fitted_methods_are_named_and_fitted_anew(tmp_path: Path, injected: Injected) -> None:
    results, cache = tmp_path / "out", tmp_path / "cache"
    words = command(results, "majority,pooled", "--throughput", "offline", tasks="copa", seeds="1")
    assert call(words, cache).returncode in (0, 1)
    whole = outcomes(results)
    files = sorted(path for path in (cache / "fitted").rglob("*") if path.is_file())
    assert {path.name for path in files} == {"fitted.safetensors", "fitted.json", "shares.json", "complete.json"}
    right = {path: path.read_bytes() for path in files}
    times = 0
    for how in DAMAGE:
        for name in ("fitted.safetensors", "shares.json"):
            (path,) = (path for path in files if path.name == name)
            damage(path, how)
            times += 1
        done = call(words, cache)
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("is fitted anew") == 2
        assert "shares.json" in done.stderr
        assert "fitted.safetensors" in done.stderr
        assert {path: path.read_bytes() for path in files} == right
    injected("fitted methods truncated, emptied, bit-flipped", times, lost(outcomes(results), whole))


def test_damaged_caches_are_made_again(tmp_path: Path, injected: Injected) -> None:
    """Digests of a local backbone's files, and the note that it agrees with transformers."""
    from dhrd_bench.backbones import load, resolve

    cache, mine = tmp_path / "cache", tmp_path / "mine"
    tiny = load(resolve("tiny"))
    tiny.reset()
    tiny.model.save_pretrained(mine)
    tiny.tokenizer.save_pretrained(mine)
    for path in mine.iterdir():
        os.utime(path, (1e9, 1e9))  # settled
    backbone = f"{mine}[dtype=float32,device=cpu]"
    words = command(tmp_path / "out", "pooled", "--backbone", backbone, tasks="copa", seeds="1")
    done = call_apart(words, cache)
    assert done.returncode == 0, done.stderr
    whole = outcomes(tmp_path / "out")
    kept = [path for path in sorted(cache.rglob("*")) if path.is_file()]
    assert {path.parent.name for path in kept} == {"agreement", "fingerprints"}
    right = {path: path.read_bytes() for path in kept}
    for how in DAMAGE:
        for path in kept:
            damage(path, how)
        done = call_apart([*words, "--force"], cache)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        assert {path: path.read_bytes() for path in kept} == right
        assert outcomes(tmp_path / "out") == whole
    injected("caches truncated, emptied, bit-flipped", len(kept) * len(DAMAGE), 0)
