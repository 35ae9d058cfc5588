"""What a teacher is, what it is set to, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from dhrd_bench.cards import read_card
from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError
from dhrd_bench.rationales.prompts import Ask
from dhrd_bench.untrusted import read_yaml


@dataclass(frozen=True, slots=True)
class Reply:
    """What a teacher wrote.

    Attributes
    ----------
    finish
        ``stop``; ``length`` if the text was cut off; ``refused`` if the teacher declined.
    seconds
        Wall clock of the request; of its share of the batch for a local teacher.
    cost
        In `currency`; None if no price is known.
    model
        Under which name an endpoint served it, if not the one asked for.
    """

    text: str
    finish: Literal["stop", "length", "refused"]
    tokens_in: int | None
    tokens_out: int | None
    seconds: float
    cost: float | None = None
    currency: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row got no reply; nothing was received for it."""

    reason: str


class Teacher(Protocol):
    """The one thing that a teacher does is to answer.

    Attributes
    ----------
    name
        As on the command line.
    parameters
        The settings that shape the text; they go into every line of a store.
    stopped
        Why it takes no more asks (its budget is spent, it was told to stop), or None.
    """

    name: str
    parameters: dict[str, Any]
    stopped: str | None

    def replies(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """Answer `asks`, taking them one by one, and yield (position, outcome) as each is done.

        Raises
        ------
        UserError
            If asking on is pointless; everything already received has been yielded before.
        """

    def stop(self) -> None:
        """Take no more asks; what is under way is still yielded."""


class Price(Card):
    """Money per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    currency: str = "USD"


class TeacherSettings(Card):
    """A teacher's settings file; the command line overrides it.

    Attributes
    ----------
    base_url
        Of an OpenAI-compatible endpoint; OpenAI's own if None.
    key_env
        Name of the environment variable that holds the key. The key itself is accepted nowhere else.
    request
        Sent with every request, under the endpoint's own names (``temperature``, ``max_tokens``, ...).
    concurrency
        Requests under way at once.
    timeout
        Seconds until a request is given up.
    retries
        How often a request is repeated after 429, 5xx, a time-out or a broken connection.
    backoff
        Seconds before the first repetition, doubled each time; a Retry-After header counts for more.
    max_requests, max_cost
        Budget of one call: requests sent, repetitions included, and money by `prices`.
    prices
        By model name.
    max_new_tokens, temperature, top_p, batch_size
        Of a local teacher; `temperature` 0 is greedy.
    """

    base_url: str | None = None
    key_env: str = Field("OPENAI_API_KEY", pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    request: dict[str, Any] = Field(default_factory=dict)
    concurrency: int = Field(4, ge=1, le=256)
    timeout: float = Field(120.0, gt=0)
    retries: int = Field(5, ge=0)
    backoff: float = Field(0.5, gt=0)
    max_requests: int | None = Field(None, ge=0)
    max_cost: float | None = Field(None, ge=0)
    prices: dict[str, Price] = Field(default_factory=dict)
    max_new_tokens: int = Field(256, gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    batch_size: int = Field(16, gt=0)


def read_settings(path: Path | None, **options: Any) -> TeacherSettings:
    """Read a settings file, if there is one, and lay the options that are not None over it.

    Raises
    ------
    UserError
        If the file cannot be read, or a key or value does not fit.
    """
    raw: Any = {}
    if path is not None:
        raw = read_yaml(path) or {}
        if not isinstance(raw, dict):
            raise UserError(f"{path} holds no settings.", "Write key: value lines.")
    given = {key: value for key, value in options.items() if value is not None}
    return read_card(TeacherSettings, raw | given, path or Path("the command line"))
