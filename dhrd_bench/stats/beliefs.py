"""How probable it is that a method is better than the baseline, or practically the same, by the hierarchical model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dhrd_bench.contracts import derive_seed
from dhrd_bench.stats.design import Floats
from dhrd_bench.stats.hierarchy import Evidence, sample
from dhrd_bench.stats.intervals import Estimate, percentile
from dhrd_bench.stats.suite import SuiteScores


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

    A method is left out where a metric cannot be resampled, where it shares no seed of a task with the
    baseline, or one seed of each: that would speak of trained models. A margin is in % of the baseline's
    score on the seeds that both have, of the suite's or a task's; 0 where that score is not above 0.
    """
    found = []
    for method, name in enumerate(suite.methods):
        evidence = None if method == base else evidence_of(suite, method, base)
        if evidence is None or evidence.seeds.max() == 1:
            continue
        theta, mu, tau = sample(evidence, derive_seed("hierarchical", name, str(seed)))
        share = (margin or 0.0) / 100
        margins = [share * max(suite.mean(base, [t], method), 0.0) for t in suite.every]
        of_suite = share * max(suite.mean(base, None, method), 0.0)
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
    """Return what the tasks say of one method less another, on the seeds that both have.

    None if a metric cannot be resampled, or no seed of a task is shared.
    """
    unit = np.eye(len(suite.methods))
    rows = []
    for t, task in enumerate(suite.tasks):
        part = task.part(unit[method] - unit[base])
        if part is None:
            return None
        whole = max(part.examples * part.clusters / max(part.clusters - 1, 1), part.floor)
        examples = max(whole - part.interaction / part.seeds, 0.0)
        square = max(part.square, part.interaction, part.floor)
        rows.append((suite.difference(method, base, [t]).value, examples, square, float(part.seeds)))
    return Evidence(*np.array(rows).T)
