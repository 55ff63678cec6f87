"""Data that stays on disk: the same run as in memory, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named, source
from jaxnet.experiment.data.examples import prepare
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training import blocks
from jaxnet.experiment.training.batches import Batches, blocks_of

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few batches, so that a small data set has many and a smaller last one."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(source, "PIECE_NUMBERS", 28)
    monkeypatch.setattr(source, "BLOCK_NUMBERS", 100)


@pytest.fixture
def folder(tmp_path):
    """(x, y) -> a folder that holds them."""

    def write(x, y):
        where = tmp_path / "data"
        where.mkdir(exist_ok=True)
        np.save(where / "x.npy", x)
        np.save(where / "y.npy", y)
        return str(where)

    return write


def examples(dtype=np.float32, classes=3):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(203, 4)) * 50 + 100).astype(dtype)
    y = x[:, :classes].argmax(axis=1) if classes else x[:, :2] - x[:, 2:].astype(float)
    return x, y


def is_mapped(x):
    return x.on_disk and isinstance(x.stored.base, np.memmap)


def trained(tmp_path, name, **options):
    out = tmp_path / name
    result = run(TrainConfig(out=str(out), epochs=4, hidden=(8,), **options))
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    with np.load(out / "model.npz") as archive:
        model = {name: archive[name] for name in archive.files if name != "description"}
    return result, metrics, model


@pytest.mark.parametrize(("dtype", "options"), [
    (np.uint8, {"batch_size": 16}),
    (np.float32, {"batch_size": 13}),
    (np.float32, {"batch_size": 500, "optimizer": "momentum"}),
    (np.uint8, {"batch_size": 16, "dtype": "float64", "early_stopping": 1, "learning_rate": 0.1}),
], ids=["bytes", "batches of 13", "one batch", "float64 and early stopping"])  # fmt: skip
def test_a_streamed_run_is_the_run_in_memory(dtype, options, folder, tmp_path, small_blocks):
    where = folder(*examples(dtype))
    (ours, metrics, model), (theirs, expected, expected_model) = (
        trained(tmp_path, f"{streamed}", data=where, stream=streamed, **options) for streamed in (True, False)
    )
    assert len(metrics) == len(expected)
    for line, expected_line in zip([*metrics, ours], [*expected, theirs], strict=True):
        for name in set(line) - {"seconds", "device", "classes"}:
            # The same operations; means over several blocks are added up in another order.
            assert line[name] == pytest.approx(expected_line[name], rel=1e-6), name
    for name, scores in ours["classes"].items():
        assert scores == pytest.approx(theirs["classes"][name], rel=1e-6), name
    assert model.keys() == expected_model.keys()
    for name, array in model.items():
        np.testing.assert_allclose(array, expected_model[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_streamed_regression_is_that_in_memory(folder, tmp_path, small_blocks):
    where = folder(*examples(classes=0))
    ours, theirs = (trained(tmp_path, f"{s}", data=where, stream=s, batch_size=16)[0] for s in (True, False))
    assert ours["test_rmse"] == pytest.approx(theirs["test_rmse"], rel=1e-6)
    assert ours["targets"].keys() == {"y0", "y1"}


@pytest.mark.parametrize("mesh", [None, "data=4"])
def test_images_reach_the_devices_in_their_shape_from_memory_and_from_disk(mesh, folder, small_blocks):
    x, y = examples(np.uint8)
    where, layout, seen = folder(x.reshape(203, 2, 2), y), make_layout(mesh), []
    for stream in (True, False):
        prepared = prepare(named.load(where, stream=stream), 0)
        train, validation, *_ = prepared.parts
        batches = Batches(train, prepared.problem, 16, "float32", layout, jax.random.key(0))
        order, cuts = batches.order(0), [(0, 3), (3, 8), (8, batches.number)]
        pieces = [jax.device_get(piece) for piece in batches.pieces(order, cuts)]
        assert [of_piece.shape for of_piece, _, _ in pieces] == [(3, 16, 2, 2), (5, 16, 2, 2), (1, 16, 2, 2)]
        for (first, end), (of_piece, *_) in zip(cuts, pieces, strict=True):
            read = train.x.read(order[first:end].ravel(), np.float32)
            np.testing.assert_array_equal(of_piece.reshape(-1, 2, 2), read)
        whole = [jax.device_get(block) for block in blocks_of(validation, prepared.problem, "float32", layout)()]
        seen.append(np.concatenate([block.x[: block.rows] for block in whole]))
        np.testing.assert_array_equal(seen[-1], validation.x.read(slice(None), np.float32))
    np.testing.assert_array_equal(*seen)
    assert seen[0].shape == (20, 2, 2)


def test_predictions_for_a_folder(folder, tmp_path, capsys):
    where = folder(*examples())
    trained(tmp_path, "run", data=where)
    predict(PredictConfig(str(tmp_path / "run"), data=where))
    assert capsys.readouterr().out.splitlines()[-203:][0].count(",") == 3


def test_idx_images_are_streamed(tmp_path, small_blocks):
    def idx(array):
        return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()

    x, y = examples(np.uint8)
    where = tmp_path / "idx"
    where.mkdir()
    (where / "train-images").write_bytes(idx(x.reshape(-1, 2, 2)))
    (where / "train-labels").write_bytes(idx(y.astype(np.uint8)))
    (where / "t10k-images").write_bytes(idx(x[:50].reshape(-1, 2, 2)))
    (where / "t10k-labels").write_bytes(idx(y[:50].astype(np.uint8)))
    table = named.load(str(where), stream=True)
    assert is_mapped(table.x)
    assert is_mapped(table.test.x)
    ours, theirs = (trained(tmp_path, f"{s}", data=str(where), stream=s, scale="range")[0] for s in (True, False))
    assert ours["test_loss"] == pytest.approx(theirs["test_loss"], rel=1e-6)
    (where / "train-images.gz").write_bytes(b"")
    (where / "train-images").rename(where / "train.gone")
    with pytest.raises(BadInput) as error:
        named.load(str(where), stream=True)
    assert str(error.value) == (
        f"--stream: {where}/train-images.gz is gzipped, and cannot be read in blocks; unpack it with gunzip"
    )


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_inputs_stay_on_disk_only_if_they_are_streamed(dtype, folder, small_blocks):
    where = folder(*examples(dtype))
    assert is_mapped(named.load(where, stream=True).x)
    assert not named.load(where).x.on_disk


@pytest.mark.parametrize(("place", "value", "message"), [
    ((150, 2), np.nan, "{data}/x.npy, x, row 151, column 3: expected a finite number, got nan"),
    ((150, 2), 1e39, "{data}/x.npy, x, row 151, column 3: expected a finite number, got inf"),
])  # fmt: skip
def test_a_bad_number_is_named_with_its_row(place, value, message, folder, small_blocks):
    x, y = examples()
    with np.errstate(over="ignore"):
        x[place] = value
    where = folder(x, y)
    for streamed in (False, True):
        with pytest.raises(BadInput) as error:
            named.load(where, stream=streamed)
        assert str(error.value) == "--data " + message.format(data=where)


def test_a_number_too_large_is_named_with_its_row_where_nothing_scales_it(folder, tmp_path, small_blocks, monkeypatch):
    x, y = examples()
    x[150, 2] = 1e16
    for streamed in (False, True):
        with pytest.raises(BadInput, match=r"row 151, column 'x2': expected a number up to 1e\+15, since --scale none"):
            trained(tmp_path, "run", data=folder(x, y), stream=streamed, scale="none")


@pytest.mark.parametrize(("break_it", "message"), [
    (lambda x, y: y.unlink(), "{data}: has x.npy and no y.npy; expected both"),
    (lambda x, y: x.write_bytes(x.read_bytes()[:-1]), "{data}/x.npy: expected a whole NumPy .npy file of numbers"),
    (lambda x, y: x.write_bytes(b"\x93NUMPY"), "{data}/x.npy: expected a whole NumPy .npy file of numbers"),
    (lambda x, y: np.save(x, np.array([{}]), allow_pickle=True),
     "{data}/x.npy: x holds Python objects, which only a pickle can, and pickles are not loaded; "
     "save it as numbers with x.astype(float)"),
    (lambda x, y: np.save(x, np.zeros(203)),
     "{data}/x.npy: expected x of numbers, (examples, features), got float64 (203,)"),
    (lambda x, y: np.save(y, np.zeros(5)),
     "{data}/y.npy: expected y of numbers or texts, (203,) or (203, targets), got float64 (5,)"),
], ids=["no y", "cut short", "no header", "a pickle", "one axis", "other length"])  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_a_broken_folder_is_named(break_it, message, streamed, folder, tmp_path):
    where = folder(*examples())
    break_it(tmp_path / "data" / "x.npy", tmp_path / "data" / "y.npy")
    with pytest.raises(BadInput) as error:
        named.load(where, stream=streamed)
    assert str(error.value) == "--data " + message.format(data=where)


def test_what_cannot_be_streamed_is_named():
    with pytest.raises(BadInput) as error:
        named.load("digits", stream=True)
    assert str(error.value) == (
        "--stream: expected --data to be a folder with x.npy and y.npy or with IDX files, got digits"
    )


def test_a_failure_while_reading_ahead_is_not_lost():
    def make(number):
        if number == 2:
            raise OSError(5, "Input/output error")
        return jnp.asarray(number)

    seen = []
    with pytest.raises(OSError, match="Input/output error"):
        seen.extend(int(made) for made in blocks._ahead(make, range(4)))
    assert seen == [0, 1]
    assert jax.device_get(list(blocks._ahead(make, [7]))) == [7]
    assert list(blocks._ahead(make, [])) == []
