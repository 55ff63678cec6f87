"""Examples in memory and on disk: whoever reads them sees no difference."""

import numpy as np
import pytest

from jaxnet.experiment.data import source
from jaxnet.experiment.data.scaling import Scaling
from jaxnet.experiment.data.source import InMemory, Source, in_blocks, stays_on_disk

X = np.random.default_rng(0).integers(0, 256, (20, 3, 2)).astype(np.uint8)
SCALING = Scaling(np.arange(6.0), np.linspace(0, 0.2, 6), np.array([-1.0, 17.0]))
SCALED = np.clip((X.reshape(20, 6) - SCALING.shift) * SCALING.factor, -1, 17).reshape(X.shape)


@pytest.fixture(params=["in memory", "on disk", "on disk, columns first"])
def of_array(request, tmp_path, monkeypatch):
    """From an array to a source of it, of which three examples are scaled at a time."""
    monkeypatch.setattr(source, "PIECE_NUMBERS", 18)

    def of(x):
        if request.param == "in memory":
            return InMemory(x)
        np.save(tmp_path / "x.npy", np.asfortranarray(x) if "columns" in request.param else x)
        return stays_on_disk(np.load(tmp_path / "x.npy", mmap_mode="r"))

    return of


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(4, 15), slice(17, 30), np.array([19, 0, 7, 7, 3]), np.array([], int)],
    ids=["all", "some", "beyond the end", "in any order", "none"],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_rows_are_read_in_the_shape_of_an_example(rows, dtype, of_array):
    x = of_array(X)
    assert isinstance(x, Source)
    assert (x.shape, len(x)) == ((20, 3, 2), 20)
    read = x.read(rows, dtype)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, X[rows])


def test_rows_of_some_examples_that_are_scaled_and_in_another_shape(of_array):
    chosen = np.array([5, 0, 19, 3, 3, 8, 11])
    x = of_array(X).at(chosen).at(np.arange(1, 7)).scaled(SCALING).shaped((6,))
    assert (x.shape, len(x)) == ((6, 6), 6)
    rows = np.array([4, 0, 5, 2])
    expected = SCALED[chosen[1:]][rows].reshape(4, 6)
    np.testing.assert_array_equal(x.read(rows, np.float64), expected)
    np.testing.assert_array_equal(x.read(rows, "float32"), expected.astype(np.float32))
    again = x.shaped((2, 3)).read(slice(1, 3), np.float64)
    np.testing.assert_array_equal(again, SCALED[[19, 3]].reshape(2, 2, 3))


def test_blocks_are_vectors_and_leave_none_out(of_array, monkeypatch):
    monkeypatch.setattr(source, "BLOCK_NUMBERS", 25)
    for rows in (None, np.array([3, 9, 4, 19, 0])):
        starts, blocks = zip(*in_blocks(of_array(X), rows), strict=True)
        examples = X if rows is None else X[rows]
        assert starts == tuple(range(0, len(examples), 4))
        assert {block.dtype for block in blocks} == {np.dtype(np.float64)}
        np.testing.assert_array_equal(np.concatenate(blocks), examples.reshape(len(examples), 6))


def test_what_is_read_from_disk_is_in_memory_of_its_own(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = stays_on_disk(np.load(tmp_path / "x.npy", mmap_mode="r+"))
    first, again = (x.read(slice(None), "uint8") for _ in range(2))
    assert not np.shares_memory(first, again)
    assert not np.shares_memory(first, x.stored)
    # JAX takes it as it is.
    assert first.ctypes.data % source.ALIGNMENT == 0
    x.stored[0] += 1
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(x.read(np.array([0]), "uint8"), first[:1] + 1)
    assert not isinstance(x.at(np.arange(20)[::-1]).stored, np.memmap)


def test_values_beyond_the_dtype_become_infinite_without_a_warning(tmp_path):
    """A warning is an error while these tests run."""
    np.save(tmp_path / "x.npy", np.array([[1e300, 1.0]]))
    x = stays_on_disk(np.load(tmp_path / "x.npy", mmap_mode="r"))
    np.testing.assert_array_equal(x.read(slice(None), np.float32), [[np.inf, 1]])
