"""Made-up grids with known truth, shaped like the real ones, to put the statistics to the test.

A method answers a row right if a sum of normal effects is positive: how hard the row and its text are
(shared by all methods and seeds), how the method takes to the row (shared by its seeds), how this
seed's training went (by class; shared by the rows) and luck. The effects are crossed as they are in a
real grid, and the true score is an integral over them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from dhrd_bench.metrics import Counts
from dhrd_bench.results.schema import TaskInfo
from dhrd_bench.stats.counts import score
from dhrd_bench.stats.design import Floats, Grid, TaskGrid

HARD, TEXT, TASTE, LUCK = 1.5, 0.5, 0.5, 1.0
"""Standard deviations of the effects on the scale of the normal latent."""


@dataclass(frozen=True)
class Shape:
    """What a simulated task looks like.

    Attributes
    ----------
    rows, texts, questions
        Numbers of rows, of texts (clusters) and of questions (groups); 0 where every row is its own.
    balance
        Shares of the classes.
    metrics
        Names of the metrics.
    """

    name: str
    rows: int
    balance: tuple[float, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    texts: int = 0
    questions: int = 0


SUPERGLUE = (
    Shape("boolq", 3270, (0.38, 0.62), texts=2933),
    Shape("cb", 56, (0.41, 0.50, 0.09), ("f1_macro", "accuracy")),
    Shape("copa", 100, (0.45, 0.55)),
    Shape("multirc", 4848, (0.57, 0.43), ("f1a", "exact_match"), texts=83, questions=953),
    Shape("rte", 277, (0.53, 0.47), texts=274),
    Shape("wic", 638, (0.5, 0.5), texts=599),
    Shape("wsc", 104, (0.63, 0.37), texts=38),
)
"""Sizes, class balance and shared texts (docs/data.md) of the seven validation sets."""


@dataclass(frozen=True)
class Skill:
    """How good a simulated method is.

    Attributes
    ----------
    rates
        Probability of a right answer, over rows and seeds, by class (the last one repeats).
    seed_sd
        Standard deviation of the seed effect on the latent scale; half of its variance is shared by
        all methods at a seed, and each class has its own.
    taste
        Standard deviation of the method-by-row effect; 0 with equal rates makes methods exchangeable.
    """

    rates: tuple[float, ...]
    seed_sd: float
    taste: float = TASTE

    def rate(self, kind: int) -> float:
        """Probability of a right answer on class `kind`."""
        return self.rates[min(kind, len(self.rates) - 1)]

    def shift(self, kind: int) -> float:
        """Mean of the latent on class `kind`."""
        return float(ndtri(self.rate(kind)) * np.sqrt(self.row_variance + self.seed_sd**2))

    @property
    def row_variance(self) -> float:
        """Variance of the latent over rows at a given seed effect."""
        return HARD**2 + TEXT**2 + self.taste**2 + LUCK**2


def simulate(shape: Shape, skills: tuple[Skill, ...], seeds: int, rng: np.random.Generator) -> TaskGrid:
    """Draw one task's outcomes for methods of the given `skills`."""
    n, k = shape.rows, len(shape.balance)
    texts = _codes(n, shape.texts)
    questions = _codes(n, shape.questions)
    labels = rng.choice(k, n, p=np.array(shape.balance) / sum(shape.balance))
    common = rng.normal(0, HARD, n) + rng.normal(0, TEXT, n)[texts]
    shared = rng.normal(0, 1, (seeds, k))
    predictions = np.empty((len(skills), seeds, n), dtype=np.int64)
    for m, skill in enumerate(skills):
        seed = skill.seed_sd * (np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(0, 1, (seeds, k)))
        shift = np.array([skill.shift(kind) for kind in range(k)])
        latent = (
            shift[labels] + common + rng.normal(0, skill.taste, n) + seed[:, labels] + rng.normal(0, LUCK, (seeds, n))
        )
        wrong = (labels + rng.integers(1, k, (seeds, n))) % k
        predictions[m] = np.where(latent > 0, labels, wrong)
    info = TaskInfo(labels=[str(kind) for kind in range(k)], metrics=list(shape.metrics))
    return TaskGrid(shape.name, info, tuple(range(seeds)), labels, predictions, texts, questions)


def simulate_grid(shapes: tuple[Shape, ...], skills: tuple[Skill, ...], seeds: int, rng: np.random.Generator) -> Grid:
    """Draw a whole grid; methods are named m0, m1, ..."""
    tasks = tuple(simulate(shape, skills, seeds, rng) for shape in shapes)
    return Grid(tuple(f"m{i}" for i in range(len(skills))), tasks)


@functools.cache
def truth(shape: Shape, skill: Skill) -> float:
    """Return the true score, 0-100: the mean over seeds of the score on endless rows."""
    rng = np.random.default_rng(0)
    k = len(shape.balance)
    balance = np.array(shape.balance) / sum(shape.balance)
    shift = np.array([skill.shift(kind) for kind in range(k)])
    if "exact_match" in shape.metrics:
        return _true_groups(shape, skill, balance, shift, rng)
    effects = rng.normal(0, skill.seed_sd, (100_000, k))
    right = ndtr((shift + effects) / np.sqrt(skill.row_variance)) * balance
    missed = balance - right
    predicted = right + (missed.sum(-1, keepdims=True) - missed) / (k - 1)
    zero = np.zeros(len(effects))
    return float(score(Counts(right, predicted, balance, zero, zero + 1), shape.metrics).mean())


def _true_groups(shape: Shape, skill: Skill, balance: Floats, shift: Floats, rng: np.random.Generator) -> float:
    """Integrate with rows drawn once, in half a million rows, for each of 40 antithetic pairs of seeds."""
    copies = max(1, 500_000 // shape.rows)
    n, k = shape.rows * copies, len(balance)
    texts = (_codes(shape.rows, shape.texts) + max(shape.texts, shape.rows) * np.arange(copies)[:, None]).ravel()
    questions = (_codes(shape.rows, shape.questions) + shape.questions * np.arange(copies)[:, None]).ravel()
    labels = rng.choice(k, n, p=balance)
    fixed = (
        shift[labels] + rng.normal(0, np.hypot(HARD, skill.taste), n) + rng.normal(0, TEXT, int(texts.max()) + 1)[texts]
    )
    half = rng.normal(0, skill.seed_sd, (40, k))
    scores = []
    for effect in np.concatenate([half, -half]):
        right = fixed + effect[labels] + rng.normal(0, LUCK, n) > 0
        hits = np.bincount(labels[right], minlength=k).astype(float)
        support = np.bincount(labels, minlength=k).astype(float)
        predicted = hits + (support - hits)[::-1] if k == 2 else hits
        wrong = np.bincount(questions[~right], minlength=int(questions.max()) + 1)
        counts = Counts(hits, predicted, support, np.array(float((wrong == 0).sum())), np.array(float(len(wrong))))
        scores.append(float(score(counts, shape.metrics)))
    return float(np.mean(scores))


def _codes(n: int, parts: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Split n rows into `parts` runs of nearly equal length, each row its own where `parts` is 0."""
    return np.arange(n) * (parts or n) // n
