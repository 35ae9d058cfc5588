"""Coverage-guided fuzzing of every reader of `tests/readers.py`: ``make fuzz``, or one with ``--reader NAME``.

Each reader runs in a process of its own for some seconds. A file that breaks one is kept below ``build/fuzz`` with the
command that replays it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PLACE = Path("build/fuzz")


def main() -> int:
    """Fuzz all readers in turn, or one, or replay a file; 1 if something broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--reader", help="only this one")
    parser.add_argument("--replay", type=Path, help="a file for that reader, read once")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.replay:
        from readers import attempt

        print(attempt(asked.reader, asked.replay.read_bytes()) or "read")
        return 0
    if asked.inside:
        fuzz(asked.reader, asked.seconds)
        return 0
    from readers import READERS

    broken = [name for name in ([asked.reader] if asked.reader else READERS) if not holds(name, asked.seconds)]
    print(f"broken: {', '.join(broken)}" if broken else "every reader held")
    return int(bool(broken))


def holds(name: str, seconds: int) -> bool:
    """Fuzz one reader in a process of its own and tell what broke it."""
    command = [sys.executable, __file__, "--inside", "--reader", name, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    runs = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
    print(f"{name}: {runs[-1] if runs else f'broke, exit code {done.returncode}'}", flush=True)
    if done.returncode:
        print("\n".join(done.stderr.splitlines()[-25:]))
        for path in sorted(folder_of(name).glob("crash-*")):
            print(f"replay: {sys.executable} {__file__} --reader {name!r} --replay {path}")
    return not done.returncode


def folder_of(name: str) -> Path:
    """Where the corpus of a reader lies, and what broke it."""
    return PLACE / name.replace(" ", "-")


def fuzz(name: str, seconds: int) -> None:
    """Feed one reader until it breaks or the time is up; does not return."""
    import atheris

    with atheris.instrument_imports(include=["dhrd_bench", "yaml", "json", "csv"]):
        from readers import READERS, attempt

    corpus = folder_of(name) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(READERS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one(content: bytes) -> None:
        attempt(name, content)

    options = [
        f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=4096", "-max_len=20000",
        f"-artifact_prefix={folder_of(name)}/",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
