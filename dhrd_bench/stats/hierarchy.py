"""A hierarchical model of one difference on all tasks: how probable *better* is, and *practically the same*.

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

from dhrd_bench.stats.design import Floats

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
        xi = (eta * (d - mu) / v).sum(axis=1, keepdims=True) / precision + rng.normal(size=xi.shape) / np.sqrt(
            precision
        )
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
