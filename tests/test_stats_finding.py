"""What the tests allow to be said."""

from hypothesis import given
from hypothesis import strategies as st

from dhrd_bench.stats.equivalence import Equivalence
from dhrd_bench.stats.finding import finding

p_values = st.floats(0, 1)


@given(st.floats(-100, 100), st.one_of(st.none(), p_values), st.one_of(st.none(), p_values), st.floats(0.001, 0.2))
def test_nothing_is_said_that_no_test_has_shown(
    difference: float, p: float | None, within: float | None, level: float
) -> None:
    found = finding(difference, p, None if within is None else Equivalence(within, within), level)
    shown = p is not None and p <= level
    assert found != "better" or (shown and difference > 0)
    assert found != "worse" or (shown and difference < 0)
    assert (found == "equivalent") == (within is not None and within <= level)
    assert found != "undecided" or not shown or difference == 0


def test_a_difference_that_is_shown_but_does_not_matter_is_none() -> None:
    assert finding(0.2, 0.001, Equivalence(0.001, 0.001)) == "equivalent"
    assert finding(0.2, 0.001, Equivalence(0.001, 0.2)) == "better"
    assert finding(5.0, 0.2) == "undecided"
