"""Training, validation and test part."""

import re

import numpy as np
import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named
from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.split import Fractions, split
from jaxnet.experiment.data.table import Table


def numbered(classes, rows, test=None):
    """A table whose first feature is the row's number."""
    x = np.stack([np.arange(rows, dtype=float), np.full(rows, 0.1), np.arange(rows) % 7.0], axis=1)
    y = np.arange(rows)[:, None] % float(classes)
    return Table("t", InMemory(x), y, ("row", "constant", "b"), ("y",), test, labels=True)


def parts_of(table, seed=0, scale="standard"):
    problem, table = pose(table)
    return split(table, problem, seed, scale)


def raw(part, scaling):
    return np.round(part.x.values[:, 0] / scaling.factor[0] + scaling.shift[0]).astype(int)


def test_the_parts_share_no_row_and_leave_none_out():
    parts, _ = parts_of(numbered(4, 200))
    rows = [raw(part, parts.scaling) for part in (parts.train, parts.validation, parts.test)]
    assert [len(part) for part in rows] == [140, 20, 40]
    assert sorted(np.concatenate(rows)) == list(range(200))


def test_classes_are_stratified():
    parts, _ = parts_of(numbered(4, 200))
    for part, count in ((parts.train, 35), (parts.validation, 5), (parts.test, 10)):
        assert np.bincount(part.y).tolist() == [count] * 4


def test_a_class_of_which_one_row_is_left_for_two_parts_is_named():
    table = numbered(2, 40)
    table.y[:] = 1
    table.y[[0, 10, 20]] = 0
    problem, table = pose(table)
    with pytest.raises(BadInput) as error:
        split(table, problem, 0, fractions=Fractions(0.1, 0.6))
    assert str(error.value) == "--data t: of class '0' one row is left for two parts; expected more rows of it"


def test_features_are_scaled_by_the_training_part_only():
    parts, _ = parts_of(numbered(4, 200))
    np.testing.assert_allclose(parts.train.x.values[:, [0, 2]].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(parts.train.x.values[:, [0, 2]].std(0), 1, rtol=1e-12)
    assert abs(parts.test.x.values[:, 0].mean()) > 1e-3
    np.testing.assert_allclose(parts.scaling.shift[0], raw(parts.train, parts.scaling).mean())


def test_regression_targets_are_scaled_by_the_training_part():
    parts, problem = parts_of(named.load("linnerud"))
    np.testing.assert_allclose(problem.mean, parts.train.y.mean(0))
    np.testing.assert_allclose(problem.scale, parts.train.y.std(0))


def test_the_seed_decides_the_parts():
    first, again, other = (parts_of(numbered(4, 200), seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test.x.values, again.test.x.values)
    assert (first.test.x.values != other.test.x.values).any()


def test_a_test_part_that_is_set_apart_is_kept():
    table = numbered(4, 100, test=numbered(4, 8))
    parts, _ = parts_of(table)
    assert raw(parts.test, parts.scaling).tolist() == list(range(8))
    assert len(parts.train.x) + len(parts.validation.x) == 100


def test_a_value_beyond_the_networks_arithmetic_is_named_where_nothing_scales_it():
    table = numbered(4, 200)
    table.x.values[150, 2] = 1e30
    with pytest.raises(BadInput) as error:
        parts_of(table, scale="none")
    assert str(error.value) == (
        "--data t, row 151, column 'b': expected a number up to 1e+15, since --scale none leaves it as it is; got 1e+30"
    )
    # Scaled, it is within the bounds, wherever it fell.
    parts = [parts_of(table, seed)[0] for seed in range(3)]
    assert max(np.abs(part.x.values).max() for of_seed in parts for part in of_seed[:3]) <= 10


def test_a_target_beyond_the_networks_arithmetic_is_named():
    table = numbered(4, 200)._replace(y=np.arange(200.0)[:, None] / 3, labels=False)
    held_out = int(raw(parts_of(table)[0].test, parts_of(table)[0].scaling)[0])
    table.y[held_out, 0] = 1e30
    with pytest.raises(BadInput) as error:
        parts_of(table)
    start, end = str(error.value).split(" is ")
    assert start == f"--data t, row {held_out + 1}, column 'y': 1e+30"
    assert re.fullmatch(r"\de\+\d\d standard deviations from the mean; expected at most 1e\+15", end)


def test_too_few_rows_for_the_classes_are_named():
    with pytest.raises(BadInput) as error:
        parts_of(numbered(5, 20))
    assert str(error.value) == "--data t: a part of 4 of 20 rows cannot hold 5 classes; expected more rows"
