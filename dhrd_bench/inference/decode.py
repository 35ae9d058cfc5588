"""Batched decoding with a KV cache on the backbone itself (the ``transformers`` engine)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

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
    """When a row is done: at the end of text, or `after` tokens behind `marker`.

    `watch` are tokens whose log-probability is noted right behind the marker.
    """

    marker: tuple[int, ...]
    after: int
    watch: tuple[int, ...] = ()


@torch.inference_mode()
def decode(
    backbone: Backbone,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    stop: Stop,
    seed: int,
    finished: Callable[[int, int], None] = lambda rows, tokens: None,
) -> list[Continuation]:
    """Continue each prompt.

    Prompts are taken in order of length, so that little is padded (on the left); a row that is done
    leaves the batch at once and the rest go on without it.

    Parameters
    ----------
    prompts
        Token ids.
    decoding
        Limits and sampling; temperature 0 is greedy.
    stop
        When a row is done.
    seed
        Of the sampling.
    finished
        Called after each batch with its rows and tokens.

    Returns
    -------
    list of Continuation
        In the order of `prompts`.
    """
    results = [Continuation() for _ in prompts]
    generator = torch.Generator(device=backbone.device).manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    with plain_attention(backbone):
        for start in range(0, len(order), decoding.batch_size):
            batch = order[start : start + decoding.batch_size]
            _decode_batch(backbone, prompts, batch, results, decoding, stop, generator)
            finished(len(batch), sum(results[i].steps for i in batch))
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
    batch: list[int],
    results: list[Continuation],
    decoding: Decoding,
    stop: Stop,
    generator: torch.Generator,
) -> None:
    device, model = backbone.device, backbone.model
    longest = max(len(prompts[i]) for i in batch)
    pads = [longest - len(prompts[i]) for i in batch]
    ids = torch.tensor(
        [[backbone.pad_id] * pad + prompts[i] for i, pad in zip(batch, pads, strict=True)], device=device
    )
    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    rows = list(batch)
    for step in range(decoding.max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        tokens = _choose(logits, decoding, generator)
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
    length = len(stop.marker)
    if result.marker_end is None and length and tuple(result.ids[-length:]) == stop.marker:
        result.marker_end = len(result.ids)
        result.after_marker = torch.log_softmax(logits.float(), dim=-1)[list(stop.watch)].tolist()
    if token == eos:
        return False
    result.ids.append(token)
    return result.marker_end is None or len(result.ids) - result.marker_end < stop.after


def _choose(logits: Tensor, decoding: Decoding, generator: torch.Generator) -> Tensor:
    if decoding.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / decoding.temperature, dim=-1)
    if decoding.top_p < 1:
        ordered, places = probabilities.sort(dim=-1, descending=True)
        # A token stays if the mass before it is below top_p: the first one always does.
        ordered[ordered.cumsum(-1) - ordered >= decoding.top_p] = 0.0
        probabilities = torch.zeros_like(probabilities).scatter_(-1, places, ordered)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
