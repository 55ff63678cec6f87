"""Data sets that scikit-learn ships are what its own functions make of them."""

import sys

import numpy as np
import pytest
import sklearn.datasets

from jaxnet.experiment.data import named, shipped


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer"])
def test_what_is_read_from_the_files_is_what_scikit_learn_reads(name):
    table, bunch = named.load(name), getattr(sklearn.datasets, f"load_{name}")()
    np.testing.assert_array_equal(table.x.values, bunch.images if name == "digits" else bunch.data)
    np.testing.assert_array_equal(table.y, np.asarray(bunch.target_names).astype(str)[bunch.target])
    assert table.x.values.dtype == np.float64
    assert table.features == tuple(map(str, bunch.feature_names))
    assert (table.targets, table.image) == (("class",), name == "digits")


@pytest.mark.parametrize(
    ("name", "targets"), [("diabetes", ("disease progression",)), ("linnerud", ("Weight", "Waist", "Pulse"))]
)
def test_targets_that_are_numbers_are_columns(name, targets):
    table, bunch = named.load(name), getattr(sklearn.datasets, f"load_{name}")()
    np.testing.assert_array_equal(table.x.values, bunch.data)
    np.testing.assert_array_equal(table.y, bunch.target.reshape(len(bunch.data), -1))
    assert (table.features, table.targets) == (tuple(bunch.feature_names), targets)


def test_where_scikit_learn_is_not_there_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError) as error:
        shipped.digits("digits")
    assert str(error.value) == "the package sklearn is not installed; pip install -e '.[train]' brings it"
