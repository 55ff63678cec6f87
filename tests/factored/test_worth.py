"""Where forming a gradient is worth it, from the operations that are counted in `worth_forming`."""

import pytest

from jaxnet.factored.worth import BATCHED, READ, worth_forming


@pytest.mark.parametrize(("o", "i"), [(12, 12), (64, 288), (512, 128)])
def test_forming_is_worth_it_from_a_number_of_positions_on(o, i):
    answers = [worth_forming(t, o, i) for t in range(1, 400)]
    first = answers.index(True)
    assert not any(answers[:first])
    assert all(answers[first:])
    # Pairs of positions take more than passes over what is formed, and than its product is dearer by.
    before, after = ((2 * t**2 * (o + i), (READ + BATCHED * t) * o * i) for t in (first, first + 1))
    assert before[0] <= before[1]
    assert after[0] > after[1]


def test_sides_are_interchangeable():
    assert all(worth_forming(t, 64, 288) == worth_forming(t, 288, 64) for t in range(1, 100))
