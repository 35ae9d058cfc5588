"""The clock that predictions are timed by: it stands still while weights change places."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_stood_still = 0.0


def work_clock() -> float:
    """Return seconds of a clock that does not count what `standing_still` wraps.

    A method that runs several models puts the weights of one in the place of another's within a prediction. Whoever
    serves it holds them all, so only what they compute is counted. Other methods have theirs in place when the clock
    starts.
    """
    return time.perf_counter() - _stood_still


@contextmanager
def standing_still() -> Iterator[None]:
    """Have the clock stand still within the block, in this process."""
    global _stood_still
    started = time.perf_counter()
    try:
        yield
    finally:
        _stood_still += time.perf_counter() - started
