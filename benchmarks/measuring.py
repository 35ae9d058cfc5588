"""What every row of the speed table is made of: work done in turns, a peer at its best, a profile."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Work:
    """So many units (tokens, examples, cells) in so many seconds."""

    units: float
    seconds: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


@dataclass(frozen=True)
class Claim:
    """A figure over rounds and the target it is held against.

    Attributes
    ----------
    value, low, high
        Median, smallest and largest of the rounds.
    target, at_least
        What is to be reached; `at_least` tells whether more is better.
    style
        How it is written: ``ratio``, ``share``, ``seconds`` or ``memory``.
    """

    what: str
    value: float
    low: float
    high: float
    target: float
    at_least: bool = True
    style: str = "ratio"

    @property
    def reached(self) -> bool:
        """Whether the median meets the target."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def claim(what: str, values: Sequence[float], target: float, *, at_least: bool = True, style: str = "ratio") -> Claim:
    """Return the claim that the median of `values` meets `target`."""
    return Claim(what, statistics.median(values), min(values), max(values), target, at_least, style)


PROFILED = "torch.profiler, share of wall-clock time"


@dataclass
class Row:
    """One row of the table.

    Attributes
    ----------
    what, peer, setting
        What is measured, against whom, and what is the same on both sides.
    unit
        Unit of the rates; ``s`` shows seconds a unit of work instead.
    ours, theirs
        Rate of each round.
    claims
        What the row is to show.
    tried
        The peer's settings and the rate each gave; the best one is the peer of the rounds.
    checks
        What shows that both sides did the same work.
    profile, profiled
        Where our time goes, in shares, and of what and how that was found.
    limit
        What stops a target that is not reached.
    """

    what: str
    peer: str
    setting: str
    unit: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    tried: dict[str, str] = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)
    profile: dict[str, float] = field(default_factory=dict)
    profiled: str = PROFILED
    limit: str = ""

    @property
    def ratios(self) -> list[float]:
        """Our rate over the peer's, round by round."""
        return [own / other for own, other in zip(self.ours, self.theirs, strict=True)]

    def compare(self, ours: Callable[[int], Work], peer: Callable[[int], Work], rounds: int) -> None:
        """Let both sides work in turns, A B A B, and keep their rates."""
        for number in range(rounds):
            self.ours.append(ours(number).rate)
            self.theirs.append(peer(number).rate)
            say(
                f"round {number + 1} of {rounds}: {self.ours[-1]:.4g} and {self.theirs[-1]:.4g}, {self.ratios[-1]:.2f}x"
            )


def best_of(
    row: Row, settings: Mapping[str, Setting], measure: Callable[[Setting], Work], why_not: tuple[type[Exception], ...]
) -> Setting:
    """Return the setting that gives the peer its highest rate; note all of them in ``row.tried``."""
    rates: dict[str, float] = {}
    for name, setting in settings.items():
        try:
            rates[name] = measure(setting).rate
            row.tried[name] = f"{rates[name]:.4g}"
        except why_not as error:
            row.tried[name] = f"does not run: {str(error).splitlines()[0]}"
        say(f"peer, {name}: {row.tried[name]}")
    return settings[max(rates, key=rates.__getitem__)]


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def say(text: str) -> None:
    """Tell the one who waits."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


GROUPS: dict[str, tuple[str, ...]] = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn", "aten::_addmm"),
    "attention": ("aten::_scaled_dot_product", "aten::_flash_attention", "aten::scaled_dot_product"),
    "copies, casts, gathers": (
        "aten::copy_", "aten::cat", "aten::clone", "aten::index", "aten::gather", "aten::_to_copy", "aten::fill_",
        "aten::embedding", "aten::zero_", "aten::scatter", "aten::_index_put", "aten::repeat_interleave",
        "aten::bernoulli_", "aten::masked_fill_",
    ),
    "softmax and losses": (
        "aten::_log_softmax", "aten::_softmax", "aten::nll_loss", "aten::exp", "aten::logsumexp", "aten::argmax",
    ),
    "optimiser": ("aten::_foreach", "aten::_fused_adamw", "aten::linalg_vector_norm"),
}  # fmt: skip
"""Operators by the beginning of their names; all others are element-wise work (norms, rotary, SwiGLU, dropout)."""


def profile(work: Callable[[], Any]) -> dict[str, float]:
    """Return what share of the wall-clock time of `work` each group of operators takes, largest first.

    Time outside all operators (Python, tokenisation, dispatch) is a group of its own. The profiler itself
    makes small operators look a little dearer than they are.
    """
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    work()
    with torch_profile(activities=[ProfilerActivity.CPU]) as found:
        wall = 1e6 * timed(work)
    shares: dict[str, float] = {}
    for event in found.key_averages():
        if event.key.startswith(("aten::", "mkldnn")):
            group = next((g for g, names in GROUPS.items() if event.key.startswith(names)), "element-wise operators")
            shares[group] = shares.get(group, 0.0) + event.self_cpu_time_total / wall
    shares["outside operators"] = max(0.0, 1.0 - sum(shares.values()))
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))
