"""What is copied: from the row's own input, from evaluation inputs, from another rationale.

Texts are compared as sequences of lower-case words. Exact n-grams are found through a set; MinHash
finds what was copied with changes in between.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from dhrd_bench.errors import UserError

PERMUTATIONS = 128
"""MinHash permutations: a standard error of about 0.04 on a Jaccard index of 0.7."""

SHINGLE = 3
"""Words per shingle of the MinHash comparisons."""

Gram = tuple[str, ...]


def grams(text: str, n: int) -> list[Gram]:
    """Return the word n-grams of `text` in order; the whole text if it is shorter."""
    words = re.findall(r"\w+", text.lower())
    if len(words) <= n:
        return [tuple(words)] if words else []
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def copied_share(text: str, source: str, n: int) -> float:
    """Return the share of the n-grams of `text` that stand in `source` (0-1)."""
    every = grams(text, n)
    known = set(grams(source, n))
    return sum(gram in known for gram in every) / len(every) if every else 0.0


def contaminated(texts: Sequence[str], inputs: Sequence[str], evaluation: Iterable[str], n: int) -> dict[int, int]:
    """Find texts that hold an n-gram of an evaluation input which their own input does not have.

    A passage that the data set itself has in both splits is not the teacher's doing, hence the last
    clause.

    Returns
    -------
    dict
        Position of such a text to the position of the first such evaluation input.
    """
    wanted: dict[Gram, list[int]] = defaultdict(list)
    for position, (text, source) in enumerate(zip(texts, inputs, strict=True)):
        for gram in set(grams(text, n)) - set(grams(source, n)):
            if len(gram) == n:
                wanted[gram].append(position)
    copies: dict[int, int] = {}
    for number, other in enumerate(evaluation):
        for gram in grams(other, n):
            for position in wanted.get(gram, ()):
                copies.setdefault(position, number)
    return copies


def near_duplicates(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Return the pairs of `texts` whose shingle sets have a Jaccard index of at least `threshold`.

    MinHash proposes the pairs, the index is exact.
    """
    sketch = _datasketch()
    shingles = [set(grams(text, SHINGLE)) for text in texts]
    index = sketch.MinHashLSH(threshold=threshold * 0.9, num_perm=PERMUTATIONS)
    pairs: list[tuple[int, int, float]] = []
    for position, (shingled, minhash) in enumerate(zip(shingles, _minhashes(shingles), strict=True)):
        if not shingled:
            continue
        for other in sorted(index.query(minhash)):
            jaccard = len(shingled & shingles[other]) / len(shingled | shingles[other])
            if jaccard >= threshold:
                pairs.append((other, position, jaccard))
        index.insert(position, minhash)
    return pairs


def mostly_from(
    texts: Sequence[str], inputs: Sequence[str], evaluation: Sequence[str], threshold: float
) -> dict[int, int]:
    """Find texts of whose shingles at least `threshold` stand in one evaluation input, their own input's aside.

    MinHash (an LSH ensemble over containment) proposes the evaluation inputs, the share is exact.

    Returns
    -------
    dict
        Position of such a text to the position of that evaluation input.
    """
    sketch = _datasketch()
    known = [set(grams(text, SHINGLE)) for text in evaluation]
    filled = [position for position, shingles in enumerate(known) if shingles]
    if not filled:
        return {}
    index = sketch.MinHashLSHEnsemble(threshold=threshold * 0.9, num_perm=PERMUTATIONS, num_part=8)
    minhashes = _minhashes([known[position] for position in filled])
    index.index((position, minhash, len(known[position])) for position, minhash in zip(filled, minhashes, strict=True))
    fresh = [
        set(grams(text, SHINGLE)) - set(grams(source, SHINGLE)) for text, source in zip(texts, inputs, strict=True)
    ]
    copies: dict[int, int] = {}
    for position, minhash in enumerate(_minhashes(fresh)):
        # A remainder of a few shingles proves nothing: it is held against the whole text.
        size = len(set(grams(texts[position], SHINGLE)))
        for other in sorted(index.query(minhash, len(fresh[position]))) if fresh[position] else ():
            if len(fresh[position] & known[other]) / size >= threshold:
                copies.setdefault(position, other)
    return copies


def _minhashes(shingles: Sequence[set[Gram]]) -> list[Any]:
    minhashes: list[Any] = _datasketch().MinHash.bulk(
        [[" ".join(gram).encode() for gram in sorted(grams_)] for grams_ in shingles], num_perm=PERMUTATIONS, seed=1
    )
    return minhashes


def _datasketch() -> Any:
    try:
        import datasketch
    except ImportError:
        raise UserError("The audit needs datasketch.", "pip install 'dhrd-bench[audit]'") from None
    return datasketch
