"""What a run could find, foreseen: against simulated runs."""

from __future__ import annotations

import numpy as np
import pytest

from dhrd_bench.commands.power import power_command, power_table
from dhrd_bench.errors import UserError
from dhrd_bench.request import RunRequest
from dhrd_bench.stats.intervals import Estimate, Part, student, variance
from dhrd_bench.stats.power import Assumed, Size, detectable, foreseen, needed
from dhrd_bench.stats.significance import crossed_p


def drawn(points, rows, seeds, assumed, rng):
    """Draw ``(S, C)`` differences of two methods by seed and example, as assumed, and analyse them."""
    lasting = rng.random(rows) < assumed.lasting * assumed.discordance
    passing = rng.random((seeds, rows)) < (1 - assumed.lasting) * assumed.discordance
    outcome = 100.0 * (lasting * rng.choice([-1.0, 1.0], rows) + passing * rng.choice([-1.0, 1.0], (seeds, rows)))
    outcome += points + rng.normal(0, 2**0.5 * assumed.seed_sd, seeds)[:, None]
    mean = outcome.mean(axis=0)
    part = Part(
        seeds,
        rows,
        float(mean.var() / rows),
        float((outcome - mean).var(axis=1).sum() / rows / (seeds - 1)),
        float(outcome.mean(axis=1).var(ddof=1)),
    )
    return student(float(outcome.mean()), variance([part]))


def test_the_foreseen_variance_is_that_of_runs_as_assumed():
    assumed, rng = Assumed(0.2, 0.4, 1.5), np.random.default_rng(0)
    values = [drawn(0.0, 300, 4, assumed, rng).value for _ in range(2_000)]
    assert np.var(values) == pytest.approx(foreseen([Size("t", 300, 300)], 4, assumed).total, rel=0.1)


def test_the_foreseen_detectable_difference_is_found_in_four_of_five():
    """Monte-Carlo band of 80 % in 1,000 is 77.5-82.5; degrees of freedom that are themselves drawn cost a little."""
    assumed, rng = Assumed(), np.random.default_rng(1)
    spread = foreseen([Size("t", 500, 500)], 5, assumed)
    points = detectable(Estimate(0.0, se=spread.total**0.5, df=spread.df))
    found = np.mean([crossed_p(drawn(points, 500, 5, assumed, rng)) <= 0.05 for _ in range(1_000)])
    assert 0.74 <= found <= 0.86


def test_the_seeds_needed_find_the_margin():
    assumed, rng = Assumed(lasting=0.2), np.random.default_rng(2)
    more = needed(3.0, foreseen([Size("t", 800, 800)], 5, assumed), 5).seeds
    assert 2 < more < 30
    found = np.mean([crossed_p(drawn(3.0, 800, more, assumed, rng)) <= 0.05 for _ in range(400)])
    assert found >= 0.72  # a normal approximation


def test_clusters_and_tasks_count():
    assumed = Assumed()
    alone = foreseen([Size("t", 400, 400)], 3, assumed).total
    assert foreseen([Size("t", 400, 20)], 3, assumed).total > alone
    assert foreseen([Size("t", 400, 400)] * 4, 3, assumed).total == pytest.approx(alone / 4, rel=0.01)
    assert foreseen([Size("t", 400, 400)], 1, assumed).seeds == 0


def test_the_table_says_what_was_assumed():
    table = power_table([Size("a", 56, 56), Size("b", 1000, 100)], 4, 3, 1.0, Assumed())
    assert [row[0].main for row in table.rows] == ["a", "b", "suite"]
    assert "4 seeds" in [column.head for column in table.columns]
    assert "15 %" in " ".join(table.caption)


@pytest.mark.parametrize(("margin", "assumed"), [(0.0, Assumed()), (1.0, Assumed(alike=2)), (1.0, Assumed(seed_sd=-1))])
def test_what_cannot_be_is_refused(margin, assumed):
    with pytest.raises(UserError):
        power_command(RunRequest(), margin, assumed, None)
