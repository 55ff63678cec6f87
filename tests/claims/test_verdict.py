"""How a claim is judged, on numbers whose answer is known."""

import numpy as np
import pytest
from claims import verdict
from claims.verdict import Claim, Interval, at_most, more, no_worse


def test_the_interval_is_students():
    # Two values 0 and 2: standard error 1, and t(0.975, 1 degree of freedom) = tan(0.475 pi) = 12.7062.
    interval = Interval.of(np.array([0.0, 2.0]))
    np.testing.assert_allclose(interval, (1, 1 - 12.7062047, 1 + 12.7062047), rtol=1e-8)
    # Ten values of standard deviation 1: t(0.975, 9) = 2.26215716.
    values = np.array([-1.0, 1.0] * 5) * np.sqrt(9 / 10)
    np.testing.assert_allclose(Interval.of(values), (0, -2.26215716 / np.sqrt(10), 2.26215716 / np.sqrt(10)), atol=1e-8)
    assert Interval(1.0, 0.5, 1.5).text() == "1 [0.5, 1.5]"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.0, 1.1, 0.9], "holds"),
        ([-1.0, -1.1, -0.9], "does not hold"),
        ([1.0, -1.0, 0.5], "not told apart"),
        ([0.0, 0.0, 0.0], "does not hold"),
        ([np.nan, 1.0, 1.0], "not told apart"),
    ],
)
def test_more_than_0(values, found):
    row = more("here", "what", np.array(values))
    assert (row.claimed, row.verdict) == ("> 0", found)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.0, 1.1, 0.9], "holds"),
        ([2.0, 2.0, 2.0], "holds"),
        ([3.0, 3.1, 2.9], "does not hold"),
        ([1.0, 3.0, 2.0], "not told apart"),
    ],
)
def test_at_most_a_bound(values, found):
    row = at_most("here", "what", np.array(values), 2.0)
    assert (row.claimed, row.verdict) == ("<= 2", found)


def test_no_worse_allows_a_twentieth_of_the_reference():
    reference = np.array([1.0, 2.0, 3.0])
    assert no_worse("here", "what", reference + 0.09, reference).verdict == "holds"
    assert no_worse("here", "what", reference + 0.11, reference).verdict == "does not hold"
    assert no_worse("here", "what", reference - 5, reference).verdict == "holds"


def test_a_claim_holds_where_all_rows_do_depends_where_some_do_and_does_not_where_none_does():
    good, bad, unclear = (more("", "", np.array(values)) for values in ([1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]))
    claim = Claim("", "", "", (), "", (good, good), "", "", "", {})
    assert claim.verdict == "holds"
    assert claim._replace(rows=(good, unclear)).verdict == "depends"
    assert claim._replace(rows=(bad, unclear)).verdict == "does not hold"
    assert verdict.of((bad, good)) == "depends"
