"""Logs in the forms of other harnesses, as `tests/foreign/` has real ones of."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

DATE = "2026-08-01T10-00-00.000000"
Row = Mapping[str, Any]


def lm_eval_sample(number: int, doc: Row, gold: int, likelihoods: Sequence[float], **changes: Any) -> dict[str, Any]:
    """One line of a multiple-choice task with the choices False and True."""
    chosen = max(range(len(likelihoods)), key=likelihoods.__getitem__)
    return {
        "doc_id": number,
        "doc": dict(doc),
        "target": str(gold),
        "arguments": {
            f"gen_args_{k}": {"arg_0": f"{json.dumps(doc)}\nAnswer:", "arg_1": f" {choice}"}
            for k, choice in enumerate(("False", "True", "Neither")[: len(likelihoods)])
        },
        "resps": [[[str(value), "False"]] for value in likelihoods],
        "filtered_resps": [[str(value), "False"] for value in likelihoods],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": hashlib.sha256(json.dumps(doc).encode()).hexdigest(),
        "prompt_hash": "p",
        "target_hash": "t",
        "acc": float(chosen == gold),
    } | changes


def free_sample(number: int, doc: Row, said: str, right: bool, **changes: Any) -> dict[str, Any]:
    """One line of a task whose answers are written."""
    return lm_eval_sample(number, doc, 0, [0.0]) | {
        "target": "a text", "arguments": {"gen_args_0": {"arg_0": "Why?", "arg_1": {"until": ["\n"]}}},
        "resps": [[said]], "filtered_resps": [said], "metrics": ["exact_match"], "exact_match": float(right),
    } | changes  # fmt: skip


def write_lm_eval(folder: Path, task: str, samples: Sequence[Row], model: str = "org/large", date: str = DATE) -> Path:
    """Write a file of samples and the results beside it, as ``--output_path`` and ``--log_samples`` do."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{date}.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    about = {"results": {}, "config": {"model": "hf"}, "model_name": model, "lm_eval_version": "0.4.13"}
    (folder / f"results_{date}.json").write_text(json.dumps(about))
    return path


def inspect_sample(
    name: int | str, asked: str, gold: str, answer: str, epoch: int = 1, **changes: Any
) -> dict[str, Any]:
    """One sample of a multiple-choice task of Inspect."""
    return {
        "id": name, "epoch": epoch, "input": asked, "choices": ["No", "Yes"], "target": gold,
        "scores": {"choice": {"value": "C" if gold == answer else "I", "answer": answer}}, "metadata": {},
        "messages": [], "attachments": {},
    } | changes  # fmt: skip


HEADER = {
    "version": 2, "status": "success",
    "eval": {"task": "inspect_evals/mine", "model": "openai/large", "packages": {"inspect_ai": "0.3.200"}},
}  # fmt: skip


def write_inspect(path: Path, samples: Sequence[Row], header: Row = HEADER) -> Path:
    """Write a log: as JSON, or as an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps({**header, "samples": list(samples)}))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(header))
        for sample in samples:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return path


def with_zstandard(path: Path) -> Path:
    """Write the archive at `path` anew with the compression that Inspect uses by now, which `zipfile` lacks."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    out, directory = io.BytesIO(), io.BytesIO()
    for name, content in contents.items():
        packed = pa.compress(content, codec="zstd", asbytes=True)
        encoded, crc = name.encode(), zlib.crc32(content)
        sizes = (crc, len(packed), len(content))
        at = out.tell()
        out.write(struct.pack("<4s5H3I2H", b"PK\x03\x04", 63, 0, 93, 0, 33, *sizes, len(encoded), 0) + encoded + packed)
        directory.write(
            struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 63, 63, 0, 93, 0, 33, *sizes, len(encoded), 0, 0, 0, 0, 0, at)
            + encoded
        )
    start, size = out.tell(), len(directory.getvalue())
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, len(contents), len(contents), size, start, 0)
    path.write_bytes(out.getvalue() + directory.getvalue() + end)
    return path
