"""How features are scaled: to one size, within bounds, by what the rows given hold."""

import numpy as np
import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named, source
from jaxnet.experiment.data.mapped import map_npy
from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.scaling import BOUND, Scaling, require_moderate, scaling_of
from jaxnet.experiment.data.source import InMemory, stays_on_disk
from jaxnet.experiment.data.split import split
from jaxnet.experiment.data.table import Table

ROWS = np.arange(0, 100, 2)
EVERY = [("standard", False), ("standard", True), ("range", False), ("range", True), ("none", False), ("none", True)]


def examples():
    """Five columns of other means and deviations; every second row is to be learnt from."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(100, 5)) * [1, 1e-3, 1e3, 5, 0.1] + [0, 1, 1e4, -3, 0.7]


@pytest.mark.parametrize("image", [False, True])
def test_standard_is_mean_0_and_deviation_1_of_each_column_or_of_all(image):
    x = examples()
    axis = None if image else 0
    train = scaling_of(InMemory(x), ROWS, "standard", image=image)(x)[ROWS]
    expected = (x[ROWS] - x[ROWS].mean(axis)) / x[ROWS].std(axis)
    np.testing.assert_allclose(train, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("image", [False, True])
def test_range_is_from_0_to_1_of_each_column_or_of_all(image):
    x = examples()
    scaling = scaling_of(InMemory(x), ROWS, "range", image=image)
    axis = None if image else 0
    low, high = x[ROWS].min(axis), x[ROWS].max(axis)
    np.testing.assert_allclose(scaling(x), np.clip((x - low) / (high - low), 0, 1), rtol=1e-9, atol=1e-12)
    assert scaling(x[ROWS]).min() == 0
    assert (scaling(x) == 1).any()


def test_none_is_nothing():
    x = examples() * 1e9
    np.testing.assert_array_equal(scaling_of(InMemory(x), ROWS, "none", image=False)(x), x)


@pytest.mark.parametrize(("scale", "image"), EVERY[:4])
@pytest.mark.parametrize("odd", [1e-300, 1e-9, 1.0, 1e9, 1e150])
def test_a_column_that_hardly_varies_in_training_puts_no_value_out_of_bounds(scale, image, odd):
    """The pixel at an edge, which one image in a thousand has, and a test image has all of."""
    x = np.zeros((100, 3))
    x[:, 0] = np.arange(100)
    x[0, 1] = odd
    x[[1, 3, 5, 7], 1] = odd * np.array([-1e3, 1e3, 1e-3, 0])
    x[::2, 2] = 1e-200
    x[1, 2], x[3, 2] = 1e150, -1e150
    scaling = scaling_of(InMemory(x), ROWS, scale, image=image)
    assert np.isfinite(scaling(x)).all()
    assert scaling(x).min() >= scaling.bounds[0]
    assert scaling(x).max() <= scaling.bounds[1]
    assert scaling.bounds.tolist() == ([0, 1] if scale == "range" else [-BOUND, BOUND])
    if not image:
        # What varies, however little, is seen; what does not is 0 whatever comes later.
        assert scaling(x)[0, 1] > scaling(x)[2, 1]
        np.testing.assert_array_equal(scaling(x)[:, 2], 0)


@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e9 + 0.1, 1e-200])
def test_rounding_is_no_variation(value):
    """A column computed in two ways: constant, but for its last bit."""
    x = np.full((100, 1), value)
    x[::4] = np.nextafter(value, np.inf)
    for scale in ("standard", "range"):
        scaling = scaling_of(InMemory(x), np.arange(100), scale, image=False)
        np.testing.assert_array_equal(scaling(x), 0)
        np.testing.assert_array_equal(scaling(np.array([[1e6]])), 0)


@pytest.mark.parametrize("size", [1e-160, 1e-15, 1e15, 1e149])
def test_the_unit_of_a_column_does_not_matter(size):
    """Its squares may over- or underflow."""
    x = examples() - [0, 1, 1e4, -3, 0.7]
    expected, actual = (scaling_of(InMemory(values), ROWS, "standard", image=False)(values) for values in (x, size * x))
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", ">f4", "uint8", "bool"])
@pytest.mark.parametrize(("scale", "image"), EVERY)
def test_data_on_disk_is_scaled_in_blocks_by_the_same_numbers(scale, image, dtype, tmp_path, monkeypatch):
    x = (np.random.default_rng(0).random((100, 4)) * 200).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    whole = scaling_of(InMemory(x.astype(np.float64)), ROWS, scale, image=image)
    monkeypatch.setattr(source, "BLOCK_NUMBERS", 24)
    on_disk = map_npy(tmp_path / "x.npy")
    blockwise = scaling_of(stays_on_disk(on_disk), ROWS, scale, image=image)
    for ours, theirs in zip(blockwise, whole, strict=True):
        # Sums over 50 rows, added up in another order.
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    np.testing.assert_array_equal(whole(on_disk), whole(x.astype(np.float64)))


def test_values_that_no_bounds_hold_are_named():
    table = Table("t", InMemory(np.array([[1.0, 2.0], [3.0, -1e20]])), None, ("a", "b"), ("y",))
    unscaled = Scaling(np.zeros(2), np.ones(2), np.array([-np.inf, np.inf]))
    with pytest.raises(BadInput) as error:
        require_moderate(table, unscaled)
    assert str(error.value) == (
        "--data t, row 2, column 'b': expected a number up to 1e+15, since --scale none leaves it as it is; got -1e+20"
    )
    bounded = unscaled._replace(bounds=np.array([-BOUND, BOUND]))
    require_moderate(table, bounded)
    assert table.x.scaled(bounded).values.tolist() == [[1, 2], [3, -BOUND]]


def test_digits_are_scaled_as_images():
    problem, table = pose(named.load("digits"))
    parts, _ = split(table, problem, 0)
    assert parts.train.x.values.std() == pytest.approx(1)
    # By column, one of seed 0's test images lies 25 deviations away.
    assert np.abs(parts.test.x.values).max() < 2
