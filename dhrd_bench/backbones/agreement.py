"""Whether a backbone is computed here as transformers computes it: looked at once, when it is first loaded.

Architectures are not known by name. What this project does otherwise than the library (packed sequences, some of the
blocks, alternatives, slots, its own attention) is run on a few random tokens and compared with the library's forward
pass with its plainest attention, on the same weights in place. What differs is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from dhrd_bench.backbones.backbone import Backbone, unfit
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.backbones.fused import fuse, split
from dhrd_bench.backbones.packed import PACKED
from dhrd_bench.errors import UserError
from dhrd_bench.results.store import write_text_atomically

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1.5e-1}
"""Largest difference of log-probabilities, relative to their spread over the vocabulary: some times what rounding makes
of it in a model of thirty blocks."""

STEM, ENDS, MORE = 6, (5, 3), 9
"""Tokens of what is looked at: two sequences that begin alike and end differently, and one of other tokens."""

STEPS = 2
"""Tokens by which each is continued from the slots."""

WINDOW = 4
"""Tokens of an attention window while it is looked at: its own would take thousands of tokens to leave."""

_WINDOWS = ("sliding_window", "attention_chunk_size")


def check_agreement(backbone: Backbone) -> None:
    """Compare the backbone's log-probabilities with those of transformers, unless they were found to agree before.

    That holds for these weights, this code and these versions of torch and transformers, and is kept below the cache
    folder. A cache that cannot be written costs time and nothing else.

    Raises
    ------
    UserError
        If they differ by more than `TOLERANCE`, or the model cannot be run in this way.
    """
    facts = _facts(backbone)
    store = cache_folder() / "agreement" / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.json"
    stamp = json.dumps(facts, indent=1)
    with suppress(OSError, ValueError):
        if store.read_text(encoding="utf-8") == stamp:
            return
    if difference := find_encoder_difference(backbone) if backbone.is_encoder else find_difference(backbone):
        raise unfit(backbone.card, backbone.model, difference)
    with suppress(UserError):
        write_text_atomically(store, stamp)


def find_difference(backbone: Backbone) -> str:
    """Return what is computed here otherwise than by transformers, in words; an empty text if nothing is."""
    sequences = _sequences(backbone)
    difference = _compare(backbone, sequences, "")
    if difference:
        return difference
    with _narrow_windows(backbone.model) as windows:
        return _compare(backbone, sequences, " beyond the attention window") if windows else ""


def _sequences(backbone: Backbone) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    vocabulary = backbone.model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(vocabulary, (STEM + sum(ENDS) + MORE,), generator=generator)
    stem, *ends, more = torch.split(tokens, [STEM, *ENDS, MORE])
    return [each.to(backbone.device) for each in (*(torch.cat([stem, end]) for end in ends), more)]


@torch.no_grad()
def find_encoder_difference(backbone: Backbone) -> str:
    """Return what an encoder computes here otherwise than on each sequence by itself, in words.

    The first block is looked at alone, too, behind which some architectures do more than behind the others.
    """
    sequences = _sequences(backbone)
    ids, lengths = torch.cat(sequences), [len(each) for each in sequences]
    attention, model = backbone.model.config._attn_implementation, backbone.model
    try:
        model.set_attn_implementation("eager")
        expected = torch.cat([model(input_ids=each[None]).last_hidden_state[0] for each in sequences])
        model.set_attn_implementation(attention)
        for block in sorted({0, 1, _middle(backbone)} - {backbone.depth}):
            lower = backbone.hidden(ids, lengths, 0, block) if block else ids
            apart = _spread(backbone.hidden(lower, lengths, block), expected)
            if not apart <= TOLERANCE[backbone.dtype]:
                where = f" when it is run in two parts, from block {block} on," if block else ""
                return f"its states{where} are not those of transformers (they differ by {apart:.1%} of their spread)"
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return f"it cannot be run on padded sequences ({type(error).__name__}: {_first_line(error)})"
    return ""


@torch.no_grad()
def _compare(backbone: Backbone, sequences: list[Tensor], where: str) -> str:
    expected = _native(backbone.model, sequences)
    rounding = TOLERANCE[backbone.dtype]
    for words, way, tolerance in (
        ("", _whole, rounding),
        (f" when it is run in two parts, from block {_middle(backbone)} on", _split, TOLERANCE[torch.float32]),
        (" of alternative ends", _branched, rounding),
        (" of text continued token by token", _continued, rounding),
    ):
        try:
            pairs = way(backbone, sequences, expected)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            return f"it cannot be run on packed sequences ({type(error).__name__}: {_first_line(error)})"
        worst = max((_distance(found, right) for found, right in pairs), default=0.0)
        if not worst <= tolerance:  # NaN counts as a difference
            return (
                f"its log-probabilities{words}{where} are not those of transformers (they differ by {worst:.1%} of "
                f"their spread, and {tolerance:.1%} may be rounding in {backbone.card.dtype})"
            )
    return ""


Pairs = list[tuple[Tensor, Tensor]]
"""Logits ``(n, V)`` computed here, and those of transformers for the same tokens."""


def _native(model: Any, sequences: list[Tensor]) -> list[Tensor]:
    """Return the logits that transformers computes for each sequence by itself."""
    fused = any(hasattr(type(module), "plain") for module in model.modules())
    model.set_attn_implementation("eager")
    split(model)
    try:
        return [model(input_ids=ids[None], use_cache=False).logits[0] for ids in sequences]
    finally:
        model.set_attn_implementation(PACKED)
        if fused:
            fuse(model)


def _whole(backbone: Backbone, sequences: list[Tensor], expected: list[Tensor]) -> Pairs:
    hidden = backbone.hidden(torch.cat(sequences), [len(ids) for ids in sequences])
    return _by_sequence(backbone.logits(hidden), expected)


def _middle(backbone: Backbone) -> int:
    return max(1, backbone.depth // 2)


def _split(backbone: Backbone, sequences: list[Tensor], expected: list[Tensor]) -> Pairs:
    """Compare two parts with the whole, which has been compared: nothing is rounded otherwise, in any dtype."""
    ids, lengths, middle = torch.cat(sequences), [len(each) for each in sequences], _middle(backbone)
    if middle == backbone.depth:
        return []
    upper = backbone.hidden(backbone.hidden(ids, lengths, 0, middle), lengths, middle)
    return [(backbone.logits(upper), backbone.logits(backbone.hidden(ids, lengths)))]


def _branched(backbone: Backbone, sequences: list[Tensor], expected: list[Tensor]) -> Pairs:
    ids = torch.cat([sequences[0][:STEM], *(ids[STEM:] for ids in sequences[:-1])])
    found = backbone.logits(backbone.hidden(ids, [len(ids)], branches=ENDS))
    return _by_sequence(found, [expected[0][:STEM], *(logits[STEM:] for logits in expected[:-1])])


def _continued(backbone: Backbone, sequences: list[Tensor], expected: list[Tensor]) -> Pairs:
    lengths = [len(ids) - STEPS for ids in sequences]
    slots = backbone.slots(len(sequences), max(lengths) + STEPS)
    slots.open(lengths, 1)
    backbone.hidden(torch.cat([ids[:-STEPS] for ids in sequences]), lengths, slots=slots)
    found = []
    for step in range(-STEPS, 0):
        tokens = torch.stack([ids[step] for ids in sequences])
        found.append(backbone.logits(backbone.step(tokens, slots, max(slots.held) + 1)))
        slots.end_step()
    return list(zip(torch.stack(found, dim=1), (logits[-STEPS:] for logits in expected), strict=True))


def _by_sequence(found: Tensor, expected: list[Tensor]) -> Pairs:
    return list(zip(torch.split(found, [len(logits) for logits in expected]), expected, strict=True))


def _distance(found: Tensor, right: Tensor) -> float:
    """Return how far log-probabilities are apart, as a share of their spread over the vocabulary."""
    ours, theirs = (torch.log_softmax(logits.float(), dim=-1) for logits in (found, right))
    return _spread(ours, theirs)


def _spread(found: Tensor, right: Tensor) -> float:
    """Return how far two tensors are apart, as a share of the second one's spread over its last dimension."""
    found, right = found.float(), right.float()
    return float((found - right).norm() / (right - right.mean(-1, keepdim=True)).norm())


@contextmanager
def _narrow_windows(model: Any) -> Iterator[bool]:
    """Narrow every attention window for a while; say whether there are any."""
    owners: list[Any] = [model.config.get_text_config(), *model.modules()]
    found = [(owner, name, getattr(owner, name, None)) for owner in owners for name in _WINDOWS]
    windows = [(owner, name, size) for owner, name, size in found if isinstance(size, int)]
    try:
        for owner, name, size in windows:
            setattr(owner, name, min(size, WINDOW))
        yield bool(windows)
    finally:
        for owner, name, size in windows:
            setattr(owner, name, size)


def _facts(backbone: Backbone) -> dict[str, str]:
    """Return all that the verdict depends on."""
    return {
        "architecture": type(backbone.model).__name__,
        "revision": backbone.revision,
        "dtype": backbone.card.dtype,
        "quantized": str(backbone.quantized),
        "device": backbone.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "code": _code(),
    }


def _code() -> str:
    """Return a digest of this package's source."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return code.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
