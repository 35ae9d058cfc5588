"""Batched decoding with a KV cache on the backbone itself (the ``transformers`` engine)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.packed import PACKED
from dhrd_bench.contracts import Decoding


@dataclass(slots=True)
class Continuation:
    """What was generated after one prompt.

    Attributes
    ----------
    ids
        Generated tokens, the end of text left out.
    steps
        Tokens generated, the end of text included.
    marker_end
        Where the marker ends in `ids`, once it has been generated.
    after_marker
        Log-probabilities of the watched tokens right behind it.
    """

    ids: list[int] = field(default_factory=list)
    steps: int = 0
    marker_end: int | None = None
    after_marker: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """When a row is done: at the end of text, or `after` tokens behind the first of `markers`.

    An empty marker stands where generation begins; without markers only the end of text stops a row.
    `watch` are tokens whose log-probability is noted right behind the marker.
    """

    markers: tuple[tuple[int, ...], ...]
    after: int
    watch: tuple[int, ...] = ()


@torch.inference_mode()
def decode(
    backbone: Backbone,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    stop: Stop,
    seeds: Sequence[int],
    samples: int = 1,
    finished: Callable[[int, int], None] = lambda prompts, tokens: None,
) -> list[Continuation]:
    """Continue each prompt, `samples` times.

    Prompts are taken in order of length, so that little is padded (on the left); a row that is done
    leaves the batch at once and the rest go on without it. The samples of a prompt share its cache.
    What is sampled for a prompt depends on its seed and not on its neighbours.

    Parameters
    ----------
    prompts
        Token ids.
    decoding
        Limits and sampling; temperature 0 is greedy.
    stop
        When a row is done.
    seeds
        One a prompt, of its sampling.
    samples
        Continuations a prompt.
    finished
        Called after each batch with its prompts and tokens.

    Returns
    -------
    list of Continuation
        In the order of `prompts`; those of a prompt follow each other.
    """
    results = [Continuation() for _ in prompts for _ in range(samples)]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    size = max(1, decoding.batch_size // samples)
    with plain_attention(backbone):
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            rows = [i * samples + sample for i in batch for sample in range(samples)]
            streams = {row: np.random.default_rng([seeds[row // samples], row % samples]) for row in rows}
            _decode_batch(backbone, [prompts[i] for i in batch], rows, results, decoding, stop, streams)
            finished(len(batch), sum(results[row].steps for row in rows))
    return results


@contextmanager
def plain_attention(backbone: Backbone) -> Iterator[None]:
    """Let the model build masks and keep a cache, as generation needs."""
    backbone.model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        backbone.model.set_attn_implementation(PACKED)


def _decode_batch(
    backbone: Backbone,
    prompts: Sequence[list[int]],
    rows: list[int],
    results: list[Continuation],
    decoding: Decoding,
    stop: Stop,
    streams: Mapping[int, np.random.Generator],
) -> None:
    """Continue `prompts` into `rows` of `results`, equally many for each."""
    device, model = backbone.device, backbone.model
    longest = max(len(prompt) for prompt in prompts)
    pads = [longest - len(prompt) for prompt in prompts]
    ids = torch.tensor([[backbone.pad_id] * pad + p for p, pad in zip(prompts, pads, strict=True)], device=device)
    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    for step in range(decoding.max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if step == 0 and (samples := len(rows) // len(prompts)) > 1:
            cache.batch_repeat_interleave(samples)
            logits, mask, positions = (each.repeat_interleave(samples, 0) for each in (logits, mask, positions))
        tokens = _choose(logits, decoding, [streams[row] for row in rows])
        keep: list[int] = []
        for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            if _take(results[row], token, logits[place], stop, backbone.eos_id):
                keep.append(place)
        if not keep or step + 1 == decoding.max_new_tokens:
            return
        ids, positions = tokens[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        if len(keep) < len(rows):
            kept = torch.tensor(keep, device=device)
            cache.batch_select_indices(kept)
            ids, positions, mask = ids[kept], positions[kept], mask[kept]
            rows = [rows[place] for place in keep]


def _take(result: Continuation, token: int, logits: Tensor, stop: Stop, eos: int) -> bool:
    """Add `token`, chosen from `logits`, to `result`; return whether the row goes on."""
    result.steps += 1
    length = len(result.ids)
    if result.marker_end is None and any(
        tuple(result.ids[length - len(m) :]) == m for m in stop.markers if len(m) <= length
    ):
        result.marker_end = length
        result.after_marker = torch.log_softmax(logits.float(), dim=-1)[list(stop.watch)].tolist()
    if token == eos:
        return False
    result.ids.append(token)
    return result.marker_end is None or len(result.ids) - result.marker_end < stop.after


def _choose(logits: Tensor, decoding: Decoding, streams: Sequence[np.random.Generator]) -> Tensor:
    """Return the next token of each row, ``(n,)``."""
    if decoding.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / decoding.temperature, dim=-1)
    places = None
    if decoding.top_p < 1:
        probabilities, places = probabilities.sort(dim=-1, descending=True)
        # A token stays if the mass before it is below top_p: the first one always does.
        probabilities[probabilities.cumsum(-1) - probabilities >= decoding.top_p] = 0.0
    # One uniform number a row, so that no row's tokens depend on who else is in the batch.
    drawn = torch.tensor([[stream.random()] for stream in streams], device=logits.device)
    mass = probabilities.cumsum(-1)
    total = mass[:, -1:]
    chosen = torch.searchsorted(mass, (drawn * total).minimum(total.nextafter(torch.zeros_like(total))), right=True)
    return (chosen if places is None else places.gather(1, chosen))[:, 0]
