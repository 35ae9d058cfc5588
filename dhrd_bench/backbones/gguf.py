"""Backbones without the hub: a GGUF file inside a Python package, converted once to safetensors."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path

from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.contracts import Gguf
from dhrd_bench.errors import UserError


def gguf_file(gguf: Gguf) -> Path | None:
    """Return the path of the file in its package, or None if the package is not installed."""
    # The package is found, not imported: it is another program's plug-in and its imports are not ours.
    spec = importlib.util.find_spec(gguf.module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / gguf.file
    return path if path.is_file() else None


def gguf_revision(source: Path) -> str:
    """Return name and size of the file.

    Unlike a local folder's, its bytes are not hashed: a released package does not change under its user, and the
    identities of the records that exist hold this text.
    """
    return f"{source.stem}-{source.stat().st_size}"


def converted(source: Path) -> Path:
    """Return the folder with the GGUF's weights as safetensors, converting them the first time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = cache_folder() / "backbones" / gguf_revision(source)
    if (folder / "complete.json").is_file():
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write the backbone cache {folder}: {error.strerror}.", "Set DHRD_CACHE.") from error
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
    (folder / "complete.json").write_text(json.dumps({"source": source.name, "bytes": source.stat().st_size}))
    return folder
