"""What a study says of its contrasts, against simulated truths and independent computations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dhrd_bench.stats.contrasts import Ruling, Seen, rule
from dhrd_bench.stats.equivalence import Equivalence, difference_within
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.significance import holm

ALPHA, MARGIN = 0.05, 1.0
LOOKS = (5, 8)


def seen(values: np.ndarray) -> Seen:
    """What a t-test says of differences at so many seeds; by scipy, and not by the code that is tested."""
    count, mean = len(values), float(values.mean())
    se = float(values.std(ddof=1)) / math.sqrt(count)
    p = float(stats.t.sf(abs(mean) / se, count - 1)) * 2
    difference = Estimate(mean, se=se, df=count - 1)
    return Seen(difference, p, difference_within(difference, MARGIN))


def ruled(truth: Sequence[float], looks: tuple[int, ...], sd: float, repeats: int, seed: int) -> list[list[Ruling]]:
    """Studies of contrasts with these true differences, each stopped as a study is."""
    rng = np.random.default_rng(seed)
    studies = []
    for _ in range(repeats):
        values = rng.normal(np.array(truth)[:, None], sd, (len(truth), looks[-1]))
        taken: list[list[Seen]] = []
        for look in looks:
            taken.append([seen(one[:look]) for one in values])
            rulings = rule(taken, looks, ALPHA)
            if all(ruling.finding != "undecided" for ruling in rulings):
                break
        studies.append(rulings)
    return studies


def at_most(share: float, repeats: int) -> float:
    """The share of repeats that is passed by chance once in a thousand times if the true one is `share`."""
    return float(stats.binom.ppf(0.999, repeats, share)) / repeats


REPEATS = 300


@pytest.mark.parametrize("looks", [(10,), LOOKS])
def test_of_equals_hardly_any_is_called_better_or_worse_in_the_whole_study(looks: tuple[int, ...]) -> None:
    studies = ruled([0, 0, 0], looks, sd=4, repeats=REPEATS, seed=1)
    wrong = np.mean([any(each.finding in ("better", "worse") for each in study) for study in studies])
    assert 0 < wrong <= at_most(ALPHA, REPEATS)


@pytest.mark.parametrize("looks", [(10,), LOOKS])
def test_a_difference_as_large_as_the_margin_is_hardly_ever_called_equivalent(looks: tuple[int, ...]) -> None:
    studies = ruled([MARGIN, -MARGIN, MARGIN], looks, sd=1, repeats=REPEATS, seed=2)
    wrong = np.mean([any(each.finding == "equivalent" for each in study) for study in studies])
    assert wrong <= at_most(ALPHA, REPEATS)


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "sd"), [([0, 0, 0], 4), ([9, 0, 0], 4), ([MARGIN] * 3, 1), ([MARGIN, 0, 9], 1)])
def test_of_many_studies_with_three_looks_no_more_are_wrong_than_alpha_allows(truth: list[float], sd: float) -> None:
    repeats = 4000
    studies = ruled(truth, (3, 6, 10), sd, repeats, seed=8)
    none = [i for i, each in enumerate(truth) if each == 0]
    large = [i for i, each in enumerate(truth) if abs(each) >= MARGIN]
    differs = np.mean([any(study[i].finding in ("better", "worse") for i in none) for study in studies])
    same = np.mean([any(study[i].finding == "equivalent" for i in large) for study in studies])
    assert differs <= at_most(ALPHA, repeats)
    assert same <= at_most(ALPHA, repeats)


def test_what_is_shown_of_others_lets_no_wrong_difference_through() -> None:
    """Shares that shown contrasts pass on are the case in which a careless procedure finds too much."""
    studies = ruled([9, 0, 0], LOOKS, sd=4, repeats=REPEATS, seed=3)
    wrong = np.mean([any(each.finding in ("better", "worse") for each in study[1:]) for study in studies])
    assert wrong <= at_most(ALPHA, REPEATS)
    assert np.mean([study[0].finding == "better" for study in studies]) > 0.95


def test_a_true_difference_is_found_as_often_as_its_power_says() -> None:
    effect, sd, count = 3.0, 3.0, 10
    df, ratio = count - 1, effect / sd * math.sqrt(count)
    power = float(stats.nct.sf(stats.t.isf(ALPHA / 2, df), df, ratio))
    found = [study[0].finding for study in ruled([effect], (count,), sd, REPEATS, seed=4)]
    assert found.count("better") / REPEATS == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / REPEATS))
    assert found.count("worse") == 0


def test_looking_early_saves_seeds_where_the_difference_is_large_and_costs_little_power() -> None:
    studies = ruled([9.0], LOOKS, sd=3, repeats=REPEATS, seed=5)
    assert np.mean([study[0].finding == "better" for study in studies]) > 0.95
    assert np.mean([study[0].look for study in studies]) < 6


def test_no_difference_is_shown_to_be_within_the_margin_where_the_data_suffice() -> None:
    found = [study[0].finding for study in ruled([0.0], LOOKS, sd=0.5, repeats=100, seed=6)]
    assert found.count("equivalent") > 90


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8), st.floats(0.01, 0.1))
def test_with_a_single_look_it_is_holms_procedure(values: list[float], alpha: float) -> None:
    one = Estimate(1.0, se=1.0, df=5)
    rulings = rule([[Seen(one, p, Equivalence(0.5, p)) for p in values]], (4,), alpha)
    expected = holm(np.array(values))
    assert [ruling.p for ruling in rulings] == pytest.approx(expected)
    assert [ruling.equivalent for ruling in rulings] == pytest.approx(expected)
    assert [ruling.finding == "equivalent" for ruling in rulings] == [ruling.p <= alpha for ruling in rulings]


def test_a_contrast_without_a_test_is_undecided_and_still_counts_among_the_contrasts() -> None:
    alone = Estimate(5.0)
    tested = Seen(Estimate(5.0, se=1.0, df=9), 0.03, None)
    (without, beside) = rule([[Seen(alone, None, None), tested]], (5,), ALPHA)
    assert (without.finding, without.p) == ("undecided", None)
    assert (beside.finding, beside.p) == ("undecided", pytest.approx(0.06))


def test_what_was_decided_at_a_look_stays_so_with_the_figures_of_that_look() -> None:
    early, late = Seen(Estimate(5.0, se=0.2, df=2), 1e-9, None), Seen(Estimate(0.1, se=1.0, df=9), 0.9, None)
    waiting = Seen(Estimate(1.0, se=1.0, df=2), 0.4, None)
    first, second = rule([[early, waiting], [late, waiting]], (3, 10), ALPHA)
    assert (first.finding, first.look, first.seen.difference.value) == ("better", 3, 5.0)
    assert (second.finding, second.look) == ("undecided", 10)


def test_the_interval_holds_zero_exactly_where_a_single_contrast_is_not_shown() -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        values = rng.normal(2, 3, 10)
        taken = [[seen(values[:look])] for look in LOOKS]
        (ruling,) = rule([[replaced(each[0])] for each in taken], LOOKS, ALPHA)
        figure = ruling.seen.difference
        assert figure.low is not None
        assert figure.high is not None
        assert (figure.low > 0 or figure.high < 0) == (ruling.finding != "undecided")


def replaced(one: Seen) -> Seen:
    """Without the test of equivalence, which asks about another interval."""
    return Seen(one.difference, one.p, None)
