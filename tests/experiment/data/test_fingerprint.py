"""By what the data of a run are known again."""

import math

import numpy as np
import pytest

from jaxnet.experiment.data import fingerprint as module
from jaxnet.experiment.data import named, source
from jaxnet.experiment.data.fingerprint import fingerprint
from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.source import InMemory, stays_on_disk
from jaxnet.experiment.data.table import Table


def table_of(x):
    x = InMemory(x) if isinstance(x, np.ndarray) else x
    features = tuple(f"x{k}" for k in range(math.prod(x.shape[1:])))
    return Table("somewhere", x, np.arange(len(x))[:, None] / 7, features, ("y",))


def test_runs_that_are_there_know_their_data_again():
    """What earlier versions wrote, who had an example's numbers in a row."""
    x = np.arange(24.0).reshape(6, 2, 2)
    known = "6d19fb4426dd928b4d09d8b22cbe8da08eac6ef81b715d943ddb118e5f47184c"
    assert fingerprint(table_of(x)) == fingerprint(table_of(x.reshape(6, 4))) == known
    for name, known in (
        ("digits", "bfbe26ecfa2ff668125ab2638dc316e3231fa1cc243c134c5af45fe76960dbc8"),
        ("linnerud", "c3d56bb922d206445d4ba088d986ed51a898e05dcfc06689ed33b5b85ff8a709"),
    ):
        assert fingerprint(pose(named.load(name))[1]) == known


@pytest.mark.parametrize("dtype", [">f4", "uint8"])
def test_data_on_disk_is_known_by_some_rows_that_are_those_of_the_same_data_in_memory(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STREAMED_ROWS", 5)
    monkeypatch.setattr(source, "BLOCK_NUMBERS", 8)
    x = np.arange(84).reshape(21, 2, 2).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    on_disk = table_of(stays_on_disk(np.load(tmp_path / "x.npy", mmap_mode="r")))
    in_memory = table_of(x.astype(np.float64))
    assert fingerprint(on_disk) == fingerprint(in_memory, streamed=True)
    assert fingerprint(on_disk, streamed=False) == fingerprint(in_memory)
    assert fingerprint(on_disk) != fingerprint(in_memory)
    # Of 21 rows each fifth is looked at.
    for row, seen in ((10, True), (11, False)):
        other = x.astype(np.float64)
        other[row, 1, 1] += 1
        assert (fingerprint(table_of(other), streamed=True) != fingerprint(on_disk)) == seen
        assert fingerprint(table_of(other)) != fingerprint(in_memory)


@pytest.mark.parametrize("change", [
    lambda table: table._replace(features=("a", "b")),
    lambda table: table._replace(targets=("z",)),
    lambda table: table._replace(y=table.y + 1),
    lambda table: table.at(np.arange(5)),
    lambda table: table.at(np.arange(6)[::-1]),
])  # fmt: skip
def test_other_data_have_another(change):
    table = table_of(np.arange(12.0).reshape(6, 2))
    assert fingerprint(change(table)) != fingerprint(table)
    assert fingerprint(table._replace(name="elsewhere")) == fingerprint(table)
