"""Contrasts that were fixed beforehand: what may be said of several, looked at once or after some seeds and again.

That there is a difference is one family of claims and that there is none that matters another, each with its own
chance of a wrong one: Holm's (1979) procedure. A contrast of which the claim was shown passes its share on to the
others, at later looks, too (Maurer and Bretz 2013); each look has a level of its own (`sequential`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.finding import Finding, finding
from dhrd_bench.stats.intervals import Estimate, quantile
from dhrd_bench.stats.sequential import boundary, repeated


@dataclass(frozen=True)
class Seen:
    """One contrast at one look.

    Attributes
    ----------
    difference
        Method less baseline, in points.
    p
        Of no difference, two-sided and uncorrected; None where there is no test.
    equivalence
        The test against the margin, uncorrected; None where there is none.
    """

    difference: Estimate
    p: float | None
    equivalence: Equivalence | None


@dataclass(frozen=True)
class Ruling:
    """What is said of a contrast.

    Attributes
    ----------
    finding
        ``undecided`` as long as nothing is shown.
    look
        Number of seeds at which it was decided, or else of the last look so far.
    seen
        The contrast at this look; its difference has the interval that holds at all looks together.
    p, equivalent
        Of a difference and of equivalence, corrected for contrasts and looks: to be held against the level of the
        whole family.
    """

    finding: Finding
    look: int
    seen: Seen
    p: float | None
    equivalent: float | None


def rule(seen: Sequence[Sequence[Seen]], looks: Sequence[int], alpha: float) -> list[Ruling]:
    """Decide about contrasts after each look that was taken.

    Parameters
    ----------
    seen
        By look, in their order, the contrasts; those of looks that are still to come are not there.
    looks
        Numbers of seeds at which one looks. A single one is no sequential test, and may be any number.
    alpha
        Chance of any wrong difference, and of any wrong equivalence.

    Returns
    -------
    list of Ruling
        One a contrast. What was decided at a look is not tested again.
    """
    rulings: dict[int, Ruling] = {}
    shown = {"difference": 0, "equivalence": 0}
    for look, contrasts in zip(looks, seen, strict=False):
        waiting = [i for i in range(len(contrasts)) if i not in rulings or rulings[i].finding == "undecided"]
        p = {i: contrasts[i].p for i in waiting}
        within = {i: test.equivalent if (test := contrasts[i].equivalence) else None for i in waiting}
        left = {family: len(contrasts) - count for family, count in shown.items()}
        differ = _corrected(p, left["difference"], alpha, partial(_level, look, looks))
        same = _corrected(within, left["equivalence"], alpha, partial(_level_of_a_side, look, looks))
        for i in waiting:
            rulings[i] = _ruling(contrasts[i], look, looks, differ[i], same[i], alpha)
        shown["difference"] += sum(value is not None and value <= alpha for value in differ.values())
        shown["equivalence"] += sum(value is not None and value <= alpha for value in same.values())
    return [rulings[i] for i in sorted(rulings)]


def interval(difference: Estimate, look: int, looks: Sequence[int], alpha: float) -> Estimate:
    """Return a difference with its interval of level ``1 - alpha``, which holds at all looks together."""
    if len(looks) > 1:
        return repeated(difference, look, looks, alpha)
    if difference.se is None or difference.df is None:
        return difference
    half = quantile(difference.df, 1 - alpha) * difference.se
    return replace(difference, low=difference.value - half, high=difference.value + half)


def _ruling(
    seen: Seen, look: int, looks: Sequence[int], p: float | None, equivalent: float | None, alpha: float
) -> Ruling:
    within = None
    if seen.equivalence is not None and equivalent is not None:
        within = replace(seen.equivalence, equivalent=equivalent)
    found = finding(seen.difference.value, p, within, alpha)
    return Ruling(found, look, replace(seen, difference=interval(seen.difference, look, looks, alpha)), p, equivalent)


def _level(look: int, looks: Sequence[int], alpha: float) -> float:
    return alpha if len(looks) == 1 else boundary(look, looks, alpha)


def _level_of_a_side(look: int, looks: Sequence[int], alpha: float) -> float:
    """Return the level of one-sided tests, half of that of both sides together."""
    return _level(look, looks, 2 * alpha) / 2


def _corrected(
    p: Mapping[int, float | None], left: int, alpha: float, level: Callable[[float], float]
) -> dict[int, float | None]:
    """Return Holm's adjusted p by contrast: at most `alpha` where p is at most its `level` of a share of `alpha`.

    `left` contrasts of the family were not shown before, those that are not tested any more among them.
    """
    able = sorted((value, i) for i, value in p.items() if value is not None)
    corrected: dict[int, float | None] = dict.fromkeys(p)
    highest = 0.0
    for rank, (value, i) in enumerate(able):
        highest = max(highest, min(1.0, value * (alpha / level(alpha / (left - rank)))))
        corrected[i] = highest
    return corrected
