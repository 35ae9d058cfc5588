"""Backbones by name, folder and hub id; their original state."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import Mock

import pytest
import torch

from dhrd_bench.backbones import Backbone, backbone_of, load, resolve
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.backbones.device import fast_bfloat16
from dhrd_bench.backbones.fingerprint import folder_fingerprint
from dhrd_bench.backbones.loading import settle
from dhrd_bench.backbones.location import how_to_get, locate
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.contracts import Context
from dhrd_bench.errors import UserError
from dhrd_bench.inference.decode import decode
from dhrd_bench.inference.engine import Stop


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub cache of our own, and no hub."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def saved(tiny: Backbone, folder: Path) -> Path:
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


def test_names_settings_and_suggestions() -> None:
    assert resolve("smollm2-135m").gguf is not None
    assert resolve("tiny[dtype=bfloat16]").dtype == "bfloat16"
    assert resolve("owner/model").hub_id == "owner/model"
    with pytest.raises(UserError, match="Did you mean 'smollm2-135m'"):
        resolve("smollm2-135")
    with pytest.raises(UserError, match="no setting 'dtyp'"):
        resolve("tiny[dtyp=float32]")
    with pytest.raises(UserError, match=r"dtype"):
        resolve("tiny[dtype=int4]")


def test_the_paper_s_backbones_are_there() -> None:
    for name in ("llama-3.1-8b", "llama-3.2-3b", "qwen3-8b", "qwen3-4b", "qwen3-0.6b"):
        assert resolve(name).hub_id.count("/") == 1
        assert "hf download" in how_to_get(resolve(name))


def test_auto_is_settled_by_the_hardware() -> None:
    card = settle(resolve("smollm2-135m"))
    assert card.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert card.dtype == ("bfloat16" if fast_bfloat16(card.device) else "float32")
    assert settle(resolve("smollm2-135m[dtype=float32]")).dtype == "float32"


def test_a_missing_backbone_says_how_to_get_it(offline: Path) -> None:
    with pytest.raises(UserError, match=r"hf download Qwen/Qwen3-0.6B"):
        load(resolve("qwen3-0.6b[device=cpu]"))


def test_a_local_folder(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    folder = saved(tiny, tmp_path / "mine")
    ids = torch.arange(2, 30)
    expected = tiny.hidden(ids, [28])
    card = resolve(f"{folder}[dtype=float32,device=cpu]")
    assert card.name == "mine"
    revision = locate(card).revision
    assert revision.startswith("local-")
    own = load(card)
    torch.testing.assert_close(own.hidden(ids, [28]), expected.cpu(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        tiny.model.model.norm.weight.mul_(2)
        saved(tiny, folder)
        tiny.model.model.norm.weight.div_(2)
    assert locate(card).revision != revision, "other weights are another backbone"
    with pytest.raises(UserError, match=r"config\.json"):
        resolve(str(tmp_path))


class Counted:
    """A saved model that was written a while ago, and the files that are hashed from now on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashed: list[str] = []
        for path in folder.iterdir():
            os.utime(path, (1e9, 1e9))

    def fingerprint(self) -> str:
        self.hashed.clear()
        return folder_fingerprint(self.folder)

    def change(self, name: str, edit: Callable[[bytearray], None]) -> None:
        content = bytearray((self.folder / name).read_bytes())
        edit(content)
        (self.folder / name).write_bytes(content)


