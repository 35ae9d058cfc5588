"""A teacher that is a decoder LM on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from dhrd_bench.contracts import Decoding, derive_seed
from dhrd_bench.rationales.prompts import Ask
from dhrd_bench.rationales.teachers.teacher import Failure, Reply, TeacherSettings

if TYPE_CHECKING:
    from dhrd_bench.backbones import Backbone


class LocalTeacher:
    """Generates in batches; the weights are loaded when the first ask is taken."""

    def __init__(self, backbone: str, settings: TeacherSettings) -> None:
        from dhrd_bench.backbones import resolve
        from dhrd_bench.backbones.loading import settle

        self._card = settle(resolve(backbone))
        self._decoding = Decoding(
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=settings.batch_size,
        )
        self.name = f"local:{self._card.name}"
        self.parameters: dict[str, Any] = {
            "max_new_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "dtype": self._card.dtype,
        }
        if settings.temperature:
            self.parameters["top_p"] = settings.top_p
        if self._card.quantize:
            self.parameters["quantize"] = self._card.quantize
        if self._card.engine != "transformers":
            self.parameters["engine"] = self._card.engine
        self.stopped: str | None = None

    def stop(self) -> None:
        """Start no further batch."""
        self.stopped = "interrupted"

    def replies(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """Answer `asks` batch by batch; see `Teacher.replies`."""
        source = enumerate(asks)
        while not self.stopped and (batch := list(islice(source, self._decoding.batch_size))):
            replies = self._batch([ask for _, ask in batch])
            yield from ((position, reply) for (position, _), reply in zip(batch, replies, strict=True))

    def _batch(self, asks: list[Ask]) -> list[Reply]:
        from dhrd_bench.backbones import load
        from dhrd_bench.inference.engine import Stop
        from dhrd_bench.inference.engines import engine_of

        backbone = load(self._card)
        prompts = [_encode(backbone, ask) for ask in asks]
        # A second sample of the same rows must not repeat the first.
        seeds = [derive_seed("teacher", str(ask.sample), ask.user) for ask in asks]
        started = time.perf_counter()
        results = engine_of(backbone).continuations(prompts, self._decoding, Stop((), 0), seeds)
        seconds = (time.perf_counter() - started) / len(asks)
        return [
            Reply(
                text=backbone.decode(result.ids),
                finish="length" if len(result.ids) == result.steps else "stop",  # the end of text is only in `steps`
                tokens_in=len(prompt),
                tokens_out=result.steps,
                seconds=seconds,
                model=backbone.revision,
            )
            for prompt, result in zip(prompts, results, strict=True)
        ]


def _encode(backbone: Backbone, ask: Ask) -> list[int]:
    from dhrd_bench.backbones.tokens import INPUT, chat_around

    if not getattr(backbone.tokenizer, "chat_template", None):
        return backbone.begun(backbone.encode("\n\n".join(part for part in (ask.system, ask.user) if part) + "\n\n"))
    system = [{"role": "system", "content": ask.system}] if ask.system else []
    before, after = chat_around(backbone.tokenizer, [*system, {"role": "user", "content": INPUT}])
    return backbone.begun(backbone.encode(ask.user, before, after))
