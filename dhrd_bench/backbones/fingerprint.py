"""Digests of the files in a folder, and a name for the weights and the tokenizer that they hold."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.errors import UserError
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.untrusted import parse_json

PATTERNS = (
    "config.json", "generation_config.json",
    "*.safetensors", "*.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.*", "merges.txt", "*.model", "chat_template*",
    "*.py",  # code of the model, which runs where the user trusts it
)  # fmt: skip
"""The files of a saved model that its outputs depend on."""

SETTLED = 2.0
"""Seconds after which a file's time tells it from a later version: two writes within a clock tick have the same."""


def folder_fingerprint(folder: Path) -> str:
    """Return ``local-`` and 12 digits of a SHA-256 over name and content of every file that `PATTERNS` name."""
    total = hashlib.sha256()
    for name, digest in file_digests(folder).items():
        total.update(f"{name} {digest}\n".encode())
    return f"local-{total.hexdigest()[:12]}"


def file_digests(folder: Path, patterns: Sequence[str] = PATTERNS) -> dict[str, str]:
    """Return the SHA-256 of every file in `folder` that `patterns` name, by its name.

    Hashing reads every byte, once: a file's digest is kept below the cache folder and holds as long as the file has
    the same size and time. A cache that cannot be read or written costs time and nothing else.
    """
    store = cache_folder() / "fingerprints" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    kept = _read(store)
    entries: dict[str, Any] = {}
    digests: dict[str, str] = {}
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        key, stat = str(path.resolve()), path.stat()
        entry = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        digests[path.name] = _kept_digest(kept.get(key), entry) or sha256_of(path)
        if time.time() - stat.st_mtime > SETTLED:
            entries[key] = entry | {"sha256": digests[path.name]}
    if entries and entries != kept:
        with suppress(UserError):
            write_text_atomically(store, with_checksum(json.dumps(entries, indent=1)))
    return digests


def damaged_files(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """Return the names of the files in `folder` that are not there or have other digests than they had.

    Every byte is read: what a disk has lost changes neither size nor time of a file.
    """
    if not isinstance(digests, Mapping) or any(Path(name).name != name for name in digests):
        return ["the list of files"]
    paths = {name: folder / name for name in digests}
    return [name for name, path in paths.items() if not path.is_file() or sha256_of(path) != digests[name]]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _kept_digest(kept: Any, entry: dict[str, int]) -> str | None:
    """Return the digest that was kept for a file of this size and time."""
    if not isinstance(kept, dict) or any(kept.get(name) != value for name, value in entry.items()):
        return None
    digest = kept.get("sha256")
    return digest if isinstance(digest, str) else None


def _read(store: Path) -> dict[str, Any]:
    try:
        kept = parse_json(without_checksum(store.read_bytes()))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
