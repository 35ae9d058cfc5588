"""A hierarchical model of one difference on all tasks: how probable is *better*, and *practically the same*?

A test says how surprising the data are if there is no difference. What is often asked is how probable a
difference is, and how probable that it does not matter; that takes a model (Benavoli, Corani, Demsar and
Zaffalon 2017). With d the mean over S seeds of a task's differences, in the notation of docs/statistics.md:

    d     ~ N(theta + e, sigma^2 / S)       (S - 1) B / sigma^2 ~ chi2(S - 1)
    e     ~ N(0, V_e - I / S)               what the test examples do, to all seeds alike
    theta ~ N(mu, tau^2)                    flat prior on mu, half-Cauchy on tau
    sigma^2 ~ inverse chi2(nu, s^2)         tasks' seed variances are shrunk towards each other

It is sampled by Gibbs in parallel chains; theta and e are drawn together, and tau has an expanded parameter
(Gelman et al. 2008), without which chains get stuck where tasks are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.intervals import Estimate, percentile
from dhrd_bench.stats.suite import SuiteScores

TAU_SCALE = 5.0
"""Scale of the half-Cauchy prior of tau, in points: half of the prior lies below."""
_FREEDOMS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])  # what nu may be, alike beforehand
_CHAINS, _WARM_UP, _KEPT = 100, 100, 200


@dataclass(frozen=True)
class Evidence:
    """What the tasks say of one difference, in points, each ``(T,)``: d, V_e - I / S, B (at least I), and S."""

    value: Floats
    examples: Floats
    square: Floats
    seeds: Floats


@dataclass(frozen=True)
class Belief:
    """What to believe of one difference.

    Attributes
    ----------
    difference
        Posterior mean and central 95 % interval, in points.
    margin
        Differences up to it are practically none, in points; 0 if no margin was named.
    better, same, worse
        Posterior probabilities of more than the margin, of within it, and of less than its negative.
    """

    difference: Estimate
    margin: float
    better: float
    same: float
    worse: float

    @classmethod
    def of(cls, draws: Floats, margin: float) -> Belief:
        """Sum up ``(N,)`` draws."""
        better, worse = float(np.mean(draws > margin)), float(np.mean(draws < -margin))
        same = float(np.mean(np.abs(draws) <= margin))
        return cls(Estimate(float(draws.mean()), *percentile(draws)), margin, better, same, worse)


@dataclass(frozen=True)
class Hierarchical:
    """One method less the baseline.

    Attributes
    ----------
    suite
        The mean over these tasks.
    tasks
        By task; borrows from the others.
    new_task
        A task like these, as if they were a sample of tasks; None for fewer than three.
    between
        Posterior median of tau, the standard deviation of true differences between tasks.
    """

    method: str
    suite: Belief
    tasks: dict[str, Belief]
    new_task: Belief | None
    between: float


def hierarchical(suite: SuiteScores, base: int, margin: float | None, seed: int) -> list[Hierarchical]:
    """Return what to believe of every method less the method at `base`.

    A method is left out where a metric cannot be resampled, all are where every task has one seed: they
    would speak of trained models. A margin is in % of the baseline's score, of the suite's or a task's.
    """
    found = []
    for method, name in enumerate(suite.methods):
        evidence = None if method == base else evidence_of(suite, method, base)
        if evidence is None or evidence.seeds.max() == 1:
            continue
        theta, mu, tau = sample(evidence, derive_seed("hierarchical", name, str(seed)))
        margins = [(margin or 0.0) / 100 * suite.mean(base, [t]) for t in suite.every]
        of_suite = (margin or 0.0) / 100 * suite.mean(base)
        rng = np.random.default_rng(derive_seed("new task", name, str(seed)))
        found.append(
            Hierarchical(
                name,
                Belief.of(theta.mean(axis=1), of_suite),
                {task: Belief.of(theta[:, t], margins[t]) for t, task in enumerate(suite.names)},
                Belief.of(mu + tau * rng.normal(size=len(mu)), of_suite) if len(suite.names) > 2 else None,
                float(np.median(tau)),
            )
        )
    return found


def evidence_of(suite: SuiteScores, method: int, base: int) -> Evidence | None:
    """Return what the tasks say of one method less another; None if a metric cannot be resampled."""
    unit = np.eye(len(suite.methods))
    rows = []
    for task in suite.tasks:
        part = task.part(unit[method] - unit[base])
        if part is None:
            return None
        examples = part.examples * part.clusters / max(part.clusters - 1, 1) - part.interaction / part.seeds
        square = max(part.square, part.interaction, part.floor)
        value = float((task.point[method] - task.point[base]).mean())
        rows.append((value, max(examples, part.floor), square, float(part.seeds)))
    return Evidence(*np.array(rows).T)


def sample(evidence: Evidence, seed: int) -> tuple[Floats, Floats, Floats]:
    """Return draws of theta ``(N, T)``, mu and tau ``(N,)``; the same seed gives the same draws."""
    rng = np.random.default_rng(seed)
    d, size, tasks = evidence.value, evidence.seeds, len(evidence.value)
    sigma2 = np.tile(evidence.square, (_CHAINS, 1))
    s2 = np.full((_CHAINS, 1), evidence.square.mean())
    xi, eta2, nu = np.ones((_CHAINS, 1)), np.ones((_CHAINS, 1)), np.full((_CHAINS, 1), 4.0)
    kept: list[tuple[Floats, Floats, Floats]] = []
    for step in range(_WARM_UP + _KEPT):
        v = evidence.examples + sigma2 / size
        weight = 1 / (v + xi**2 * eta2)
        total = weight.sum(axis=1, keepdims=True)
        mu = ((weight * d).sum(axis=1, keepdims=True)) / total + rng.normal(size=xi.shape) / np.sqrt(total)
        precision = xi**2 / v + 1 / eta2
        eta = xi * (d - mu) / v / precision + rng.normal(size=v.shape) / np.sqrt(precision)
        precision = (eta**2 / v).sum(axis=1, keepdims=True) + TAU_SCALE**-2
        xi = (eta * (d - mu) / v).sum(axis=1, keepdims=True) / precision + rng.normal(size=xi.shape) / np.sqrt(precision)
        eta2 = (1 + (eta**2).sum(axis=1, keepdims=True)) / 2 / rng.gamma((1 + tasks) / 2, size=xi.shape)
        theta = mu + xi * eta
        share = evidence.examples / v
        e = share * (d - theta) + rng.normal(size=v.shape) * np.sqrt(share * sigma2 / size)
        spread = nu * s2 + (size - 1) * evidence.square + size * (d - theta - e) ** 2
        sigma2 = spread / 2 / rng.gamma((nu + size) / 2, size=v.shape)
        inverse = (1 / sigma2).sum(axis=1, keepdims=True)
        s2 = rng.gamma(tasks * nu / 2, size=nu.shape) / (nu / 2 * inverse)
        nu = _freedom(sigma2, inverse, s2, rng)
        if step >= _WARM_UP:
            kept.append((theta, mu[:, 0], (np.abs(xi) * np.sqrt(eta2))[:, 0]))
    theta, mu, tau = (np.concatenate(part) for part in zip(*kept, strict=True))
    return theta, mu, tau


def _freedom(sigma2: Floats, inverse: Floats, s2: Floats, rng: np.random.Generator) -> Floats:
    """Draw nu ``(chains, 1)`` given the seed variances and their scale."""
    half = _FREEDOMS / 2
    each = half * np.log(half * s2) - gammaln(half)
    logs = sigma2.shape[1] * each - (half + 1) * np.log(sigma2).sum(axis=1, keepdims=True) - half * s2 * inverse
    return np.asarray(_FREEDOMS[np.argmax(logs + rng.gumbel(size=logs.shape), axis=1)][:, None])
