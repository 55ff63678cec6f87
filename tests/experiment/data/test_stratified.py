"""Rows drawn for a part are those that scikit-learn draws."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from jaxnet.experiment.data import stratified


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize(
    ("held", "count"), [((50, 50, 50), 15), ((178, 181, 177, 183), 72), ((2, 3, 40), 9), ((9, 9, 9, 9), 18)]
)
def test_classes_are_drawn_as_scikit_learn_draws_them(held, count, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(held)), held))
    rows = np.arange(len(labels)) * 3 + 1
    expected = train_test_split(rows, test_size=count, stratify=labels, random_state=seed)
    for ours, theirs in zip(stratified.draw(rows, count, labels, seed), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("count", [1, 7, 29])
def test_without_classes_too(count):
    rows = np.arange(30)[::-1]
    expected = train_test_split(rows, test_size=count, random_state=5)
    for ours, theirs in zip(stratified.draw(rows, count, None, 5), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
