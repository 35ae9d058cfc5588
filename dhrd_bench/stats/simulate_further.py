"""Made-up class probabilities and answers of seeds, with known truth, to put further statistics to the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dhrd_bench.results.schema import TaskInfo
from dhrd_bench.stats.agreement import agreements
from dhrd_bench.stats.calibration import FIGURES, calibrations
from dhrd_bench.stats.design import TaskGrid
from dhrd_bench.stats.probabilities import Probabilities
from dhrd_bench.stats.simulate import SUPERGLUE, Skill, simulate_grid

AGREED, AGREEING = SUPERGLUE[4], Skill((0.8,), 0.2)
"""The task and the method whose seeds' agreement is looked at."""


def scored(rng: np.random.Generator, rows: int, seeds: int) -> Probabilities:
    """Draw two methods' class probabilities; the second's logits are too large, and noisier."""
    hard = 2 * rng.normal(size=rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-hard))).astype(np.int64)
    logits = np.empty((2, seeds, rows))
    for m, (scale, noise) in enumerate(((1.0, 0.7), (1.6, 0.9))):
        own = scale * hard + noise * rng.normal(size=rows)
        logits[m] = own + 0.3 * rng.normal(size=(seeds, 1)) + 0.5 * rng.normal(size=(seeds, rows))
    yes = 1 / (1 + np.exp(-logits))
    each, info = np.arange(rows), TaskInfo(labels=["no", "yes"], metrics=["accuracy"])
    task = TaskGrid("t", info, tuple(range(seeds)), labels, (yes > 0.5).astype(np.int64), each, each)
    return Probabilities(task, np.stack([1 - yes, yes], axis=-1), {})


def calibration_truth() -> dict[str, float]:
    """Return how the second method's figures of calibration differ from the first's, on endless rows and seeds."""
    rng, found = np.random.default_rng(0), []
    for _ in range(40):
        given = scored(rng, 20_000, 8)
        found.append(calibrations([given], ("m0", "m1"), "m0", 2, 0)[1].versus)
    return {figure: float(np.mean([one[figure].value for one in found])) for figure in FIGURES}


def agreement_truth() -> tuple[float, float]:
    """Return agreement and kappa of the seeds of `AGREEING` on endless rows of `AGREED`."""
    big = replace(AGREED, rows=20_000)
    grids = [simulate_grid((big,), (AGREEING,), 20, np.random.default_rng(i)) for i in range(10)]
    found = [agreements(grid, 2, 0)[1] for grid in grids]
    return (
        float(np.mean([one.agreement.value for one in found])),
        float(np.mean([one.kappa.value for one in found if one.kappa is not None])),
    )
