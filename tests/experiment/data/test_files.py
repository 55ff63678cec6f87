"""Reading .npz and .npy files, and naming sources; every mistake is named with its place."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from on_disk import refusal

from jaxnet.experiment.data import named
from jaxnet.experiment.data.posing import pose


def test_one_hot_targets_are_classes(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((4, 2)), y=np.eye(3)[[0, 2, 1, 2]])
    assert named.load(str(tmp_path / "a.npz")).y.tolist() == ["0", "2", "1", "2"]


def test_an_archive_as_keras_saves_it_has_its_own_test_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(80, dtype=np.uint8).reshape(20, 2, 2), (np.arange(20) % 3).astype(np.uint8)
    parts = {"x_train": x, "y_train": y, "x_test": x[:4], "y_test": y[:4]}
    np.savez("mnist.npz", **parts)
    problem, table = pose(named.load("mnist.npz"))
    np.testing.assert_array_equal(table.x.values, x)
    np.testing.assert_array_equal(table.test.x.values, x[:4])
    assert (problem.classes, table.test.y.tolist(), table.image) == (("0", "1", "2"), [0, 1, 2, 0], True)
    np.savez("mnist.npz", **parts | {"x_test": x[:4, :1]})
    expected = "expected x_test of examples of x_train's shape, 2 x 2, got 1 x 2"
    assert refusal("mnist.npz") == f"--data mnist.npz: {expected}"
    np.savez("mnist.npz", **{name: array for name, array in parts.items() if name != "y_test"})
    expected = "has no array 'y_test'; expected x and y, got x_train, y_train, x_test"
    assert refusal("mnist.npz") == f"--data mnist.npz: {expected}"


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_one_hot_targets_are_classes_whatever_their_type(dtype, tmp_path):
    numbers = np.arange(48) % 12
    np.savez(tmp_path / "a.npz", x=np.ones((48, 2)), y=np.eye(12)[numbers].astype(dtype))
    problem, table = pose(named.load(str(tmp_path / "a.npz")))
    # By their size: 10 is after 9.
    assert problem.classes == tuple(map(str, range(12)))
    np.testing.assert_array_equal(table.y, numbers)


def test_truth_values_for_several_targets_at_once_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=np.ones((4, 2)), y=np.ones((4, 2), bool))
    assert refusal("a.npz") == "--data a.npz: expected one target for classes, got y of bool (4, 2)"


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, ">i8", np.int32, np.uint8, np.float64, np.float32, "U"])
@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_labels_are_called_what_they_are(dtype, kind, tmp_path):
    """Also beyond 2^53, where float64 merges neighbours."""
    names = ["1", "2", "10"]
    if np.dtype(dtype).itemsize == 8 and np.dtype(dtype).kind in "iu":
        names += ["9007199254740992", "9007199254740993", "9223372036854775807"]
    numbers = np.arange(60) % len(names)
    labels = np.array(names).astype(dtype)[numbers]
    if kind == "npz":
        np.savez(tmp_path / "a.npz", x=np.ones((60, 2)), y=labels)
    else:
        (tmp_path / "a.npz").mkdir()
        np.save(tmp_path / "a.npz" / "x.npy", np.ones((60, 2)))
        np.save(tmp_path / "a.npz" / "y.npy", labels[:, None])
    problem, table = pose(named.load(str(tmp_path / "a.npz")))
    assert problem.classes == tuple(names)
    np.testing.assert_array_equal(table.y, numbers)


@pytest.mark.parametrize(("name", "remedy"), [("x", "numbers with x.astype(float)"), ("y", "texts with y.astype(str)")])
def test_python_objects_are_named_with_a_remedy(name, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = {"x": np.ones((4, 2)), "y": np.ones(4)}
    arrays[name] = arrays[name].astype(object)
    message = f"{name} holds Python objects, which only a pickle can, and pickles are not loaded; save it as {remedy}"
    np.savez("a.npz", **arrays)
    assert refusal("a.npz") == f"--data a.npz: {message}"
    (tmp_path / "folder").mkdir()
    for stem, array in arrays.items():
        np.save(f"folder/{stem}.npy", array, allow_pickle=True)
    for streamed in (False, True):
        assert refusal("folder", stream=streamed) == f"--data folder/{name}.npy: {message}"


def test_images_are_known_by_their_axes_or_bytes(tmp_path):
    for x, image in ((np.ones((6, 4)), False), (np.ones((6, 2, 2)), True), (np.ones((6, 4), np.uint8), True)):
        np.savez(tmp_path / "a.npz", x=x, y=np.arange(6))
        assert named.load(str(tmp_path / "a.npz")).image == image
    assert [name for name in named.NAMES if named.load(name).image] == ["digits"]


def test_an_npz_file_is_read(tmp_path):
    x, y = np.arange(12, dtype=np.float32).reshape(3, 2, 2), np.array([0, 1, 2])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    table = named.load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(table.x.values, x)
    np.testing.assert_array_equal(table.y, [[0], [1], [2]])
    assert table.features == ("x0", "x1", "x2", "x3")
    np.savez(tmp_path / "b.npz", x=x, y=np.array(["a", "b", "a"]))
    assert named.load(str(tmp_path / "b.npz")).y.tolist() == ["a", "b", "a"]
    np.savez(tmp_path / "c.npz", x=x, y=np.ones((3, 2)))
    assert named.load(str(tmp_path / "c.npz")).targets == ("y0", "y1")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 2))}, "has no array 'y'; expected x and y, got x"),
        ({"z": np.ones((3, 2))}, "has no array 'x'; expected x and y, got z"),
        ({"x": np.ones(3), "y": np.ones(3)}, "expected x of numbers, (examples, features), got float64 (3,)"),
        (
            {"x": np.array([["a", "b"]]), "y": np.ones(1)},
            "expected x of numbers, (examples, features), got <U1 (1, 2)",
        ),
        (
            {"x": np.ones((3, 2)), "y": np.ones(2)},
            "expected y of numbers or texts, (3,) or (3, targets), got float64 (2,)",
        ),
    ],
)
def test_a_broken_npz_file_is_named(arrays, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **arrays)
    assert refusal("a.npz") == f"--data a.npz: {message}"


def test_values_that_are_not_finite_are_named_in_an_npz_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=np.array([[1.0, 2.0], [3.0, np.nan]]), y=np.ones(2))
    assert refusal("a.npz") == "--data a.npz, x, row 2, column 2: expected a finite number, got nan"
    np.savez("a.npz", x=np.ones((2, 2)), y=np.array([1.0, np.inf]))
    assert refusal("a.npz") == "--data a.npz, y, row 2, column 1: expected a finite number, got inf"


def test_pickles_are_never_loaded(tmp_path, monkeypatch, write):
    np.savez(tmp_path / "a.npz", x=np.array([[object()]]), y=np.ones(1))
    assert refusal("a.npz") == (
        "--data a.npz: x holds Python objects, which only a pickle can, and pickles are not loaded; "
        "save it as numbers with x.astype(float)"
    )
    expected = "--data a.npz: expected a NumPy .npz archive of plain arrays x and y"
    np.savez(tmp_path / "a.npz", x=np.zeros(3, "O,f8"), y=np.ones(3))
    assert refusal("a.npz") == expected
    assert refusal(write("b.npz", "no archive")) == expected.replace("a.npz", "b.npz")
    np.save(tmp_path / "array.npy", np.ones((3, 2)))
    (tmp_path / "d.npz").write_bytes((tmp_path / "array.npy").read_bytes())
    assert refusal("d.npz") == expected.replace("a.npz", "d.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    assert refusal(write("c.npz", whole[: len(whole) // 2])) == expected.replace("a.npz", "c.npz")


@pytest.mark.parametrize(
    ("source", "targets", "message"),
    [
        ("missing.csv", (), "--data missing.csv: no such file or folder"),
        ("nowhere/a.npz", (), "--data nowhere/a.npz: no such file or folder"),
        ("a.npx", (), "--data a.npx: no such file or folder; did you mean a.npz?"),
        ("folder/x.np", (), "--data folder/x.np: no such file or folder; did you mean folder/x?"),
        (
            "digit",
            (),
            "--data digit: no such data set or file; did you mean digits?; expected a .csv, .tsv or .npz file, "
            "a folder with x.npy and y.npy, IDX files or images, or one of digits, breast_cancer, iris, wine, "
            "diabetes, linnerud, moons, circles, spirals",
        ),
        ("", (), "--data: expected a file, a folder, or one of " + ", ".join(named.NAMES) + "; got an empty name"),
        ("n" * 300, (), f"--data {'n' * 40}...: cannot be read (File name too long)"),
        ("a.txt", (), "--data a.txt: expected a .csv, .tsv or .npz file or a folder, got .txt"),
        ("digits", ("y",), "--target: is for .csv and .tsv files; digits has its own target"),
        ("a.npz", ("y",), "--target: is for .csv and .tsv files; a .npz file holds x and y"),
        ("folder", ("y",), "--target: is for .csv and .tsv files; a folder has its own targets"),
    ],
)
def test_a_wrong_source_is_named(source, targets, message, write):
    write("a.txt", "")
    write("a.npz", "")
    write("folder/x", "")
    assert refusal(source, targets) == message


@pytest.mark.parametrize("name", named.NAMES)
def test_every_shipped_data_set_loads(name):
    table = named.load(name)
    assert table.x.values.dtype == np.float64
    assert table.x.shape[1:] == ((8, 8) if name == "digits" else (len(table.features),))
    assert len(table.x) == len(table.y)
    assert len(table.features) == table.x.values[0].size
    assert np.isfinite(table.x.values).all()
    if table.y.ndim == 2:
        assert table.y.shape[1] == len(table.targets)


def test_promises_beyond_memory_are_refused_before_there_is_room_made_for_them(write, tmp_path, monkeypatch):
    def header(shape):
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        return file.getvalue()

    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header((10**9, 1000)))
        archive.writestr("y.npy", header((10**9,)))
    assert refusal("a.npz") == "--data a.npz: expected a NumPy .npz archive of plain arrays x and y"
    # What is there, and unpacks to more than the machine has.
    monkeypatch.setattr("jaxnet.experiment.devices.memory._physical", lambda: 2**20)
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((1000, 200)), y=np.zeros(1000))
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", None)
    remedy = "and this machine has 0; a folder with x.npy, and --stream, leaves them on disk"
    assert refusal("b.npz") == f"--data b.npz: (1000, 200) numbers take 0 GiB of memory, {remedy}"
    write("train-images", struct.pack(">4B3I", 0, 0, 8, 3, 1000, 20, 10) + bytes(200_000))
    write("train-labels", struct.pack(">4BI", 0, 0, 8, 1, 1000) + bytes(1000))
    assert refusal(".") == f"--data train-images: (1000, 20, 10) numbers take 0 GiB of memory, {remedy}"


def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")
    assert refusal("pipe.csv", ("y",)) == "--data pipe.csv: expected a file or a folder, got a device or a pipe"
    (tmp_path / "folder").mkdir()
    os.mkfifo("folder/x.npy")
    np.save(tmp_path / "folder" / "y.npy", np.zeros(3))
    assert refusal("folder") == "--data folder/x.npy: expected a whole NumPy .npy file of numbers"


def test_names_of_classes_are_texts_of_a_length_to_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = np.array(["cat", "dog"] * 5)
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 2)), y=texts.astype("U1001"))
    assert refusal("a.npz") == "--data a.npz: expected y of texts of at most 1000 characters, got <U1001"
    np.savez(tmp_path / "b.npz", x=np.zeros((10, 2)), y=np.full(10, 0xD800, np.uint32).view("U1"))
    assert refusal("b.npz") == "--data b.npz: expected y of texts in Unicode, got other characters"


def test_a_header_that_is_odd_is_refused_without_a_warning(tmp_path, monkeypatch):
    """A warning is an error while these tests run."""
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    np.save(file, np.zeros((4, 2)))
    # Python 2's long integers, of which NumPy warns.
    (tmp_path / "x.npy").write_bytes(file.getvalue().replace(b"(4, 2)", b"(4L,2)"))
    np.save(tmp_path / "y.npy", np.arange(4) % 2)
    assert named.load(".").x.shape == (4, 2)
