"""Backbones without the hub: a GGUF file inside a Python package, converted once to safetensors."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import shutil
from pathlib import Path

from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.backbones.fingerprint import damaged_files, file_digests
from dhrd_bench.contracts import Gguf
from dhrd_bench.errors import UserError
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.untrusted import parse_json

_log = logging.getLogger(__name__)

COMPLETE = "complete.json"
"""Written last into a converted backbone's folder; it holds the digests of the files."""


def gguf_file(gguf: Gguf) -> Path | None:
    """Return the path of the file in its package, or None if the package is not installed."""
    path = in_package(gguf.module, gguf.file)
    return path if path is not None and path.is_file() else None


def in_package(module: str, name: str) -> Path | None:
    """Return the path of `name` in an installed package, be it there or not; None if the package is not installed."""
    # The package is found, not imported: it is another program's plug-in and its imports are not ours.
    spec = importlib.util.find_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / name


def gguf_revision(source: Path) -> str:
    """Return name and size of the file.

    Unlike a local folder's, its bytes are not hashed: a released package does not change under its user, and the
    identities of the records that exist hold this text.
    """
    return f"{source.stem}-{source.stat().st_size}"


def converted(source: Path) -> Path:
    """Return the folder with the GGUF's weights as safetensors, converting them the first time.

    What was converted before is used if every file has the digest that it had then; otherwise the damaged files are
    named in a warning, and everything is converted anew.

    Raises
    ------
    UserError
        If the cache cannot be written.
    """
    from filelock import FileLock
    from safetensors import SafetensorError

    folder = cache_folder() / "backbones" / gguf_revision(source)
    if _damage(folder) == []:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):  # two processes may start at once on an empty cache
            damaged = _damage(folder)
            if damaged == []:
                return folder
            if damaged:
                _log.warning("Damaged in %s: %s. The backbone is converted anew.", folder, ", ".join(damaged))
            shutil.rmtree(folder)
            folder.mkdir()
            try:
                _convert(source, folder)
            except BaseException:  # what is half-written may be what fills the disk
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"Cannot convert the backbone into the cache {folder}: {reason}."
        raise UserError(message, "Set DHRD_CACHE to a folder that can be written and has room.") from error
    return folder


def _damage(folder: Path) -> list[str] | None:
    """Return the files of the conversion in `folder` that are not as they were written; None if it is not finished."""
    try:
        digests = parse_json((folder / COMPLETE).read_bytes()).get("files")
    except (OSError, ValueError, AttributeError):
        return None
    return damaged_files(folder, digests) if digests else None  # before digests were kept there were none


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # The loaded model counts as quantised and refuses to be saved; the weights are plain by now.
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    # Written last: a conversion that was killed half-way is done again.
    complete = {"source": source.name, "bytes": source.stat().st_size, "files": file_digests(folder)}
    write_text_atomically(folder / COMPLETE, json.dumps(complete))
