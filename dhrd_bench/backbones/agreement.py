"""Whether a backbone is computed here as transformers computes it: looked at once, when it is first loaded.

An architecture is not known by name. What this project does otherwise than the library (packed sequences, some of the
blocks, branches, slots, its own attention) is run on a few random tokens and compared with the library's own forward
pass with its plainest attention, on the same weights in place. What differs is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from dhrd_bench.backbones.backbone import Backbone, unfit
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.backbones.packed import PACKED
from dhrd_bench.backbones.slots import Slots
from dhrd_bench.errors import UserError
from dhrd_bench.results.store import write_text_atomically

TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1.5e-1}
"""Largest difference of log-probabilities, as a share of their spread over the vocabulary, by dtype.

Two orders of summation differ by about 1e-6, 3e-3 and 3e-2; the faults that were seen, by 0.1 to 2."""

WINDOW = 4
"""Tokens of a sliding window while it is looked at: its own would need thousands of tokens to be left."""

LENGTHS = (11, 7, 7)
"""Tokens of the sequences that are looked at, packed."""

BRANCHES = (2, 3)
"""Of which the first is also read with its last tokens as alternatives."""


def check_agreement(backbone: Backbone) -> None:
    """Compare the backbone's log-probabilities with those of transformers, and keep the verdict.

    The verdict holds for these weights, this code and these versions of torch and transformers. A cache that cannot be
    read or written costs time and nothing else.

    Raises
    ------
    UserError
        If they differ by more than `TOLERANCE`, or the model cannot be run in this way.
    """
    store = cache_folder() / "agreement" / f"{_key(backbone)}.json"
    difference = _read(store)
    if difference is None:
        difference = find_difference(backbone)
        with suppress(UserError):
            write_text_atomically(store, json.dumps({"difference": difference}))
    if difference:
        raise unfit(backbone.card, backbone.model, difference)


def find_difference(backbone: Backbone) -> str:
    """Return what is computed here otherwise than by transformers, in words; an empty text if nothing is."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = backbone.model.get_input_embeddings().weight.shape[0]
    sequences = [torch.randint(vocabulary, (length,), generator=generator) for length in LENGTHS]
    sequences = [sequence.to(backbone.device) for sequence in sequences]
    ways = {
        "": _whole,
        f" when blocks run from {max(1, backbone.depth // 2)} on": _split,
        " in alternatives to its end": _branched,
        " when it is continued token by token": _continued,
    }
    for words, narrow in (("", False), (" beyond its attention window", True)):
        with torch.no_grad(), _narrow_window(backbone.model) as has_window:
            if narrow and not has_window:
                return ""
            ...
    return ""
