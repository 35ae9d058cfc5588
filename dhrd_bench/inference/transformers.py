"""The reference engine: the backbone itself, on packed sequences and the slot cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import transformers
from torch import Tensor

from dhrd_bench.backbones.layout import sent
from dhrd_bench.backbones.sizes import sizes_of
from dhrd_bench.contracts import Decoding
from dhrd_bench.inference.decode import decode
from dhrd_bench.inference.engine import Continuation, Engine, Stop
from dhrd_bench.inference.reading import Reader
from dhrd_bench.modeling.batches import packs
from dhrd_bench.modeling.pooling import Pool, places_read, pooled


class Transformers(Engine):
    """Hugging Face's model with this project's attention. Nothing is padded, and no row depends on another."""

    name = "transformers"

    @property
    def version(self) -> str:
        """Version of the package."""
        return str(transformers.__version__)

    @torch.inference_mode()
    def pooled(self, sequences: Sequence[list[int]], pool: Pool = None) -> Iterator[tuple[list[int], Tensor]]:
        """Pack the sequences by length; see `Engine.pooled`."""
        device = self.backbone.device
        groups = packs([len(ids) for ids in sequences], sizes_of(self.backbone).pack)
        reader = Reader(self.backbone, [[len(sequences[i]) for i in pack] for pack in groups])
        for pack in groups:
            lengths = [len(sequences[i]) for i in pack]
            ids = sent([token for i in pack for token in sequences[i]], device)
            reads = [places_read(pool, self.backbone, length) for length in lengths]
            starts = np.cumsum([0, *lengths[:-1]])
            places = sent(
                np.concatenate([start + np.asarray(each) for start, each in zip(starts, reads, strict=True)]), device
            )
            yield pack, pooled(pool, reader.read(ids, lengths)[places], [len(each) for each in reads])

    @torch.inference_mode()
    def log_likelihoods(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], list[list[float]]]]:
        """Read all answers of a prompt in one pass over it.

        An answer of one token is read off the prompt's last position; the further tokens of longer ones
        follow the prompt as branches that do not see each other.
        """
        branches = tuple(len(answer) - 1 for answer in answers if len(answer) > 1)
        tail = [token for answer in answers for token in answer[:-1]]
        for pack in packs([len(prompt) + len(tail) for prompt in prompts], sizes_of(self.backbone).pack):
            ids = torch.tensor([token for i in pack for token in prompts[i] + tail], device=self.backbone.device)
            lengths = [len(prompts[i]) + len(tail) for i in pack]
            hidden = self.backbone.hidden(ids, lengths, branches=branches)
            ends = [states[-len(tail) - 1 :] for states in torch.split(hidden, lengths)]
            yield pack, _log_likelihoods(self.backbone.logits(torch.stack(ends)), answers)

    def continuations(
        self,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        stop: Stop,
        seeds: Sequence[int],
        samples: int = 1,
        finished: Callable[[int, int], None] = lambda prompts, tokens: None,
    ) -> list[Continuation]:
        """Decode with a KV cache whose slots are refilled as rows finish; see `decode`."""
        return decode(self.backbone, prompts, decoding, stop, seeds, samples, finished)


def _log_likelihoods(logits: Tensor, answers: Sequence[list[int]]) -> list[list[float]]:
    """Return the log-probability of each answer, ``(n, K)``.

    Parameters
    ----------
    logits
        ``(n, 1 + B, V)`` of each input's last token and those of its branches, one after the other.
    answers
        Tokens of each answer; each but its last has its place in its branch.
    """
    positions, tokens, owners = [], [], []
    start = 1
    for number, answer in enumerate(answers):
        positions += [0, *range(start, start + len(answer) - 1)]
        tokens += answer
        owners += [number] * len(answer)
        start += len(answer) - 1
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)[:, positions, tokens]
    totals = log_probabilities.new_zeros(len(logits), len(answers))
    table: list[list[float]] = totals.index_add_(
        1, torch.tensor(owners, device=logits.device), log_probabilities
    ).tolist()
    return table
