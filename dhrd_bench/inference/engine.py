"""What inference asks of a backbone that carries fitted weights, whatever runs it.

`classify`, `score_labels` and `generate` ask the engine and nothing else, so every method of a
comparison, a contributor's too, runs on the engine that the backbone's card names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Decoding
from dhrd_bench.modeling.pooling import Pool


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

    def found(self, ids: Sequence[int]) -> bool:
        """Whether `ids` end in one of the markers."""
        return any(tuple(ids[len(ids) - len(m) :]) == m for m in self.markers if len(m) <= len(ids))


class Engine(ABC):
    """Runs the backbone with the weights that are in place (`Backbone.load_weights`).

    Attributes
    ----------
    name
        What the card calls it.
    batching
        How it forms batches, in words for the record; None where the harness forms them.
    """

    name: ClassVar[str]
    batching: ClassVar[str | None] = None

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the software that runs the backbone."""

    @property
    def label(self) -> str:
        """Name and version, as a record has them."""
        return f"{self.name} {self.version}".strip()

    @abstractmethod
    def pooled(self, sequences: Sequence[list[int]], pool: Pool = None) -> Iterator[tuple[list[int], Tensor]]:
        """Yield what `pool` makes of the states of each sequence, after the final norm.

        Yields
        ------
        places, states
            Places in `sequences` and their states ``(m, d)``, as they are finished.

        Raises
        ------
        UserError
            If the engine cannot pool so.
        """

    @abstractmethod
    def log_likelihoods(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], list[list[float]]]]:
        """Yield the log-probability of each of `answers`, in nats over all its tokens, after each prompt.

        Yields
        ------
        places, table
            Places in `prompts` and ``(m, K)`` log-probabilities, as they are finished.
        """

    @abstractmethod
    def continuations(
        self,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        stop: Stop,
        seeds: Sequence[int],
        samples: int = 1,
        finished: Callable[[int, int], None] = lambda prompts, tokens: None,
    ) -> list[Continuation]:
        """Continue each prompt, `samples` times.

        Parameters
        ----------
        prompts
            Token ids.
        decoding
            Limits and sampling; temperature 0 is greedy.
        stop
            When a row is done.
        seeds
            One a prompt, of its sampling; what is sampled does not depend on a prompt's neighbours.
        samples
            Continuations a prompt.
        finished
            Called now and then with the prompts and tokens that were finished since.

        Returns
        -------
        list of Continuation
            In the order of `prompts`; those of a prompt follow each other.
        """

    def release(self) -> None:  # noqa: B027 - an engine that runs the backbone itself holds nothing
        """Let go of copies of the weights; the backbone calls it before they change."""
