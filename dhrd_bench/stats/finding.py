"""What the tests allow to be said of one method beside another."""

from __future__ import annotations

from typing import Literal

from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.significance import ALPHA

Finding = Literal["better", "worse", "equivalent", "undecided"]


def finding(
    difference: float, p: float | None, equivalence: Equivalence | None = None, level: float = ALPHA
) -> Finding:
    """Return what is shown of a method beside a baseline; a point estimate alone shows nothing.

    Parameters
    ----------
    difference
        Method less baseline, in points: only its sign is used.
    p
        Of no difference, two-sided and corrected; None where there is no test.
    equivalence
        The test against a margin, None without one. A difference that is shown and lies within the margin
        is one that does not matter: it is ``equivalent``.
    level
        That every p is held against.
    """
    if equivalence is not None and equivalence.equivalent <= level:
        return "equivalent"
    if p is None or p > level or difference == 0:
        return "undecided"
    return "better" if difference > 0 else "worse"
