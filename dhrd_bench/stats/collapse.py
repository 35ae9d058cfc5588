"""Seeds at which training collapsed to a single answer.

Every interval takes the seeds of a method for draws from one crowd with a mean and a spread. Of a method that
trains well nine times and gives one answer to everything the tenth time, a few seeds show either no spread at
all or one that no few seeds can tell. Nothing mends that afterwards, so such cells are found and named.
"""

from __future__ import annotations

import numpy as np

from dhrd_bench.stats.design import Flags, Floats, TaskGrid

COLLAPSED, SOUND = 0.1, 0.5
"""`variety` up to which a cell has collapsed, and from which another seed shows that its method need not."""
LEAST_ROWS = 10
"""Rows outside the most frequent label without which nothing is called collapsed."""


def collapsed(task: TaskGrid) -> Flags:
    """Return ``(M, S)``, which cells collapsed: (nearly) one answer at this seed, and not so at another one.

    A method that gives one answer at every seed, by its nature or because it never learns, has not
    collapsed: its seeds are alike.
    """
    found = variety(task)
    return np.asarray((found <= COLLAPSED) & (found >= SOUND).any(axis=1, keepdims=True))


def variety(task: TaskGrid) -> Floats:
    """Return ``(M, S)`` the rows answered otherwise than by a cell's most frequent answer, over those so labelled.

    What cannot be read is an answer of its own. Not a number where a method lacks the seed, or the labels
    are nearly all of one class.
    """
    rows = len(task.labels)
    others = rows - np.bincount(task.labels).max()
    if others < LEAST_ROWS:
        return np.full(task.present.shape, np.nan)
    most = np.max([(task.predictions == kind).sum(axis=-1) for kind in range(-1, task.classes)], axis=0)
    return np.where(task.present, (rows - most) / others, np.nan)
