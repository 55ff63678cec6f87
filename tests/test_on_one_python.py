"""Which tests the gate asks on one of two Pythons: see conftest.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import asked_on_one_python

TESTS = Path(__file__).parent


@pytest.mark.parametrize("case", range(3))
def test_of_three_cases_the_first_is_asked_on_both(case, request):
    assert (request.node.get_closest_marker("on_one_python") is not None) == (case > 0)


def test_what_has_no_cases_is_asked_on_both(request):
    assert request.node.get_closest_marker("on_one_python") is None


@pytest.mark.parametrize(("file", "name", "one"), [
    ("layers/test_dense.py", "test_backward_equals_autodiff_with_and_without_positions", False),
    ("layers/test_conv.py", "test_its_gradient_costs_what_autodiffs_does_and_a_clipped_one_little_more", False),
    ("layers/test_conv.py", "test_over_devices_the_numbers_are_those_of_one", True),
    ("networks/test_every_network.py", "test_over_eight_devices_gradients_and_clipped_ones_are_those_of_one", False),
    ("test_fuzz.py", "test_memory_at_the_peak_is_seen", True),
])  # fmt: skip
def test_of_a_layer_both_are_asked_its_derivative_and_its_costs(file, name, one):
    assert asked_on_one_python(SimpleNamespace(path=TESTS / file, originalname=name), set()) == one


def test_where_every_case_is_what_one_version_makes_of_it_all_are_asked_on_both():
    cost, other = (
        SimpleNamespace(path=TESTS / file, originalname="test_it", callspec=None)
        for file in ("test_cost.py", "test_repeat.py")
    )
    seen = set()
    assert [asked_on_one_python(item, seen) for item in (cost, other, cost, other)] == [False, False, False, True]
