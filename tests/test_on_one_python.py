"""Which tests the gate asks on one of two Pythons: see conftest.py."""

import re
from types import SimpleNamespace

import conftest
import pytest
from conftest import EVERY_CASE, ON_ONE_PYTHON, TESTS, WHOLE, asked_on_one_python


def item(file, name):
    return SimpleNamespace(path=TESTS / file, originalname=name)


def asked_on_both(file, *names):
    """Of tests in the order in which they stand in a file."""
    met = {}
    return [not asked_on_one_python(item(file, name), met) for name in names]


@pytest.mark.parametrize("case", range(3))
def test_of_three_cases_the_first_is_asked_on_both(case, request):
    assert (request.node.get_closest_marker("on_one_python") is not None) == (case > 0)


def test_what_has_no_cases_is_asked_on_both(request):
    assert request.node.get_closest_marker("on_one_python") is None


def test_of_a_file_both_are_asked_the_first_case_of_the_first_test_and_what_programs_cost():
    costs = "test_memory_grows_as_positions_do"
    expected = [True, False, False, True, False]
    assert asked_on_both("layers/test_dense.py", "test_a", "test_a", "test_b", costs, costs) == expected


def test_of_what_is_whole_both_are_asked_every_test_and_where_each_is_a_versions_own_every_case():
    names = ("test_a", "test_b", "test_b", EVERY_CASE[0], EVERY_CASE[0])
    assert asked_on_both(WHOLE[0], *names) == [True, True, False, True, True]


@pytest.mark.parametrize("file", ["test_fuzz.py", "factored/test_sum.py"])
def test_what_no_version_changes_is_asked_on_one(file):
    assert asked_on_both(file, "test_memory_at_the_peak_is_seen") == [False]


def test_every_file_and_test_that_is_named_is_there():
    assert [path for path in (*WHOLE, *ON_ONE_PYTHON) if not (TESTS / path).exists()] == []
    defined = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert set(EVERY_CASE) <= defined
    assert all(any(word in name for name in defined) for word in conftest.OF_COSTS)
