"""From a table as it was read to what a run learns from."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from jaxnet.experiment.commands import train as module
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named, source
from jaxnet.experiment.data.examples import prepare
from jaxnet.experiment.data.fingerprint import fingerprint
from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.split import split
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.options.train_config import TrainConfig


def images(rows=60, side=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (rows, side, side)).astype(np.uint8), np.arange(rows) % 3


def test_all_that_a_run_needs_of_its_data_is_there():
    examples = prepare(named.load("digits"), 3, scale="range", loss="softmax_cross_entropy")
    problem, table = pose(named.load("digits"), "softmax_cross_entropy")
    parts, problem = split(table, problem, 3, "range")
    assert (examples.name, examples.parts.features, examples.image) == ("digits", table.features, True)
    assert examples.fingerprint == fingerprint(table)
    assert examples.problem.loss == problem.loss == "softmax_cross_entropy"
    for ours, theirs in zip(examples.parts[:3], parts[:3], strict=True):
        np.testing.assert_array_equal(ours.x.values, theirs.x.values)
        np.testing.assert_array_equal(ours.y, theirs.y)
    with pytest.raises(
        BadInput, match=r"^--output-activation relu: softmax_cross_entropy_with_integer_labels includes"
    ):
        prepare(named.load("digits"), 3, output_activation="relu")


@pytest.mark.parametrize("stream", [False, True])
def test_images_keep_their_shape_until_a_network_takes_vectors(stream, tmp_path):
    x, y = images()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    parts = prepare(named.load(str(tmp_path), stream=stream), 0, scale="none").parts
    assert [part.x.shape for part in parts[:3]] == [(42, 3, 3), (6, 3, 3), (12, 3, 3)]
    of_images = {image.tobytes() for image in x.astype(np.float64)}
    whole, vectors = ([part.x.read(slice(None), np.float64) for part in of[:3]] for of in (parts, parts.shaped((9,))))
    assert {image.tobytes() for part in whole for image in part} == of_images
    for ours, theirs in zip(vectors, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs.reshape(len(theirs), 9))
    assert parts.shaped((9,)).scaling is parts.scaling


def test_the_raw_table_is_let_go_before_training(tmp_path, monkeypatch):
    x, y = images()
    np.savez(tmp_path / "a.npz", x=x, y=y)
    load, known, dead = named.load, [], []

    def watched(*arguments, **options):
        table = load(*arguments, **options)
        known.extend(weakref.ref(array) for array in (table.x.values, table.x.values.base))
        return table

    def in_place_of_training(*arguments):
        dead.extend(reference() is None for reference in known)
        raise BadInput("trained")

    monkeypatch.setattr(named, "load", watched)
    monkeypatch.setattr(module, "train_and_record", in_place_of_training)
    monkeypatch.setattr(module.canvas, "get_ready", lambda: None)
    with pytest.raises(BadInput, match=r"^trained$"):
        run(TrainConfig(data=str(tmp_path / "a.npz"), out=str(tmp_path / "run")))
    assert dead == [True, True]


def test_only_the_parts_are_held_and_the_way_there_takes_little_more_than_they_and_the_table(monkeypatch):
    monkeypatch.setattr(source, "BLOCK_NUMBERS", 2**14)
    rows, columns = 20_000, 200
    size = 8 * rows * columns
    y = (np.arange(rows) % 2)[:, None].astype(float)

    def read():
        x = InMemory(np.random.default_rng(0).normal(size=(rows, columns)))
        return Table("t", x, y, tuple(map(str, range(columns))), ("y",), labels=True)

    # What is imported on the way counts once.
    prepare(read(), 0)
    gc.collect()
    tracemalloc.start()
    try:
        examples = prepare(read(), 0)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(examples.parts.train.y) == 14_000
    assert held < 1.1 * size
    # Beside both, the training part once more, before it is scaled.
    assert peak < 2.6 * size