@pytest.fixture
def model(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path / "cache"))
    counted = Counted(saved(tiny, tmp_path / "model"))
    digest = hashlib.file_digest

    def counting(stream: BinaryIO, algorithm: str) -> Any:
        counted.hashed.append(Path(stream.name).name)
        return digest(stream, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return counted


def flip_middle(content: bytearray) -> None:
    content[len(content) // 2] ^= 1


def test_every_byte_of_the_weights_counts(model: Counted) -> None:
    before = model.fingerprint()
    assert before.startswith("local-")
    model.change("model.safetensors", flip_middle)
    assert model.fingerprint() != before
    assert model.hashed == ["model.safetensors"]
    model.change("model.safetensors", flip_middle)
    assert model.fingerprint() == before


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"])
def test_tokenizer_and_configuration_count(model: Counted, name: str) -> None:
    before = model.fingerprint()
    model.change(name, lambda content: content.extend(b" "))
    assert model.fingerprint() != before


def test_a_file_more_of_the_tokenizer_counts_and_a_readme_does_not(model: Counted) -> None:
    before = model.fingerprint()
    (model.folder / "README.md").write_text("Mine.")
    assert model.fingerprint() == before
    (model.folder / "chat_template.jinja").write_text("{{ messages }}")
    assert model.fingerprint() != before


def test_an_unchanged_model_is_hashed_once(model: Counted) -> None:
    before = model.fingerprint()
    assert "model.safetensors" in model.hashed
    assert model.fingerprint() == before
    assert model.hashed == []
    os.utime(model.folder / "model.safetensors", (1e9 + 5, 1e9 + 5))
    assert model.fingerprint() == before, "touched, and the same bytes"
    assert model.hashed == ["model.safetensors"]


def test_a_file_written_just_now_is_hashed_again(model: Counted) -> None:
    """Its time would not tell it from one that is written within the same clock tick."""
    (model.folder / "model.safetensors").touch()
    model.fingerprint()
    model.fingerprint()
    assert model.hashed == ["model.safetensors"]


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"PATH": 1}', '{"PATH": {"size": 1}}', b"\xff\xfe"])
def test_a_corrupt_digest_cache_is_passed_over(model: Counted, content: str | bytes) -> None:
    before = model.fingerprint()
    (store,) = (cache_folder() / "fingerprints").iterdir()
    weights = str(model.folder / "model.safetensors")
    store.write_bytes(content if isinstance(content, bytes) else content.replace("PATH", weights).encode())
    assert model.fingerprint() == before
    assert "model.safetensors" in model.hashed
    model.fingerprint()
    assert model.hashed == []


def test_a_digest_cache_that_cannot_be_written_fails_nothing(model: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.fingerprint()
    monkeypatch.setenv("DHRD_CACHE", str(model.folder / "config.json"))  # a file where a folder must be
    assert model.fingerprint() == before


def test_a_model_of_the_hub_s_cache(tiny: Backbone, offline: Path) -> None:
    """The hub's cache layout with a stand-in model: revision and weights come from there."""
    repository = offline / "models--someone--small"
    commit = "0123456789abcdef0123456789abcdef01234567"
    saved(tiny, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = locate(resolve("someone/small"))
    assert (found.kind, found.revision) == ("hub cache", commit)


def test_the_harness_takes_its_own_backbone_only(context: Context) -> None:
    assert backbone_of(context) is context.backbone
    with pytest.raises(TypeError, match="this is a Mock"):
        backbone_of(replace(context, backbone=Mock()))


def test_padding_is_not_the_end_of_text(tiny: Backbone) -> None:
    assert tiny.pad_id != tiny.eos_id
    tiny.tokenizer.pad_token = tiny.tokenizer.eos_token
    try:
        assert Backbone(tiny.card, tiny.model, tiny.tokenizer, "").pad_id != tiny.eos_id
    finally:
        tiny.tokenizer.pad_token = "<pad>"


def test_weights_are_swapped_and_restored(tiny: Backbone) -> None:
    tiny.reset()
    name = "model.layers.1.mlp.up_proj.weight"
    original = dict(tiny.model.named_parameters())[name].clone()
    first, second = object(), object()
    for owner, value in ((first, 1.0), (second, 2.0)):
        tiny.load_weights({name: torch.full_like(original, value)}, owner)
        assert dict(tiny.model.named_parameters())[name].eq(value).all()
    tiny.load_weights({}, first)
    assert torch.equal(dict(tiny.model.named_parameters())[name], original)
    tiny.reset()


def test_slots_are_reused_and_rows_do_not_mix(tiny: Backbone) -> None:
    """More prompts than slots, of many lengths: each is continued as if it were alone."""
    from dhrd_bench.contracts import Decoding

    generator = torch.Generator().manual_seed(0)
    lengths = [3, 40, 17, 5, 5, 29, 8, 11, 60, 2]
    prompts = [torch.randint(2, 258, (n,), generator=generator).tolist() for n in lengths]
    few = Decoding(max_new_tokens=9, batch_size=3)
    together = decode(tiny, prompts, few, Stop((), 0), [0] * len(prompts))
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = decode(tiny, [prompt], few, Stop((), 0), [0])
        assert found.ids == alone.ids


def test_slots_refuse_more_than_they_hold() -> None:
    slots = Slots(2, 8, 1, torch.device("cpu"))
    slots.open([3, 4], 1)
    with pytest.raises(AssertionError):
        slots.open([2], 1)


@pytest.mark.slow
def test_smollm2_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted once from the GGUF; tokens, padding and next tokens are sane."""
    monkeypatch.setenv("DHRD_CACHE", str(tmp_path))
    backbone = load(resolve("smollm2-135m[dtype=float32,device=cpu]"))
    assert (tmp_path / "backbones" / backbone.revision / "model.safetensors").exists()
    assert sum(p.numel() for p in backbone.model.parameters()) == 134_515_008
    assert backbone.pad_id != backbone.eos_id
    ids = backbone.encode("The capital of France is")
    logits = backbone.hidden(torch.tensor(ids), [len(ids)])[-1] @ backbone.head_weight.T
    assert backbone.decode([int(logits.argmax())]).strip() == "Paris"
