"""Batched decoding with a KV cache on the backbone itself (the ``transformers`` engine)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.sizes import sizes_of
from dhrd_bench.contracts import Decoding
from dhrd_bench.inference.engine import Continuation, Stop
from dhrd_bench.modeling.batches import packs

REFILL = 8
"""New prompts are read when this part of the rows is free: one by one they would be read slowly."""

REPORT = 8
"""Finished prompts between two reports; each report is a lap of the harness's clock."""

FEWEST, STRETCH = 16, 1024
"""Of recorded steps: the fewest rows, and by what the places that attention looks at grow."""


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

    At most ``decoding.batch_size`` rows are under way, or as many as the device holds with ease where that is more.
    A row that is done leaves at once, and as soon as some have left, the next prompts are read into their slots;
    nothing is padded. The samples of a prompt are read once. Parameters and result are those of
    `Engine.continuations`.
    """
    return _Decoder(backbone, prompts, decoding, stop, seeds, samples, finished).run()


class _Decoder:
    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        stop: Stop,
        seeds: Sequence[int],
        samples: int,
        finished: Callable[[int, int], None],
    ) -> None:
        self.backbone, self.decoding, self.stop, self.samples = backbone, decoding, stop, samples
        self.prompts, self.seeds, self.finished = prompts, seeds, finished
        self.results = [Continuation() for _ in prompts for _ in range(samples)]
        # Longest first: the short ones fill the gaps towards the end.
        self.queue = deque(sorted(range(len(prompts)), key=lambda i: -len(prompts[i])))
        capacity = max((len(prompt) for prompt in prompts), default=0) + decoding.max_new_tokens
        self.sizes = sizes_of(backbone)
        self.width = max(samples, min(self.sizes.slots(decoding.batch_size, capacity), samples * len(prompts)))
        self.slots = backbone.slots(self.width, capacity)
        self.graphs = backbone.graphs()
        self.tokens = torch.zeros(self.width, dtype=torch.long, device=backbone.device)
        self.rows: list[int] = []  # result number of each active slot
        self.streams: dict[int, np.random.Generator] = {}
        self.open_samples = dict.fromkeys(range(len(prompts)), samples)
        self.unreported: list[int] = []

    def run(self) -> list[Continuation]:
        logits: Tensor | None = None
        while self.queue or self.rows:
            room = (self.width - len(self.rows)) // self.samples
            if self.queue and (not self.rows or room >= min(len(self.queue), max(1, self.width // REFILL))):
                read = self._read([self.queue.popleft() for _ in range(min(room, len(self.queue)))])
                logits = read if logits is None else torch.cat([logits, read])
            assert logits is not None
            tokens = self._advance(logits)
            logits = None
            if self.rows:
                logits = self._step(tokens)
        self._report(0)
        return self.results

    def _read(self, chosen: list[int]) -> Tensor:
        """Read prompts into free slots; return the logits after each, ``(n * samples, V)``."""
        lasts = []
        for pack in packs([len(self.prompts[i]) for i in chosen], self.sizes.pack):
            members = [chosen[place] for place in pack]
            lengths = [len(self.prompts[i]) for i in members]
            self.slots.open(lengths, self.samples)
            ids = torch.tensor([token for i in members for token in self.prompts[i]], device=self.backbone.device)
            hidden = self.backbone.hidden(ids, lengths, slots=self.slots)
            ends = torch.tensor(lengths, device=self.backbone.device).cumsum(0) - 1
            lasts.append(hidden[ends].repeat_interleave(self.samples, 0))
            for i in members:
                for sample in range(self.samples):
                    row = i * self.samples + sample
                    self.rows.append(row)
                    self.streams[row] = np.random.default_rng([self.seeds[i], sample])
        return self.backbone.logits(torch.cat(lasts))

    def _step(self, tokens: Tensor) -> Tensor:
        """Return the logits after one more token of each active row, ``(active, V)``; they hold until the next step."""
        active, width = self.slots.active, max(self.slots.held) + 1
        rows = active
        if self.graphs.on:
            # Few shapes: some rows and places that count for nothing cost less than another recording.
            rows = min(self.width, max(FEWEST, 1 << (active - 1).bit_length()))
            width = min(self.slots.capacity, -(-width // STRETCH) * STRETCH)
        self.tokens[:active] = tokens
        logits = self.graphs.run((rows, width), lambda: self._compute(rows, width))
        self.slots.end_step()
        return logits[:active]

    def _compute(self, rows: int, width: int) -> Tensor:
        return self.backbone.logits(self.backbone.step(self.tokens[:rows], self.slots, width))

    def _advance(self, logits: Tensor) -> Tensor:
        """Choose a token for each active row, let go of the rows that are done; return the others' tokens."""
        tokens = _choose(logits, self.decoding, [self.streams[row] for row in self.rows])
        chosen = tokens.tolist()
        places = list(range(len(self.rows)))
        for slot in reversed(range(len(self.rows))):
            result = self.results[self.rows[slot]]
            goes_on = _take(result, chosen[slot], logits[slot], self.stop, self.backbone.eos_id)
            if goes_on and result.steps < self.decoding.max_new_tokens:
                continue
            self._done(self.rows[slot])
            self.slots.close(slot)
            for column in (self.rows, places):
                column[slot] = column[-1]
                column.pop()
        return tokens if len(places) == len(chosen) else tokens[places]

    def _done(self, row: int) -> None:
        prompt = row // self.samples
        self.open_samples[prompt] -= 1
        if self.open_samples[prompt] == 0:
            self.unreported.append(prompt)
            self._report(REPORT - 1)

    def _report(self, more_than: int) -> None:
        if len(self.unreported) > more_than:
            rows = [i * self.samples + sample for i in self.unreported for sample in range(self.samples)]
            self.finished(len(self.unreported), sum(self.results[row].steps for row in rows))
            self.unreported.clear()


def _take(result: Continuation, token: int, logits: Tensor, stop: Stop, eos: int) -> bool:
    """Add `token`, chosen from `logits`, to `result`; return whether the row goes on."""
    result.steps += 1
    length = len(result.ids)
    if result.marker_end is None and stop.found(result.ids):
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
