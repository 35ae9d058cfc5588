"""A teacher behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dhrd_bench.errors import UserError
from dhrd_bench.rationales.prompts import Ask
from dhrd_bench.rationales.teachers.teacher import Failure, Reply, TeacherSettings

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

LONGEST_WAIT = 300.0
"""Seconds beyond which a Retry-After ends the call instead of holding it up."""

FAILURES_IN_A_ROW = 5
"""Rows that may fail one after the other before the call ends."""

RESUME = "What was received is kept; the same command goes on from there."


class OpenAITeacher:
    """Asks ``/chat/completions`` with a bounded number of requests under way.

    The client's own repetition is off: ours counts every request against the budget and makes all
    threads wait when the endpoint asks one of them to.

    With `dry_run` nothing will be sent, and no key is needed.

    Raises
    ------
    UserError
        If the client is not installed, or there is no key for an endpoint that needs one.
    """

    def __init__(self, model: str, settings: TeacherSettings, *, dry_run: bool = False) -> None:
        try:
            import openai
        except ImportError:
            raise UserError("The teacher needs the openai client.", "pip install 'dhrd-bench[teacher]'") from None
        url = settings.base_url
        parts = urlsplit(url or "https://api.openai.com/v1")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"Cannot read the base URL of {model!r}.", "Write it as http://HOST:PORT/v1.")
        if parts.username or parts.password or parts.query:
            raise UserError(
                f"The base URL of {model!r} carries credentials or a query.",
                f"Put the key into the environment as {settings.key_env}; it is read from nowhere else.",
            )
        self._key = os.environ.get(settings.key_env, "")
        if not self._key and url is None and not dry_run:
            raise UserError(f"No key in the environment variable {settings.key_env}.", "Set it, or name --base-url.")
        self.name = f"openai:{model}"
        self.stopped: str | None = None
        self._model = model
        self._settings = settings
        # OpenAI's newer models refuse the name that every other server knows, and the reverse.
        limit = "max_completion_tokens" if url is None else "max_tokens"
        given = {"max_tokens", "max_completion_tokens"} & set(settings.request)
        self._request = settings.request if given else settings.request | {limit: 512}
        # The host tells who served the model; the port says nothing, and would keep a call from resuming.
        self.parameters: dict[str, Any] = {"endpoint": parts.hostname, **self._request}
        self._client = openai.OpenAI(api_key=self._key or "none", base_url=url, max_retries=0, timeout=settings.timeout)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._not_before = 0.0
        self._sent = 0
        self._spent = 0.0

    def stop(self) -> None:
        """Send no more; what is under way is paid for and still yielded."""
        self.stopped = self.stopped or "interrupted"
        self._stop.set()

    def replies(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """Answer `asks` as they are finished; see `Teacher.replies`."""
        source = enumerate(asks)
        pending: dict[Future[Reply | Failure | None], int] = {}
        end: UserError | None = None
        failures = 0
        with ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="teacher") as pool:
            try:
                while True:
                    while not self._stop.is_set() and len(pending) < self._settings.concurrency:
                        if (following := next(source, None)) is None:
                            break
                        pending[pool.submit(self._answer, following[1])] = following[0]
                    if not pending:
                        break
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        position = pending.pop(future)
                        try:
                            outcome = future.result()
                        except UserError as error:
                            end = end or error
                            self._stop.set()
                            continue
                        if outcome is None:  # not asked: the budget is spent, or the call is ending
                            self._stop.set()
                            continue
                        yield position, outcome
                        failures = failures + 1 if isinstance(outcome, Failure) else 0
                        if isinstance(outcome, Failure) and failures == FAILURES_IN_A_ROW:
                            end = end or UserError(f"{failures} rows in a row failed: {outcome.reason}.", RESUME)
                            self._stop.set()
            except BaseException:
                self._stop.set()  # let no thread wait for its next try
                raise
        if end is not None:
            raise end

    def _answer(self, ask: Ask) -> Reply | Failure | None:
        """Ask once, with repetitions. None: not asked."""
        reason = ""
        for attempt in range(self._settings.retries + 1):
            self._wait_turn()
            if not self._take():
                return Failure(reason) if reason and not self.stopped else None
            started = time.monotonic()
            try:
                completion = self._send(ask)
            except _AgainError as retry:
                reason = retry.reason
                self._hold(retry.after, attempt)
            except _RefusedError as refused:
                return Failure(refused.reason)
            else:
                return self._reply(completion, time.monotonic() - started)
        return Failure(f"{reason} ({self._settings.retries + 1} times)")

    def _take(self) -> bool:
        """Count one request against the budget; False if there is none left or the call is ending."""
        budget = self._settings
        with self._lock:
            if self._stop.is_set():
                return False
            if budget.max_requests is not None and self._sent >= budget.max_requests:
                self.stopped = f"the budget of {budget.max_requests} requests is spent"
            elif budget.max_cost is not None and self._spent >= budget.max_cost:
                self.stopped = f"the budget of {budget.max_cost:g} is spent ({self._spent:.4f})"
            else:
                self._sent += 1
                return True
            return False

    def _wait_turn(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0 and not self._stop.is_set():
            self._stop.wait(left)

    def _hold(self, after: float | None, attempt: int) -> None:
        """Wait before a repetition. A wait the endpoint asked for holds for every thread."""
        if after is not None and after > LONGEST_WAIT:
            raise UserError(f"The endpoint asks to come back in {after:.0f} seconds.", RESUME) from None
        if after is not None:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + after)
        else:
            self._stop.wait(min(60.0, self._settings.backoff * 2**attempt) * random.uniform(0.5, 1.0))

    def _send(self, ask: Ask) -> ChatCompletion:
        """Send one request and sort what can go wrong.

        No exception of the client is passed on or chained: it holds the request with its headers.
        """
        import openai

        system: list[Any] = [{"role": "system", "content": ask.system}] if ask.system else []
        messages = [*system, {"role": "user", "content": ask.user}]
        outcome: Exception
        try:
            completion: ChatCompletion = self._client.chat.completions.create(
                model=self._model, messages=messages, extra_body=dict(self._request)
            )
            if isinstance(completion.choices[0].message.content, str | None):
                return completion
            outcome = _AgainError("the reply has no text", None)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            hint = f"Check the model's name, the base URL and the key in {self._settings.key_env}. {RESUME}"
            outcome = UserError(f"The endpoint refuses {self.name}: {self._describe(error)}.", hint)
        except openai.APIStatusError as error:
            again = error.status_code in (408, 409, 425, 429) or error.status_code >= 500
            reason = self._describe(error)
            outcome = _AgainError(reason, _retry_after(error.response.headers)) if again else _RefusedError(reason)
        except openai.APITimeoutError:
            outcome = _AgainError(f"no reply within {self._settings.timeout:g} seconds", None)
        except openai.APIConnectionError as error:
            outcome = _AgainError(self._clean(f"the connection broke ({error.__cause__ or error})"), None)
        except (openai.APIError, ValueError, TypeError, AttributeError, IndexError):
            # Half a body that claims to be whole, or something that is no completion at all.
            outcome = _AgainError("the reply cannot be read", None)
        raise outcome from None

    def _reply(self, completion: ChatCompletion, seconds: float) -> Reply:
        choice, usage = completion.choices[0], completion.usage
        price = self._settings.prices.get(self._model)
        tokens_in = usage.prompt_tokens if usage else None
        tokens_out = usage.completion_tokens if usage else None
        cost = None
        if price and tokens_in is not None and tokens_out is not None:
            cost = (tokens_in * price.input + tokens_out * price.output) / 1e6
            with self._lock:
                self._spent += cost
        refused = choice.finish_reason == "content_filter" or bool(getattr(choice.message, "refusal", None))
        return Reply(
            text=self._clean(choice.message.content or getattr(choice.message, "refusal", None) or ""),
            finish="refused" if refused else "length" if choice.finish_reason == "length" else "stop",
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            seconds=seconds,
            cost=cost,
            currency=price.currency if price and cost is not None else None,
            model=completion.model if completion.model and completion.model != self._model else None,
        )

    def _describe(self, error: Any) -> str:
        body = error.body if isinstance(error.body, dict) else {}
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        text = str(message or error.response.reason_phrase or "no reason given")
        return self._clean(f"{error.status_code} {text[:300].rstrip('.')}")

    def _clean(self, text: str) -> str:
        """Take the key out of `text`: an endpoint may echo it, whole or shortened."""
        if self._key:
            text = text.replace(self._key, "***")
        return re.sub(r"\b(sk|key)-[\w*.-]{6,}", "***", text)


class _AgainError(Exception):
    def __init__(self, reason: str, after: float | None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


class _RefusedError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _retry_after(headers: Any) -> float | None:
    """Return the seconds a Retry-After header asks for, given as a number or a date."""
    value = str(headers.get("retry-after", "")).strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
