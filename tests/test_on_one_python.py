"""Which tests the gate asks on one of two Pythons: see conftest.py."""

import pytest


@pytest.mark.parametrize("case", range(4))
def test_of_four_cases_the_two_in_between_are_asked_on_one_python(case, request):
    assert (request.node.get_closest_marker("on_one_python") is not None) == (case in (1, 2))


def test_what_has_no_cases_is_asked_on_both(request):
    assert request.node.get_closest_marker("on_one_python") is None
