"""Adding seeds honestly: a group-sequential test that may be looked at after every seed.

Whoever looks after each seed and stops when p is at most 5 % finds a difference of equals far more
often than in 5 % of cases. Here every look has a level of its own, and all looks together have the one that
was asked for: the alpha spending of Lan and DeMets (1983) of the O'Brien-Fleming kind, which spends
little on the first few seeds. The levels are exact if the statistic gains independent information with every
seed. What all seeds share (their test examples) makes looks more alike than that, and the test stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from dhrd_bench.errors import UserError
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.intervals import Estimate, quantile
from dhrd_bench.stats.significance import ALPHA

_PATHS = 100_000  # of simulated seeds
_NODES = 120  # of Gauss and Legendre's quadrature; more change no boundary in its tenth digit


@dataclass(frozen=True)
class Decision:
    """What to do at a look.

    Attributes
    ----------
    action
        ``stop``: the difference is shown. ``go on``: run more seeds. ``give up``: this was the last look,
        and it is not shown.
    level
        What p had to be at most.
    """

    action: Literal["stop", "go on", "give up"]
    level: float


def spent(fraction: float, alpha: float = ALPHA) -> float:
    """Return how much of `alpha` may be spent by the time a `fraction` of all seeds is there."""
    return float(4 * ndtr(-ndtri(1 - alpha / 4) / np.sqrt(fraction)))


def boundary(look: int, looks: Sequence[int], alpha: float = ALPHA) -> float:
    """Return the level of one look: a two-sided p of at most this shows a difference.

    Parameters
    ----------
    look
        Number of seeds now.
    looks
        Numbers of seeds at which one looks, rising from 2; the last is the most that will be run, and is
        fixed beforehand.
    alpha
        Chance of finding a difference of equals at any of the looks.

    Raises
    ------
    UserError
        If `looks` do not rise from 2, `look` is none of them, or `alpha` is no level.
    """
    planned = tuple(looks)
    if min(planned, default=0) < 2 or sorted(set(planned)) != [*planned]:
        raise UserError(f"Looks at {_named(planned)} seeds cannot be.", "Name rising numbers from 2, as 2, 3, 5, 10.")
    if not 0 < alpha < 1:
        raise UserError(f"A level of {alpha:g} cannot be used.", "Name one between 0 and 1, as 0.05.")
    if look not in planned:
        raise UserError(f"No look at {look} seeds was planned.", f"Looks are at {_named(planned)} seeds.")
    return _levels(planned, _within(planned, alpha))[planned.index(look)]


def decide(p: float, look: int, looks: Sequence[int], alpha: float = ALPHA) -> Decision:
    """Decide after `look` seeds by the two-sided `p` of all of them, as `boundary` allows."""
    level = boundary(look, looks, alpha)
    return Decision("stop" if p <= level else "go on" if look < looks[-1] else "give up", level)


def repeated(figure: Estimate, look: int, looks: Sequence[int], alpha: float = ALPHA) -> Estimate:
    """Return the repeated confidence interval (Jennison and Turnbull 1989): those of all looks hold together."""
    if figure.se is None or figure.df is None:
        return Estimate(figure.value)
    half = quantile(figure.df, 1 - boundary(look, looks, alpha)) * figure.se
    return Estimate(figure.value, figure.value - half, figure.value + half, figure.se, figure.df)


@cache
def _within(looks: tuple[int, ...], alpha: float) -> float:
    """Return what to spend in place of `alpha`, so that t-tests of normal seeds find no more than that."""
    if len(looks) == 1:
        return alpha
    seeds = np.random.default_rng(0).standard_normal((_PATHS, looks[-1]))
    p = [_t_test(seeds[:, :look]) for look in looks]
    most = alpha - float(np.sqrt(alpha * (1 - alpha) / _PATHS))  # less the error of the simulation
    low, high = 0.5 * alpha, alpha
    for _ in range(12):
        middle = (low + high) / 2
        stopped = np.any([at <= level for at, level in zip(p, _levels(looks, middle), strict=True)], axis=0)
        low, high = (low, middle) if stopped.mean() > most else (middle, high)
    return low


def _t_test(seeds: Floats) -> Floats:
    """Return the p of every row of `seeds`."""
    ratio = np.abs(seeds.mean(axis=1)) / seeds.std(axis=1, ddof=1) * np.sqrt(seeds.shape[1])
    return np.asarray(2 * stdtr(seeds.shape[1] - 1, -ratio))


@cache
def _levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """Return the level of every look, by Armitage, McPherson and Rowe's recursion (1969).

    What is followed is the density of the sum of information so far where no look has stopped.
    """
    fractions = np.array(looks) / looks[-1]
    nodes, weights = np.zeros(1), np.ones(1)  # of the sum at the look before, weighted by its density
    levels: list[float] = []
    before, gone = 0.0, 0.0
    for fraction in fractions:
        step, allowed = float(np.sqrt(fraction - before)), spent(float(fraction), alpha) - gone
        edge = _edge(nodes, weights, step, allowed, 9.0 * float(np.sqrt(fraction)))
        levels.append(float(2 * ndtr(-edge / np.sqrt(fraction))))
        at, area = np.polynomial.legendre.leggauss(_NODES)
        at = edge * at
        density = np.exp(-(((at[:, None] - nodes) / step) ** 2) / 2) @ weights / (step * np.sqrt(2 * np.pi))
        nodes, weights = at, density * area * edge
        before, gone = float(fraction), gone + allowed
    return tuple(levels)


def _edge(nodes: Floats, weights: Floats, step: float, allowed: float, high: float) -> float:
    """Return by bisection the edge that the sum passes, on either side, with probability `allowed`."""
    low = 0.0
    for _ in range(80):
        middle = (low + high) / 2
        passed = weights @ (ndtr((nodes - middle) / step) + ndtr((-nodes - middle) / step))
        low, high = (middle, high) if passed > allowed else (low, middle)
    return high


def _named(looks: Sequence[int]) -> str:
    return ", ".join(str(look) for look in looks) or "no"
